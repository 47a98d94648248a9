"""Measured results as Markdown, for the pages that `readme.py` fills and for what lies beside the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
INSTRUCTIONS = {"avx512": "AVX-512", "avx2": "AVX2"}  # of the two kinds of machine that were measured


def result(name: str) -> Any:
    """A committed JSON file, by its path from the project's root."""
    return json.loads((ROOT / name).read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [row_of(head), row_of(["---"] * len(head)), *map(row_of, rows)]


def row_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def ranged(values: dict[str, float], digits: int = 0) -> str:
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f} … {values['max']:.{digits}f})"


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, commit {machine['commit']}, {machine['date']}"
    )


def training_short() -> str:
    """Both machines side by side: images/s, and times (a)."""
    found = {name: result(f"{RESULTS}/training-{name}.json") for name in INSTRUCTIONS}
    titles = {
        key: f"{row['title']}{', bf16' if row['precision'] == 'bf16' and 'bf16' not in row['title'] else ''}"
        for training in found.values()
        for key, row in training["loops"].items()
    }
    rows = []
    for key, title in titles.items():
        cells = [title if not key.startswith("ours") else f"**{title}**"]
        for training in found.values():
            row = training["loops"].get(key)
            cells += [f"{row['images_per_second']['median']:.0f}", times(row, False)] if row else ["–", "–"]
        rows.append(cells)
    head = [""]
    for name in found:
        head += [f"{INSTRUCTIONS[name]}: images/s", "× (a)"]
    where = "; ".join(
        f"{INSTRUCTIONS[name]}: {machine_line(training['machine'])}, n = "
        f"{training['loops']['course']['images_per_second']['n']}"
        for name, training in found.items()
    )
    return "\n".join([*table(head, rows), "", where + "."])


def times(row: dict[str, Any], spread: bool = True) -> str:
    """How many times (a) a loop does, where their loss curves agree."""
    if row["to_course"] is None:
        return "curves differ"
    return ranged(row["to_course"], 2) if spread else f"{row['to_course']['median']:.2f}"


def training(name: str) -> str:
    """Everything that was measured on a machine."""
    found = result(f"{RESULTS}/training-{name}.json")
    rows = [
        (
            row["title"],
            row["precision"],
            ranged(row["images_per_second"]),
            times(row),
            f"{row['of_peak']:.0%}",
            f"{row['loss_difference']:.1%} (allowed {row['loss_difference_allowed']:.1%})",
            f"{row['start_seconds']:.1f} s" if "start_seconds" in row else "–",
        )
        for row in found["loops"].values()
    ]
    head = (
        "loop", "precision", "images/s", "times (a)", "of a matrix product", "loss curve off by", "start",
    )  # fmt: skip
    peaks = " and ".join(
        f"{ranged(peak)} GFLOP/s in {p}" for p, peak in sorted(found["peak_gflops"].items(), reverse=True)
    )
    count = found["loops"]["course"]["images_per_second"]["n"]
    lines = [
        f"Median (least … most) of {count} rounds. The matrix product reaches {peaks}; an image takes "
        f"{found['gflop_per_image']:.3f} GFLOP.",
        machine_line(found["machine"]) + ".",
    ]
    if found["left_out"]:
        lines.insert(1, f"bf16 is left out: {found['left_out']}.")
    return "\n".join([*table(head, rows), "", *lines])


def profile(name: str) -> str:
    """Where the time of a step goes."""
    found = result(f"{RESULTS}/step_profile-{name}.json")
    steps = found["steps"]
    operations = list(dict.fromkeys(key for step in steps.values() for key in step["shares"]))
    rows = [
        (operation, *(f"{100 * step['shares'].get(operation, 0):.1f} %" for step in steps.values()))
        for operation in operations
    ]
    rows += [
        ("**a step**", *(f"{ranged(step['step_ms'])} ms" for step in steps.values())),
        (
            "rate within the convolutions",
            *(f"{step['gflops_within_convolutions']:.0f} GFLOP/s" for step in steps.values()),
        ),
    ]
    alone = [
        (
            precision,
            f"{row['size']}×{row['size']}",
            *(f"{row[kind]:.0f}" for kind in ("forward", "of_input", "of_weight")),
        )
        for precision, sizes in found["convolutions_alone"].items()
        for row in sizes
    ]
    flushed, kept = (ranged(found["vanishing_step_ms"][mode], 1) for mode in ("flushed", "kept"))
    lines = [
        *table((f"one thread, {INSTRUCTIONS[name]}", *steps), rows),
        "",
        "A 3×3 convolution of 32 channels alone, operands in the cache, GFLOP/s:",
        "",
        *table(("", "image", "forward", "of the input", "of the weight"), alone),
        "",
        f"A step of VGG38 without BatchNorm, gradients vanishing: {flushed} ms with denormals flushed, "
        f"{kept} ms with denormals kept.",
        machine_line(found["machine"]) + ".",
    ]
    return "\n".join(lines)


