import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from gradscape.analysis.claims import (
    ONE_SEED,
    Claim,
    Evidence,
    Verdict,
    above,
    below,
    differences,
    equivalent,
    in_words,
    multiplicity,
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


def test_an_interval_s_end_is_told_from_the_limit_beside_it() -> None:
    assert above("x", SEEDS, 0.455).reason == "0.48, 95 % interval 0.4552 … 0.505, n = 3"
    assert above("x", SEEDS, 0.4).reason == "0.48, 95 % interval 0.455 … 0.505, n = 3"


@pytest.mark.parametrize("rule", [above, below, equivalent])
@pytest.mark.parametrize("value", [0.0133333, 0.0, 0.5])
def test_no_spread_decides_nothing_before_six_seeds_agree(
    rule: Callable[..., Evidence], value: float
) -> None:
    """Two differences of exactly 0.0133 "held", and two of 0 were "equivalent" and "not above"."""
    for n in (2, 3, 5):
        part = rule("x", dict.fromkeys(range(n), value), 0.02)
        assert part.verdict == "undecided"
        assert part.interval is not None
        assert part.interval.low is None
    assert rule("x", dict.fromkeys(range(6), value), 0.02).verdict in ("holds", "does not hold")


def test_six_equal_seeds_decide_by_their_signs() -> None:
    part = above("x", dict.fromkeys(range(6), 0.5), 0.02)
    assert (part.verdict, part.p) == ("holds", 2.0**-5)
    assert part.reason == "0.5, n = 6, all equal: all 6 differences are equal: by their signs p = 0.031"
    assert above("x", dict.fromkeys(range(9), 0.02), 0.02).verdict == "undecided"  # on the threshold


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({0: 0.001, 1: 0.002, 2: 0.003}, "holds"),
        ({0: 0.0, 1: 0.01, 2: 0.02}, "undecided"),
        ({0: 0.05, 1: 0.051, 2: 0.052}, "does not hold"),
        ({0: -0.05, 1: -0.051, 2: -0.052}, "does not hold"),
    ],
)
def test_equivalent_wants_the_whole_interval_within_the_margin(
    values: dict[int, float], verdict: Verdict
) -> None:
    assert equivalent("x", values, 0.02).verdict == verdict


@pytest.mark.parametrize("n", [3, 5, 8])
def test_equivalent_can_hold_up_to_the_deviation_that_its_text_names(n: int) -> None:
    """Differences of mean 0: margin · √n / t is where their interval touches the margin."""
    shape = np.linspace(-1, 1, n)
    limit = 1 / (shape.std(ddof=1) * {3: 4.303, 5: 2.776, 8: 2.365}[n] / math.sqrt(n))
    for scale, verdict in ((0.99, "holds"), (1.01, "undecided")):
        values = dict(enumerate(0.02 * limit * scale * shape))
        assert equivalent("x", values, 0.02).verdict == verdict


def test_one_seed_claims_nothing_but_shows_its_number() -> None:
    for part in (above("x", {3: 0.9}, 0.02), below("x", {3: 0.9}, 2), equivalent("x", {3: 0.0}, 0.1)):
        assert (part.verdict, part.reason, part.p) == ("undecided", ONE_SEED, None)
        assert len(part.numbers) == 1


def test_missing_runs_leave_the_verdict_open() -> None:
    part = above("x", SEEDS, 0.02, "lr-0.01: seed 3 not run yet")
    assert (part.verdict, part.reason, part.p) == ("undecided", "lr-0.01: seed 3 not run yet", None)
    assert part.interval is not None
    assert above("x", {}, 0.02).reason == "no runs"


def test_what_guesses_makes_it_not_testable() -> None:
    why = "he: 2 of 3 runs end at guessing"
    for rule in (above, below, equivalent):
        part = rule("x", SEEDS, 0.02, untestable=why)
        assert (part.verdict, part.reason, part.p) == ("not testable", why, None)
        assert part.interval is not None
    assert above("x", SEEDS, 0.02, "gone", why).verdict == "undecided"  # they may yet be run


def test_numbers_that_are_not_finite_decide_nothing() -> None:
    part = above("x", {0: 1.0, 1: math.inf, 2: 2.0}, 0.0)
    assert (part.verdict, part.reason, part.interval) == ("undecided", "a value is not finite", None)


