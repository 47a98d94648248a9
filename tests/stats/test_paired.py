import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.errors import ConfigError, GradscapeError
from gradscape.stats.paired import Difference, compare, holm, look_level, planned_looks
from gradscape.stats.student_t import interval, mass_beyond, student_t

stats = pytest.importorskip("scipy.stats")
NUMBERS = st.floats(-1, 1).map(lambda value: round(value, 6))


def by_seed(values: "np.ndarray | list[float]") -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99, 1 - 0.05 / 3, 1 - 0.05 / 7, 0.9999, 1 - 1e-9])
def test_student_t_at_any_level_is_scipys(level: float) -> None:
    for df in (1, 2, 3, 4, 7, 10, 31, 200):
        assert student_t(df, level) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-6)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(GradscapeError, match=r"level: expected a number between 0 and 1, such as 0.95; got "):
        student_t(3, level)


def test_an_interval_says_its_level() -> None:
    found = interval([1.0, 2.0, 3.0], 1 - 0.05 / 3)
    low, high = stats.t.interval(1 - 0.05 / 3, 2, 2.0, 1 / math.sqrt(3))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert str(found) == "2, 98.33 % interval -2.42 … 6.42, n = 3"


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=12), st.sampled_from([0.8, 0.95, 0.99]))
def test_paired_differences_are_scipys(pairs: list[tuple[float, float]], level: float) -> None:
    first, second = (by_seed(list(values)) for values in zip(*pairs, strict=True))
    differences = [b - a for a, b in pairs]
    found = compare(first, second, level)
    if np.std(differences) < 1e-9:
        return  # tested below
    expected = stats.ttest_rel(list(second.values()), list(first.values()))
    ends = expected.confidence_interval(level)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(ends.low, abs=1e-9), pytest.approx(ends.high, abs=1e-9))
    assert found.effect == pytest.approx(expected.statistic / math.sqrt(len(pairs)), rel=1e-6)
    side = "higher" if ends.low > 0 else "lower" if ends.high < 0 else "undecided"
    assert found.verdict == side


@pytest.mark.parametrize("df", [1, 2, 3, 5, 20, 200, 5_000])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.5, 1.5, 2.5, 10.0, 40.0, 1e3, 1e6])
def test_p_is_scipys_also_where_it_is_far_below_the_rounding_of_1(t: float, df: int) -> None:
    assert mass_beyond(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9, abs=0)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8))
def test_the_other_way_round_everything_is_reversed(pairs: list[tuple[float, float]]) -> None:
    first, second = by_seed([a for a, _ in pairs]), by_seed([b for _, b in pairs])
    there, back = compare(first, second), compare(second, first)
    assert (back.n, back.p, back.reason) == (there.n, there.p, there.reason)
    assert back.verdict == {"higher": "lower", "lower": "higher"}.get(there.verdict, "undecided")
    for name in ("mean", "effect"):
        value, other = getattr(there, name), getattr(back, name)
        assert other is None if value is None else other == -value


def test_only_seeds_that_both_have_count() -> None:
    found = compare({0: 1.0, 1: 2.0, 5: 9.0}, {1: 2.5, 0: 1.25, 7: 100.0})
    assert (found.n, found.mean) == (2, 0.375)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {0: 1.0}, "undecided: n is too small"),
        ({0: 1.0}, {0: 2.0}, "undecided: +1, n = 1: n is too small"),
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: math.inf}, "undecided: a value is not finite"),
        ({0: 0.5, 1: 0.25}, {0: 0.5, 1: 0.25}, "undecided: +0, n = 2: all 2 differences are 0"),
    ],
)
def test_what_decides_nothing(first: dict[int, float], second: dict[int, float], words: str) -> None:
    assert str(compare(first, second)) == words


@pytest.mark.parametrize(("n", "verdict"), [(2, "undecided"), (5, "undecided"), (6, "lower"), (9, "lower")])
def test_equal_differences_are_decided_by_their_signs(n: int, verdict: str) -> None:
    rng = np.random.default_rng(0)
    first = rng.random(n)
    found = compare(by_seed(first), by_seed(first - 0.1))  # equal but for rounding
    assert (found.verdict, found.effect, found.low) == (verdict, None, None)
    assert found.p == stats.binomtest(0, n).pvalue
    assert found.reason.startswith(f"all {n} differences are equal: by their signs p = ")