def quick_profile() -> str:
    """What the quick study computes, and where the time of its largest pack goes."""
    found = result(f"{RESULTS}/quick_profile.json")
    rows = [(name, f"{100 * share:.1f} %") for name, share in found["shares"].items()]
    rows += [
        ("**a step**", f"{ranged(found['step_ms'])} ms"),
        ("its rate", f"{found['gflops']:.0f} GFLOP/s"),
        ("rate within the convolutions", f"{found['gflops_within_convolutions']:.0f} GFLOP/s"),
        ("a product of large matrices", f"{found['matrix_product_gflops']:.0f} GFLOP/s"),
        ("what 120 s would want of both cores", f"{found['gflops_of_a_core_in_short']:.0f} GFLOP/s each"),
    ]
    return "\n".join(
        [
            *table(("one core", f"{found['pack']} runs of VGG38 + BatchNorm as one network"), rows),
            "",
            f"The steps of all {found['runs']} runs, {found['epochs']} epochs each, are "
            f"{found['training_flop'] / 1e12:.1f} TFLOP; {machine_line(found['machine'])}.",
        ]
    )


def growth(name: str) -> str:
    """Rates and memory as the work grows."""
    found = result(f"{RESULTS}/growth-{name}.json")
    rows = [
        (
            point["axis"],
            str(point["value"]),
            ranged(point["images_per_second"]),
            f"{point['images_per_second']['median'] * point['gflop_per_image']:.0f}",
            f"{point['memory_gib']:.2f}",
            f"{point['estimated_gib']:.2f}",
        )
        for point in found["points"]
    ]
    head = ("", "", "images/s", "GFLOP/s", "GiB held by a run", "GiB estimated")
    rounds = found["points"][0]["images_per_second"]["n"]
    return "\n".join(
        [
            *table(head, rows),
            "",
            f"Median (least … most) of {rounds} rounds; {machine_line(found['machine'])}.",
        ]
    )


def precision() -> str:
    """What bf16 changed of the results."""
    found = result(f"{RESULTS}/precision_effect.json")
    titles = {"vgg08": "VGG08", "vgg38": "VGG38", "vgg38-bn": "VGG38 + BatchNorm"}
    rows = []
    for role, values in found["roles"].items():
        loss, accuracy = (values[f"last_{what}_bf16_less_fp32"] for what in ("loss", "valid_accuracy"))
        rows.append(
            (
                titles[role],
                f"{loss['mean']:+.3f} ({loss['low']:+.3f} … {loss['high']:+.3f})",
                f"{values['last_loss_seed_to_seed']:.3f}",
                f"{accuracy['mean']:+.3f} ({accuracy['low']:+.3f} … {accuracy['high']:+.3f})",
            )
        )
    head = (
        "", "train loss, bf16 less fp32", "from seed to seed", "validation accuracy, bf16 less fp32",
    )  # fmt: skip
    how = "bf16 by the processor's own instructions" if not found["emulated"] else "bf16 emulated in fp32"
    where = machine_line(found["machine"])
    return "\n".join(
        [*table(head, rows), "", f"Mean and 95 % interval over {found['seeds']} seeds, {how}; {where}."]
    )


