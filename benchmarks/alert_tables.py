"""What alerts do to healthy and failing trainings, as a table of docs/seeing.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from tables import RESULTS, machine_line, result, table

GROUPS = {
    "healthy": "small networks of many kinds that learn, AdamW, 400 steps",
    "failing": "trainings that fail, rebuilt from public reports",
    "repaired": "their repaired twins, 600 steps at most",
}


def alerts() -> str:
    found = result(f"{RESULTS}/alerts.json")
    rows = [
        (
            words,
            str(scores["trainings"]),
            str(scores["diagnoses"]),
            str(scores["fail"]),
            str(scores["warn"]),
        )
        for name, words in GROUPS.items()
        for scores in [found["scores"][name]]
    ]
    head = ("trainings", "n", "diagnoses", "told a fail", "would be told a warning")
    return "\n".join([*table(head, rows), "", f"{_when(found['failing'])} {machine_line(found['machine'])}."])


def _when(failing: list[dict[str, Any]]) -> str:
    """Say when the failing ones were told of."""
    steps = sorted(
        min(each["step"] for each in row["told"] if each["grade"] == "fail")
        for row in failing
        if any(each["grade"] == "fail" for each in row["told"])
    )
    middle = f"at step {median(steps):g} in the median"
    return f"The failing ones were told of {middle}, at step {steps[-1]} the last."