def test_equal_differences_of_a_known_deviation_are_decided_by_it() -> None:
    """scipy's t-test of 0.1 ± 0.02 with three degrees less one: t = √3 · 5."""
    zero, tenth = dict.fromkeys(range(3), 0.0), dict.fromkeys(range(3), 0.1)
    found = compare(zero, tenth, alike=0.02)
    assert found.verdict == "higher"
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(3) * 5, 2))
    assert compare(zero, tenth, alike=0.2).verdict == "undecided"
    assert compare(zero, tenth).verdict == "undecided"


def test_a_difference_as_plain_values() -> None:
    found = compare({0: 0.1, 1: 0.2, 2: 0.3}, {0: 0.5, 1: 0.7, 2: 0.6})
    assert Difference(**found.to_dict()) == found
    assert str(found) == "higher: +0.4 (95 % +0.152 … +0.648), n = 3, d_z = 4: p = 0.02"


@given(st.lists(st.sampled_from([0.0, 0.001, 0.012, 0.013, 0.03, 0.05, 0.4, 1.0]), max_size=5))
def test_holm_is_the_closure_of_bonferroni(ps: list[float]) -> None:
    """A hypothesis falls if every set of hypotheses that has it falls by Bonferroni (Marcus et al. 1976)."""
    adjusted = holm(ps)
    everyone = range(len(ps))
    for one in everyone:
        sets = [s for k in range(1, len(ps) + 1) for s in itertools.combinations(everyone, k) if one in s]
        for error in (0.049, 0.05001, 0.2):
            falls = all(min(ps[i] for i in s) * len(s) <= error for s in sets)
            assert (adjusted[one] <= error) == falls


def experiments(shift: float, most: int, count: int = 20_000) -> "np.ndarray":
    """Paired differences [count, most] of unit spread around `shift`."""
    return np.random.default_rng(7).normal(shift, 1, (count, most))


def ever_decided(differences: "np.ndarray", fewest: int) -> "np.ndarray":
    """Whether any look at the first n = fewest … most differences decides."""
    looks = planned_looks(fewest, differences.shape[1])
    found = np.zeros(len(differences), dtype=bool)
    for n in range(fewest, differences.shape[1] + 1):
        seen = differences[:, :n]
        t = np.sqrt(n) * np.abs(seen.mean(axis=1)) / seen.std(axis=1, ddof=1)
        found |= t > student_t(n - 1, look_level(looks))
    return found


@pytest.mark.parametrize(("fewest", "most"), [(2, 2), (2, 6), (3, 10), (2, 20)])
def test_looking_again_and_again_errs_in_five_percent_at_most(fewest: int, most: int) -> None:
    wrong = ever_decided(experiments(0.0, most), fewest)
    assert wrong.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(wrong))


def test_without_the_correction_it_errs_more_often() -> None:
    """So the test above can fail."""
    null = experiments(0.0, 10)
    t = [stats.ttest_1samp(null[:, :n], 0, axis=1).pvalue < 0.05 for n in range(2, 11)]
    assert np.any(t, axis=0).mean() > 0.15


def test_an_easy_difference_is_found() -> None:
    """Two and three standard deviations, with ten seeds at most."""
    assert ever_decided(experiments(2.0, 10), 2).mean() > 0.97
    assert ever_decided(experiments(3.0, 10), 2).mean() > 0.99


def test_the_simulation_decides_as_compare_does() -> None:
    chosen = experiments(0.8, 6, 200)
    zero = dict.fromkeys(range(6), 0.0)
    level = look_level(planned_looks(3, 6))
    decided = [
        any(compare(zero, by_seed(row[:n]), level).verdict != "undecided" for n in range(3, 7))
        for row in chosen
    ]
    assert decided == ever_decided(chosen, 3).tolist()


def test_looks_are_planned() -> None:
    assert (look_level(1), planned_looks(2, 2)) == (pytest.approx(0.95), 1)
    with pytest.raises(ConfigError, match=r"looks: expected 1 or more; got 0"):
        look_level(0)
    with pytest.raises(ConfigError, match=r"fewest seeds: expected 2 or more \(one decides nothing\); got 1"):
        planned_looks(1, 5)
    with pytest.raises(ConfigError, match=r"most seeds: expected 3, the fewest, or more; got 2"):
        planned_looks(3, 2)