def curvature() -> str:
    """What a Hessian-vector product costs, in seconds and in gradients."""
    found = result(f"{RESULTS}/curvature_cost.json")
    networks = {name: network["products"] for name, network in found["networks"].items()}
    ways = list(next(iter(networks.values()))["seconds"])
    rows = []
    for way in ways:
        cells = []
        for products in networks.values():
            seconds = products["seconds"]
            share = seconds[way]["median"] / seconds[ways[0]]["median"]
            cells += [f"{ranged(seconds[way], 2)} s", f"{share:.2f}"]
        rows.append((way, *cells))
    head = ("", *(text for name in networks for text in (name, "in gradients")))
    counts = {products["seconds"][ways[0]]["n"] for products in networks.values()}
    many = f"n = {', '.join(map(str, sorted(counts)))}, interleaved"
    return "\n".join([*table(head, rows), "", f"{many}; {machine_line(found['machine'])}."])


def curvature_tasks() -> str:
    """Eigenvalues and a density, by each package: how long, with how many products, how exactly."""
    found = result(f"{RESULTS}/curvature_cost.json")
    rows = []
    for name, network in found["networks"].items():
        for package, top in network["eigenvalues"].items():
            density = network["density"][package]
            exact = f"{top['residual']:.0e}" if "residual" in top else "–"
            rows.append((name, package, task(top), exact, task(density)))
    head = ("", "", "5 largest eigenvalues", "residual", "density of 80 steps")
    return "\n".join([*table(head, rows), "", f"n = 1; {machine_line(found['machine'])}."])


def curvature_profile() -> str:
    """What a product's time goes into."""
    found = result(f"{RESULTS}/curvature_cost.json")
    rows = []
    for name, network in found["networks"].items():
        profile, seconds = network["profile"], network["products"]["seconds"]
        operations = profile["operations"]
        rows.append(
            (
                name,
                f"{operations['product'] / operations['gradient']:.2f}",
                f"{seconds['gradscape']['median'] / seconds['gradient, ours']['median']:.2f}",
                f"{100 * profile['convolutions']:.0f} %",
                *(
                    f"{operations[what] / seconds[way]['median'] / 1e9:.0f} GFLOP/s"
                    for what, way in (("gradient", "gradient, ours"), ("product", "gradscape"))
                ),
            )
        )
    head = (
        "", "a product's arithmetic, in gradients", "its time, in ours", "of it in convolutions",
        "rate of our gradient", "of the product",
    )  # fmt: skip
    return "\n".join([*table(head, rows), "", f"{machine_line(found['machine'])}."])


def task(measured: dict[str, Any]) -> str:
    """Seconds and products, or why it came to nothing."""
    if "failed" in measured:
        return str(measured["failed"]).split(":")[0]
    products = f", {measured['products']} products" if "products" in measured else ""
    return f"{duration(measured['seconds'])}{products}"


def smoothness_cost() -> str:
    """What a measure of smoothness takes, and adds to a run."""
    found = result(f"{RESULTS}/smoothness_cost.json")
    rows = [
        (
            name,
            f"{1e3 * case['step_seconds']['median']:.0f} ms",
            *(f"{ranged(case['steps'][along], 2)}" for along in ("gradient", "step")),
            f"{ranged(case['added_percent'], 1)} %",
        )
        for name, case in found["cases"].items()
    ]
    head = (
        "VGG38 + BatchNorm", "a step", "a measure along the gradient, in steps", "along the real step",
        f"added to a run, every {found['every']} steps",
    )  # fmt: skip
    counts = {case["step_seconds"]["n"] for case in found["cases"].values()}
    many = f"n = {', '.join(map(str, sorted(counts)))}, interleaved"
    return "\n".join([*table(head, rows), "", f"{many}; {machine_line(found['machine'])}."])


def packed() -> str:
    """Seconds of a run, one after the other and as one network."""
    found = result(f"{RESULTS}/packed.json")
    kinds = {
        "clock": "whole runs, by the clock",
        "processor": "whole runs, processor's time",
        "steps": "their training steps, by the clock",
    }
    rows = [
        (
            words,
            *(f"{ranged(found[way][kind], 1)} s" for way in ("alone", "together")),
            ranged(found["times"][kind], 1),
        )
        for kind, words in kinds.items()
    ]
    head = (f"a run, of {found['runs']}", "one after the other", "as one network", "times as fast")
    rounds = found["times"]["clock"]["n"]
    return "\n".join(
        [*table(head, rows), "", f"n = {rounds}, interleaved; {machine_line(found['machine'])}."]
    )


