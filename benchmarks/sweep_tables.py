"""Tables of how sweeps grow and what they survive, from the committed JSON."""

from __future__ import annotations

from study_tables import provenance, read
from tables import RESULTS, machine_line, result, table

EXAMPLE = "sweep-depth-and-norm-digits"
NORMS = "sweep-norms-digits"

WHAT = {
    "none": "none",
    "worker killed": "a worker killed",
    "worker hung": "a worker stopped",
    "worker out of memory": "a worker refused memory",
    "command killed": "the command and all its workers killed",
    "disk full": "no room for a checkpoint",
    "a run that cannot be": "a run that cannot be written, put right later",
    "two commands, one killed": "two commands on one folder, one killed half-way",
    "a node of a Ray cluster lost": "a node of a Ray cluster of two lost half-way",
}


def degradation() -> str:
    """Final accuracies of the degradation experiment's points."""
    folder = "sweep-degradation-digits"
    rows = [
        (FAMILIES[point["net.family"]], point["net.depth"], point["acc train"], point["acc valid"])
        for point in read(folder, 1)
    ]
    return "\n".join([*table(("", "depth", "acc train", "acc valid"), rows), "", provenance(folder)])


FAMILIES = {"plain": "plain", "resnet": "ResNet"}


def faults() -> str:
    found = result(f"{RESULTS}/faults.json")
    rows = [
        (
            WHAT[name],
            f"{each['faults']}",
            f"{each['finished']} of {each['runs']}",
            f"{each['repeated']}",
            f"{each['epochs_twice']}",
            f"{each['different']}",
            f"{each['commands']}",
        )
        for name, each in found["faults"].items()
    ]
    head = (
        "fault",
        "times",
        "runs finished",
        "finished ones repeated",
        "epochs repeated by one, at most",
        "runs with other weights",
        "commands given",
    )
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])


def integrity() -> str:
    found = result(f"{RESULTS}/integrity.json")
    kills, harms = found["kills"], found["harms"]
    rows = [
        (
            f"killed while it writes checkpoints of {found['checkpoint_bytes'] / 1e6:.1f} MB",
            f"{kills['kills']}",
            f"runs that could not go on: {kills['unusable']}; "
            f"epochs lost at most: {kills['epochs_lost_at_most']}",
        ),
        *(
            (
                f"a bit of {what} flipped, or its end cut off",
                f"{harms[kind]['harms']}",
                f"unnoticed: {harms[kind]['unnoticed']}; gone on from the checkpoint before: "
                f"{harms[kind]['earlier_used']}; begun anew: {harms[kind]['nothing_left']}",
            )
            for kind, what in (("checkpoint", "the newest checkpoint"), ("metrics", "the metrics"))
        ),
    ]
    return "\n".join([*table(("harm", "times", "found"), rows), "", machine_line(found["machine"]) + "."])


def integrity_others() -> str:
    found = result(f"{RESULTS}/integrity_others.json")
    rows = [
        (f"`{name}`", f"{each['harms']}", f"{each['unnoticed']}") for name, each in found["others"].items()
    ]
    head = ("a bit flipped, or the end cut off, of", "times", "unnoticed")
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])


def growth() -> str:
    found = result(f"{RESULTS}/sweep_growth.json")
    rows = [
        (
            f"{point['runs']:,}",
            f"{point['overhead_ms']:.2f} ms",
            f"{point['submit_ms']:.3f} ms",
            f"{1_024 * point['driver_gib']:.0f} MiB",
            f"{point['open_seconds']:.1f} s, {point['open_gib']:.2f} GiB",
            f"{point['runs_seconds']:.1f} s",
            f"{point['report_seconds']:.1f} s, {point['report_gib']:.2f} GiB",
        )
        for point in found["points"]
    ]
    head = (
        "runs",
        "overhead of each",
        "to submit it",
        "the command's memory",
        "`gradscape.load`",
        "`gradscape runs`",
        "`gradscape report`",
    )
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])


def norms() -> str:
    """The points of the sweep that is written in Python: a row per learning rate."""
    points = read(NORMS, 1)
    by = {(point["optim.lr"], point["net.norm"]): point["acc valid"] for point in points}
    rows = [(rate, by[rate, "none"], by[rate, "batch"]) for rate in dict.fromkeys(rate for rate, _ in by)]
    return "\n".join([*table(("learning rate", "without BatchNorm", "with"), rows), "", provenance(NORMS)])


def example() -> str:
    """The points of the example, each with what its comparison of BatchNorm with none says."""
    points, comparisons = (read(EXAMPLE, number) for number in (1, 2))
    rows = []
    for depth in dict.fromkeys(point["net.depth"] for point in points):
        by = {point["net.norm"]: point for point in points if point["net.depth"] == depth}
        found = next(
            each for each in comparisons if each["axis"] == "net.norm" and each["at"] == f"depth {depth}"
        )
        difference = f"{found['difference']} ({found['95 % interval']})"
        rows.append(
            (
                depth,
                by["none"]["acc valid"],
                by["batch"]["acc valid"],
                difference.removesuffix(" (–)"),
                found["d_z"],
                found["verdict"],
                found["after Holm"],
            )
        )
    head = ("depth", "without BatchNorm", "with", "difference (95 %)", "d_z", "verdict", "after Holm")
    return "\n".join([*table(head, rows), "", provenance(EXAMPLE)])