def test_differences_pair_seeds() -> None:
    assert differences({0: 1.0, 1: 2.0, 2: 4.0}, {2: 1.0, 1: 0.5, 7: 9.0}) == {1: 1.5, 2: 3.0}
    assert differences({0: 0.1 + 0.2}, {0: 0.3}) == {0: 0.0}  # not 5.6e-17, which has a sign


def part(verdict: Verdict, reason: str = "", p: float | None = None) -> Evidence:
    return Evidence("m", "r", (), None, verdict, reason, p)


def claim(*parts: Evidence, **words: str) -> Claim:
    return Claim("C0", "t", "x", "§0", parts, **words)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "not testable", "holds"], "not testable"),
        (["holds", "not testable"], "not testable"),
        ([], "not measured"),
    ],
)
def test_a_claim_is_its_worst_part(verdicts: list[Verdict], whole: Verdict) -> None:
    assert claim(*map(part, verdicts)).verdict == whole


def test_one_part_of_many_refutes_a_claim_only_after_holm() -> None:
    against, rest = part("does not hold", p=0.02), [part("holds", p=1e-4)] * 3
    assert claim(against).verdict == "does not hold"
    assert claim(against, rest[0]).verdict == "does not hold"  # 0.04
    assert claim(against, *rest).verdict == "undecided"  # 0.08
    assert claim(against, *rest).corrected == [pytest.approx(0.08), 1, 1, 1]
    surer = part("does not hold", p=0.001)
    assert claim(surer, against, *rest).refuting == [surer]
    assert claim(surer, part("not testable"), *rest).verdict == "does not hold"


def test_the_published_claims_that_rested_on_one_part_of_several() -> None:
    """p = 0.0494 of R4's four on digits, and of C4's six on CIFAR-100 what adjusts to 0.293."""
    three = [part("undecided", p=0.2)] * 3
    assert claim(part("does not hold", p=0.0494), *three).verdict == "undecided"
    five = [part("undecided", p=0.3)] * 5
    assert claim(part("does not hold", p=0.293 / 6), *five).verdict == "undecided"


def test_a_claims_reason_is_that_of_its_deciding_parts() -> None:
    parts = (part("holds", "fine"), part("undecided", "a"), part("undecided", "b"), part("undecided", "a"))
    assert claim(*parts).reason == "a; b (1 of 4 parts hold)"
    open_ = claim(part("holds"), part("does not hold", "against", 0.04), part("holds"))
    assert open_.reason == "against (2 of 3 parts hold, 1 against it, p 0.12 after Holm)"
    assert claim(part("does not hold", "so", 0.001), part("holds", "fine")).reason == "so"
    assert Claim("C0", "t", "x", "§0", (), "not yet").reason == "not yet"


def test_json_has_verdict_rule_numbers_n_interval_and_p() -> None:
    values = json.loads(json.dumps(claim(above("acc", SEEDS, 0.5)).to_dict(), allow_nan=False))
    (first,) = values["parts"]
    assert (values["verdict"], values["tests"]) == ("undecided", 1)
    assert first.pop("p") == pytest.approx(0.0742, abs=1e-4)
    interval = first.pop("interval")
    assert (interval["mean"], interval["n"], interval["level"]) == (pytest.approx(0.48), 3, 0.95)
    assert first == {
        "measured": "acc",
        "rule": "the 95 % interval over seeds lies above 0.5",
        "n": 3,
        "numbers": [{"seed": seed, "value": value} for seed, value in SEEDS.items()],
        "verdict": "undecided",
        "reason": "0.48, 95 % interval 0.455 … 0.505, n = 3",
        "p_against_after_holm": 1.0,
    }
    odd = claim(above("acc", {0: math.nan}, 0.5)).to_dict()["parts"][0]
    assert odd["numbers"] == [{"seed": 0, "value": "NaN"}]