def landscape_rates() -> str:
    """Points a second beside another package's."""
    found = result(f"{RESULTS}/landscape_cost.json")
    plain, kept = found["points_per_second"], found["memory_kept"]
    rows = [(name, *(cell for rates in (plain, kept) for cell in beside(rates, name))) for name in plain]
    networks = found["bf16"]["networks"].values()
    typical, worst = (100 * max(one[name] for one in networks) for name in ("median", "worst"))
    error = (
        f"Around trained networks bf16 is off by {typical:.2g} % (median of a plane) to {worst:.2g} % "
        f"(worst); {machine_line(found['machines']['bf16'])}."
    )
    counts = sorted({rate["n"] for rate in plain.values()})
    where = f"n = {', '.join(map(str, counts))}, interleaved; {machine_line(found['machines']['kept'])}."
    head = ("", "points a second", "so", "where memory is kept", "so")
    return "\n".join([*table(head, rows), "", where, error])


def beside(rates: dict[str, Any], name: str) -> tuple[str, str]:
    """A rate, and how many times loss-landscapes' it is."""
    times = rates[name]["median"] / rates["loss-landscapes"]["median"]
    return ranged(rates[name], 2), f"{times:.1f}×"


def landscape_profile() -> str:
    """Where a point's time goes, and the rate of its arithmetic beside a matrix product's."""
    found = result(f"{RESULTS}/landscape_cost.json")
    rows = [
        (
            name,
            f"{one['point_gflops']:.0f} GFLOP/s",
            f"{100 * one['convolutions']:.0f} %",
            f"{one['point_gflops'] / one['convolutions']:.0f} GFLOP/s",
            f"{one['product_gflops']:.0f} GFLOP/s",
        )
        for name, one in found["profile"].items()
    ]
    head = (
        "one core", "a point's arithmetic", "of its time in convolutions", "their rate", "a matrix product's"
    )  # fmt: skip
    return "\n".join([*table(head, rows), "", machine_line(found["machines"]["profile"]) + "."])


def landscape_surfaces() -> str:
    """What a refined grid saves, and how far it is from the whole one."""
    found = result(f"{RESULTS}/landscape_cost.json")
    surfaces = found["surfaces"]
    rows = [
        (
            ROLES[role.split(", ")[0]],
            role.split(", ")[1],
            *(f"{one[f'{way}seconds']:.0f} s" for way in ("", "bf16_", "refined_")),
            f"{one['evaluations']:,} of {one['points']:,}: {one['points'] / one['evaluations']:.1f}× fewer",
            f"{100 * one['typical']:.2g} % ({100 * one['worst']:.2g} %)",
            "–" if one["sampling_error"] is None else f"{100 * one['sampling_error']:.2g} %",
        )
        for role, one in surfaces["networks"].items()
    ]
    size = f"{surfaces['points']}×{surfaces['points']}"
    head = (
        f"{size}, {surfaces['images']} images", "BatchNorm", "all points", "in bf16",
        f"`accuracy={surfaces['asked']}`", "points", "off by (worst)", "sampling error",
    )  # fmt: skip
    return "\n".join([*table(head, rows), "", f"n = 1; {machine_line(found['machines']['surfaces'])}."])


ROLES = {
    "vgg08": "VGG08",
    "vgg38": "VGG38",
    "vgg38-bn": "VGG38 + BatchNorm",
    "vgg38-he": "VGG38, He initialization",
}


def watch_cost() -> str:
    """What watching costs a step."""
    found = result(f"{RESULTS}/watch_cost.json")
    ways = list(next(iter(found["networks"].values()))["ways"])
    rows = [
        (
            f"{name}, {network['parameters'] / 1e6:.1f} million parameters",
            f"{ranged(network['ways'][ways[0]]['step_ms'])} ms",
            *(f"{network['ways'][way]['added_percent']:+.1f} %" for way in ways[1:]),
        )
        for name, network in found["networks"].items()
    ]
    head = ("", "a step", *ways[1:])
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])
