"""The accuracy of verdicts as Markdown, for the pages that `readme.py` fills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from tables import RESULTS, machine_line, result, table

VERDICT_DRAWS = (3, 4)  # of the networks; limits were set on the families looked at


HEAD = (
    "", "rule", "right", "sensitivity", "specificity", "false alarms", "missed, of which on their way",
)  # fmt: skip
GRADES = {"gradscape": "grade", "gradscape, activations too": "grade_with_activations"}


def verdicts() -> str:
    """How often a verdict was right, beside simpler rules, over draws of networks."""
    draws = [result(f"{RESULTS}/verdicts-{number}.json") for number in VERDICT_DRAWS]
    rows = []
    for half, by_rule in draws[0]["scores"].items():
        of_half = [
            row
            for draw in draws
            for row in draw["networks"]
            if (row["family"] in draw["held_out"]) == (half == "held out")
        ]
        for rule in by_rule:
            scores = [draw["scores"][half][rule] for draw in draws]
            rows.append(verdict_row(f"families {half}", rule, scores, of_half))
    machines = "; ".join(dict.fromkeys(machine_line(draw["machine"]) for draw in draws))
    return "\n".join([*table(HEAD, rows), "", machines + "."])


def unseen() -> str:
    """The same on networks whose levels no draw has: all by every rule, and each kind by ours."""
    found = result(f"{RESULTS}/verdicts-unseen.json")
    rows = [
        verdict_row("all", rule, [score], found["networks"]) for rule, score in found["scores"]["all"].items()
    ]
    for kind, by_rule in found["scores"].items():
        of_kind = [row for row in found["networks"] if row["case"]["kind"] == kind]
        rows += [verdict_row(kind, rule, [by_rule[rule]], of_kind) for rule in GRADES if of_kind]
    return "\n".join([*table(HEAD, rows), "", machine_line(found["machine"]) + "."])


def verdict_row(
    which: str, rule: str, scores: Sequence[dict[str, Any]], networks: Sequence[dict[str, Any]]
) -> tuple[str, ...]:
    total, ill, alarms, missed = (
        sum(score[key] for score in scores) for key in ("networks", "do_not_train", "false_alarms", "missed")
    )
    low, high = wilson(total - alarms - missed, total)
    right = f"{100 * (1 - (alarms + missed) / total):.1f} % ({100 * low:.0f} … {100 * high:.0f})"
    what = f"{which}: {total} networks, {ill} do not train"
    shares = (f"{100 * (1 - wrong / of):.0f} %" for wrong, of in ((missed, ill), (alarms, total - ill)))
    return what, rule, right, *shares, str(alarms), f"{missed}{on_their_way(networks, rule)}"


def on_their_way(networks: Sequence[dict[str, Any]], rule: str) -> str:
    """Of the missed those that ended below nine tenths of guessing's loss; unknown of rules not kept."""
    if rule not in GRADES:
        return ""
    missed = [row for row in networks if not row["trains"] and row[GRADES[rule]] != "fail"]
    return f", {sum(row['losses'][-1] < 0.9 * math.log(10) for row in missed)}"


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return middle - half, middle + half


def healthy() -> str:
    """False alarms on trainings that are well, by half, after each number of steps, and of a check before."""
    found = result(f"{RESULTS}/healthy.json")
    rows = []
    for half, score in found["scores"].items():
        alarms, check = score["false_alarms"], found["checks"][half]
        asked = [how for how in alarms if "," not in how]
        total, wrong = score["healthy"] * len(asked), sum(alarms[how] for how in asked)
        high = 100 * wilson(wrong, total)[1]
        rows.append(
            (
                f"families {half}: {score['healthy']} trainings of {score['models']} networks",
                *(f"{alarms[how]}, {alarms[f'{how}, activations too']}" for how in asked),
                f"{100 * wrong / total:.1f} % (at most {high:.1f})",
                f"{check['false_alarms']} of {check['networks']}",
            )
        )
    head = ("", "after 10 steps", "after 50", "after 150", "share of verdicts", "`gs.check`")
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return "\n".join([*table(head, rows), "", f"{machine_line(found['machine'])}; {packages}."])


def ceiling() -> str:
    """How often a classifier is right that learnt from everything that was seen."""
    found = result(f"{RESULTS}/verdict_ceiling.json")
    rows = [
        (
            known,
            f"{100 * median(one['right'] for one in tries):.1f} %",
            str(round(median(one["false_alarms"] for one in tries))),
            str(round(median(one["missed"] for one in tries))),
        )
        for known, tries in found["judged"].items()
    ]
    head = ("a classifier that has learned from", "right on families held out", "false alarms", "missed")
    return "\n".join([*table(head, rows), "", machine_line(found["machine"]) + "."])
