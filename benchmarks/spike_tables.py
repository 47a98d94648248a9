"""What is called a loss spike, and whom a replay blames, as a table of docs/seeing.md."""

from __future__ import annotations

from tables import RESULTS, machine_line, result, table

FAULTS = {
    "labels": "labels of one batch shuffled",
    "inputs": "inputs of one batch 1,000 times as large",
    "rate": "learning rate 100 times as large",
    "nothing": "nothing wrong",
}


def spikes() -> str:
    found = result(f"{RESULTS}/spikes.json")
    seen, noise, replay = found["trainings"], found["noise"], found["replay"]
    count = seen["trainings"]
    rows = [
        (f"{count} trainings of benchmarks/healthy.py, with a spike", str(seen["with a spike as they are"]))
    ]
    rows += [
        (f"one late loss of each made {factor} times as high, found", f"{100 * number / count:.0f} %")
        for factor, number in seen["found of one loss times"].items()
    ]
    rows += [
        (
            f"noise of {noise['steps']:,} steps without a spike, {name}: with one",
            f"{number} of {noise['draws']}",
        )
        for name, number in noise["with a spike"].items()
    ]
    rows += [
        (
            f"replay, {what}: verdict, of {replay['seeds']}",
            ", ".join(f"{verdict} {n}" for verdict, n in replay["verdicts"][fault].items()),
        )
        for fault, what in FAULTS.items()
    ]
    rows += [
        (f"keeping a batch's fingerprint, a step of {what}", f"{spent:.0f} µs")
        for what, spent in found["microseconds a step"].items()
    ]
    return "\n".join([*table(("what", ""), rows), "", f"{machine_line(found['machine'])}."])
