"""The public failures as Markdown: which survive, what is found of them, by us and by others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tables import RESULTS, machine_line, result, table

SETS = {
    "deepmufl": "deepmufl's 109 (Ghanbari et al. 2023)",
    "deepfd": "DeepFD's, beyond those (Cao et al. 2022)",
    "emse": "of the EMSE study (Humbatova et al. 2025)",
    "deepchecker": "TheDeepChecker's synthetic faults (Ben Braiek & Khomh 2023)",
    "tracker": "issues and pull requests, found blind",
    "transformer": "transformer fault operators",
    "traincheck": "TrainCheck's user-code errors (Jiang et al. 2025)",
    "report": "reports of PyTorch users",
    "script": "failing PyTorch scripts",
    "forum": "fresh reports from forums and trackers",
}
MARKS = ("detected", "right kind, any finding", "right kind, first finding", "right place")
HEAD = (
    "", "cases", "detected", "right kind of cause", "of the first finding", "right place",
    "twins called ill (fail)", "twins told of anything", "seconds",
)  # fmt: skip


def survivors() -> str:
    """How many cases of each set are worse than their repaired twins beyond the noise of seeds."""
    found = result(f"{RESULTS}/public_failures.json")
    counts: dict[str, Counter[bool]] = {name: Counter() for name in SETS}
    for case, each in found["survivors"].items():
        counts[case.partition("/")[0]][each["survives"]] += 1
    seeds = sorted({n for each in found["survivors"].values() for n in each["n"]})
    rows = [
        (text, f"{counts[name].total()}", f"{counts[name][True]}")
        for name, text in SETS.items()
        if counts[name]
    ]
    total = sum((each for each in counts.values()), Counter())
    rows.append(("all", f"{total.total()}", f"{total[True]}"))
    lost = sorted(case for case, each in found["survivors"].items() if not each["survives"])
    return "\n".join(
        [
            *table(("set", "rebuilt", "survive"), rows),
            "",
            f"Seeds of each training: {' … '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}. "
            f"Those that do not survive: {', '.join(lost)}.",
        ]
    )


def scores() -> str:
    """What gradscape says of the cases that survive, and of their twins."""
    ours = result(f"{RESULTS}/public_scores.json")
    rows = [
        row_of(f"{how}; half {half}", by_half[half])
        for half in ("looked at", "held out")
        for how, by_half in ours["scores"].items()
    ]
    return "\n".join([*table(HEAD, rows), "", f"{machine_line(ours['machine'])}."])


def row_of(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{found['cases']}",
        *(percent(found[mark]) for mark in MARKS),
        percent(found["twins graded fail"]),
        percent(found["twins told of anything"]),
        f"{found['seconds, median']:.1f}",
    )


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def headline() -> str:
    """One line for the first screen of README."""
    ours = result(f"{RESULTS}/public_scores.json")["scores"]
    watch, joined = ours["watch"]["held out"], ours["check and watch"]["held out"]
    return (
        f"Of {watch['cases']} public training failures that no limit was set on, a check and a watch detect "
        f"{percent(joined['detected'])} and name the right kind of cause in "
        f"{percent(joined['right kind, any finding'])} (a watch alone {percent(watch['detected'])} and "
        f"{percent(watch['right kind, any finding'])}); they call "
        f"{percent(joined['twins graded fail'])} of the repaired twins ill ([how](docs/failures.md))."
    )