def test_an_answer_has_a_sentence_for_each_verdict() -> None:
    yes, no = "It is so.", "It is not so."
    settled = [
        claim(part("holds"), yes=yes, no=no),
        claim(part("does not hold", p=0.01), yes=yes, no=no),
        claim(part("holds")),
    ]
    idle = claim(part("not testable", "he: 1 of 2 runs end at guessing"))
    assert in_words([*settled, idle, claim(part("undecided", ONE_SEED))]) == (
        "It is so. It is not so. t: holds. Not testable here: t (C0): he: 1 of 2 runs end at guessing. "
        "Open here: t (C0): one seed per run claims nothing."
    )
    assert in_words([]) == ""


def test_why_claims_are_not_testable_is_said_once() -> None:
    one, other = "he: 1 of 2 runs end at guessing", "bn: 2 of 2 runs end at guessing"
    idle = [claim(part("not testable", one)), claim(part("not testable", f"{other}; {one}"))]
    assert in_words(idle) == f"Not testable here: t (C0); t (C0): {one}; {other}."


def test_a_report_says_how_many_tests_it_made() -> None:
    words = multiplicity([claim(*[part("holds", p=0.01)] * 3), claim(part("undecided", p=0.5)), claim()])
    assert words.startswith("3 claims, of which 2 were put to 4 tests.")
    assert words.endswith("one at least of 2 with a chance of up to 10 %.")
    assert "one at least of 30 with a chance of up to 100 %" in multiplicity(
        [claim(part("holds", p=0.01))] * 30
    )
    assert multiplicity([claim()]) == "No claim was put to a test."


# Level and power, as docs/statistics.md has them.

DRAWS = 400


def shares(parts: int, n: int, means: float | list[float], seed: int = 0) -> dict[Verdict, float]:
    """Verdict → share of claims of so many independent normal parts that are told so."""
    rng = np.random.default_rng([seed, parts, n])
    values = rng.normal(size=(DRAWS, parts, n)) + np.broadcast_to(means, parts)[None, :, None]
    found = [
        claim(*(above("x", dict(enumerate(map(float, row))), 0.0) for row in each)).verdict for each in values
    ]
    return {verdict: found.count(verdict) / DRAWS for verdict in ("holds", "does not hold", "undecided")}


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "n"), [(1, 3), (4, 3), (14, 5)])
def test_a_claim_errs_in_5_percent_at_most_however_many_parts_it_has(parts: int, n: int) -> None:
    """No effect in any part refuted 30 % of claims of 14; and one false part is not hidden by others."""
    nothing = shares(parts, n, 0.0)
    assert nothing["does not hold"] + nothing["holds"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)
    one_false = shares(parts, n, [0.0, *[3.0] * (parts - 1)])
    assert one_false["does not hold"] + one_false["holds"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "n", "power"),
    [(1, 3, 0.47), (4, 5, 0.68), (14, 5, 0.26), (4, 8, 0.997)],
)
def test_power_where_every_part_is_true_by_two_deviations(parts: int, n: int, power: float) -> None:
    assert shares(parts, n, 2.0)["holds"] == pytest.approx(power, abs=0.075)


def test_a_part_against_an_undecided_claim_says_what_holm_makes_of_it() -> None:
    against, other = part("does not hold", p=0.03), part("undecided", p=0.5)
    both = claim(against, other)
    assert both.verdict == "undecided"
    assert both.after_holm(against) == (
        "p 0.06 after Holm's correction for 2 parts: too weak to refute the claim"
    )
    assert both.after_holm(other) == ""
    assert claim(against).after_holm(against) == ""  # here it does refute it


def test_open_claims_say_if_runs_are_missing_or_seeds_disagree() -> None:
    def open_claim(name: str, part: Evidence) -> Claim:
        return Claim(name, f"Title {name}", "text", "§1", (part,))

    said = in_words(
        [
            open_claim("A", above("accuracy", {0: 0.1, 1: 0.4, 2: 0.2}, 0.2)),
            open_claim("B", above("accuracy", {0: 0.1, 1: 0.4}, 0.2, missing="seed 2: not run yet")),
            open_claim("C", above("accuracy", {0: 0.1}, 0.2)),
        ]
    )
    assert said == (
        "Open here: Title C (C): one seed per run claims nothing; Title A (A): the seeds disagree "
        "too much, or are too few, to tell; Title B (B): runs or measures are missing."
    )
