"""Verdicts kept under `results/` follow from the numbers kept beside them, by today's rules."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from gradscape.analysis.claims import Claim, Evidence, above, below, equivalent
from gradscape.stats.student_t import student_t

KEPT = sorted((Path(__file__).parents[2] / "results").glob("*/claims.json"))
RULES = {"above": above, "below": below, "within ±": equivalent}
RULE = re.compile(r"the 95 % interval over seeds lies (above|below|within ±) (\S+)")
OPEN = ("undecided", "not testable")


def deviation(interval: dict[str, Any]) -> float:
    """The standard deviation that equal values were given, which the width of their interval tells; or 0."""
    if interval["high"] is None:
        return 0.0
    return (interval["high"] - interval["mean"]) * math.sqrt(interval["n"]) / student_t(interval["n"] - 1)


def judged_again(part: dict[str, Any]) -> Evidence:
    """Judge a part's kept numbers by its rule; what no rule decides keeps its verdict and its reason."""
    rule = RULE.fullmatch(part["rule"])
    values = {number["seed"]: number["value"] for number in part["numbers"]}
    if rule is None:
        return Evidence(part["measured"], part["rule"], (), None, part["verdict"], part["reason"], part["p"])
    known = {"alike": deviation(part["interval"])} if len(set(values.values())) == 1 < len(values) else {}
    again = RULES[rule[1]](part["measured"], values, float(rule[2]), **known)
    if part["p"] is None and part["verdict"] in OPEN:  # seeds of both kinds, runs missing, or a guessing run
        return Evidence(
            part["measured"], part["rule"], again.numbers, again.interval, part["verdict"], part["reason"]
        )
    return again


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_kept_verdicts_follow_from_the_kept_numbers(path: Path) -> None:
    for kept in json.loads(path.read_text(encoding="utf-8"))["claims"]:
        texts = (kept[name] for name in ("id", "title", "text", "where"))
        parts = tuple(judged_again(part) for part in kept["parts"])
        again = Claim(*texts, parts, kept["note"])
        assert again.verdict == kept["verdict"], kept["id"]
        if again.verdict == "not testable":
            assert again.reason == kept["reason"]
        for part, old in zip(again.parts, kept["parts"], strict=True):
            assert part.verdict == old["verdict"], (kept["id"], old["measured"])
            assert part.p == (None if old["p"] is None else pytest.approx(old["p"]))
            if old["interval"] and part.interval:
                low, high = old["interval"]["low"], old["interval"]["high"]
                assert (part.interval.low, part.interval.high) == pytest.approx((low, high))
