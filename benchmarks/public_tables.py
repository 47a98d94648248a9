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
HALVES = {"looked at": "half looked at", "held out": "half held out", "fresh": "fresh sets"}
BOTH = "check and watch"
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
            f"Seeds of each training: {' … '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}.",
            "",
            f"<details><summary>The {len(lost)} that do not survive</summary>",
            "",
            f"{', '.join(lost)}.",
            "",
            "</details>",
        ]
    )


def scores() -> str:
    """What gradscape says of the cases that survive, and of their twins; and what it first said."""
    ours, first = (result(f"{RESULTS}/{name}.json") for name in ("public_scores", "public_scores_first"))
    rows = [
        row_of(f"{how}; {title}", by_half[half])
        for half, title in HALVES.items()
        for how, by_half in ours["scores"].items()
    ]
    rows += [
        row_of(f"{BOTH}; {HALVES[half]}, first run", first["scores"][BOTH][half])
        for half in ("held out", "fresh")
    ]
    both = f"{machine_line(ours['machine'])}; first run: commit {first['machine']['commit']}."
    return "\n".join([*table(HEAD, rows), "", both])


def row_of(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{found['cases']}",
        *(percent(found[mark]) for mark in MARKS),
        percent(found["twins graded fail"]),
        percent(found["twins told of anything"]),
        seconds(found),
    )


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def rivals() -> str:
    """What other living tools say of the half held out, beside ours."""
    found = result(f"{RESULTS}/public_rivals.json")
    ours = result(f"{RESULTS}/public_scores.json")["scores"][BOTH]["held out"]
    rows = [
        (*row_of(f"{tool} {each['version']}", half)[:-1], f"{half['could not run, cases']}", seconds(half))
        for tool, each in found["tools"].items()
        if (half := each["halves"].get("held out"))
    ]
    rows.sort(key=lambda row: -float(row[3].split()[0]))
    own = row_of(f"**gradscape, {BOTH}**", ours)
    head = (*HEAD[:-1], "cases it cannot run on", HEAD[-1])
    rows = [(*own[:-1], "0", seconds(ours)), *rows]
    return "\n".join([*table(head, rows), "", " ".join(judged_on(found))])


def judged_on(found: dict[str, Any]) -> list[str]:
    """Where tools were judged: the table's machine, and the tools that name one of their own."""
    elsewhere: dict[str, list[str]] = {}
    for tool, each in found["tools"].items():
        if "machine" in each:
            elsewhere.setdefault(machine_line(each["machine"]), []).append(tool)
    others = [f"{' and '.join(tools)}: {line}." for line, tools in elsewhere.items()]
    return [f"{machine_line(found['machine'])}.", *others]


def seconds(found: dict[str, Any]) -> str:
    return f"{found['seconds, median']:.1f}"


def published() -> str:
    """Published marks of tools for Keras, on deepmufl's programs, beside ours on their rebuilds."""
    found = result(f"{RESULTS}/public_rivals.json")["published"]["deepmufl"]
    rows = [(tool, f"{each['detected']}", f"{each['held out']}") for tool, each in found["tools"].items()]
    heads = ("", f"detected, of {found['cases']}", f"of the {found['held out']} held out that count here")
    return "\n".join(table(heads, rows))
