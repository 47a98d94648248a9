import json
import math

import pytest

from gradscape.report.claims import (
    ONE_SEED,
    Claim,
    Evidence,
    Verdict,
    above,
    below,
    differences,
    equivalent,
    within,
)

SEEDS = {0: 0.47, 1: 0.48, 2: 0.49}  # 95 % interval 0.4552 to 0.5048


@pytest.mark.parametrize(
    ("threshold", "over", "under"),
    [
        (0.455, "holds", "does not hold"),
        (0.456, "undecided", "undecided"),
        (0.504, "undecided", "undecided"),
        (0.505, "does not hold", "holds"),
    ],
)
def test_above_and_below_compare_the_interval(threshold: float, over: Verdict, under: Verdict) -> None:
    assert above("x", SEEDS, threshold).verdict == over
    assert below("x", SEEDS, threshold).verdict == under


def test_touching_is_not_above() -> None:
    same = {0: 0.02, 1: 0.02}
    assert above("x", same, 0.02).verdict == "does not hold"
    assert below("x", same, 0.02).verdict == "does not hold"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({0: 0.001, 1: 0.002, 2: 0.003}, "holds"),
        ({0: 0.0, 1: 0.01, 2: 0.02}, "undecided"),
        ({0: 0.05, 1: 0.051, 2: 0.052}, "does not hold"),
        ({0: -0.05, 1: -0.051, 2: -0.052}, "does not hold"),
        ({0: 0.02, 1: 0.02}, "holds"),
    ],
)
def test_equivalent_wants_the_whole_interval_within_the_margin(
    values: dict[int, float], verdict: Verdict
) -> None:
    assert equivalent("x", values, 0.02).verdict == verdict


@pytest.mark.parametrize(
    ("values", "verdict", "reason"),
    [
        ({0: [1e-4, 0.1], 1: [0.01]}, "holds", "2 of 2 seeds in [0.0001, 0.1]"),
        ({0: [1e-5, 0.1], 1: [0.01]}, "undecided", "1 of 2 seeds in [0.0001, 0.1]"),
        ({0: [1e-5], 1: [0.2]}, "does not hold", "0 of 2 seeds in [0.0001, 0.1]"),
        ({0: [math.nan, 0.01], 1: [math.inf]}, "does not hold", "0 of 2 seeds in [0.0001, 0.1]"),
        ({0: [], 1: [0.2]}, "does not hold", "0 of 2 seeds in [0.0001, 0.1]"),
    ],
)
def test_within_counts_seeds(values: dict[int, list[float]], verdict: Verdict, reason: str) -> None:
    part = within("x", values, 1e-4, 1e-1)
    assert (part.verdict, part.reason) == (verdict, reason)


def test_within_keeps_the_extremes() -> None:
    part = within("x", {1: [0.3, 0.1, 0.2], 0: [0.5]}, 0, 1)
    assert part.numbers == ((0, (0.5,)), (1, (0.1, 0.3)))
    assert within("x", {0: [1e-20]}, -math.inf, 1e-18).rule == "every seed's values are at most 1e-18"


def test_one_seed_claims_nothing_but_shows_its_number() -> None:
    for part in (
        above("x", {3: 0.9}, 0.02),
        below("x", {3: 0.9}, 2),
        equivalent("x", {3: 0.0}, 0.1),
        within("x", {3: [0.5]}, 0, 1),
    ):
        assert (part.verdict, part.reason) == ("undecided", ONE_SEED)
        assert len(part.numbers) == 1


def test_missing_runs_leave_the_verdict_open() -> None:
    part = above("x", SEEDS, 0.02, "lr-0.01: seed 3 not run yet")
    assert (part.verdict, part.reason) == ("undecided", "lr-0.01: seed 3 not run yet")
    assert part.interval is not None
    assert within("x", {0: [1], 1: [1]}, 0, 2, "gone").reason == "gone"
    assert above("x", {}, 0.02).reason == "no runs"


def test_differences_pair_seeds() -> None:
    assert differences({0: 1.0, 1: 2.0, 2: 4.0}, {2: 1.0, 1: 0.5, 7: 9.0}) == {1: 1.5, 2: 3.0}


def part(verdict: Verdict, reason: str = "") -> Evidence:
    return Evidence("m", "r", (), None, verdict, reason)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "does not hold", "holds"], "does not hold"),
        ([], "not measured"),
    ],
)
def test_a_claim_is_its_worst_part(verdicts: list[Verdict], whole: Verdict) -> None:
    assert Claim("C0", "t", "x", "§0", tuple(map(part, verdicts))).verdict == whole


def test_a_claims_reason_is_that_of_its_deciding_parts() -> None:
    parts = (part("holds", "fine"), part("undecided", "a"), part("undecided", "b"), part("undecided", "a"))
    assert Claim("C0", "t", "x", "§0", parts).reason == "a; b"
    assert Claim("C0", "t", "x", "§0", (), "not yet").reason == "not yet"


def test_json_has_verdict_rule_numbers_n_and_interval() -> None:
    claim = Claim(
        "C0", "t", "x", "§0", (above("acc", {0: 1.0, 1: 1.0}, 0.5), within("g", {0: [math.nan]}, 0, 1))
    )
    values = json.loads(json.dumps(claim.to_dict(), allow_nan=False))
    first, second = values["parts"]
    assert values["verdict"] == "undecided"
    assert first == {
        "measured": "acc",
        "rule": "the 95 % interval over seeds lies above 0.5",
        "n": 2,
        "numbers": [{"seed": 0, "values": [1.0]}, {"seed": 1, "values": [1.0]}],
        "interval": {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2, "level": 0.95},
        "verdict": "holds",
        "reason": "1, 95 % interval 1 … 1, n = 2",
    }
    assert second["numbers"] == [{"seed": 0, "values": ["nan"]}]
