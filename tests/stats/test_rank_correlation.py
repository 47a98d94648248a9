"""Rank correlations are scipy's; their intervals are a bootstrap written out, and hold what they should."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradscape.errors import ConfigError
from gradscape.stats.rank_correlation import RankCorrelation, rank_correlation, rank_difference

SMALL = st.integers(-4, 4).map(float)  # many ties
PAIRS = st.lists(st.tuples(SMALL, SMALL), min_size=2, max_size=12)


def split(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def spearman(x: Any, y: Any) -> float:
    return rank_correlation(x, y, range(len(x)), draws=1).rho


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "rho"),
    [
        ([1, 2, 3], [10, 20, 21], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 3, 2, 10], 1 - 6 * 2 / (4 * 15)),  # 1 − 6 Σd² / (n (n² − 1)) without ties
        ([1, 1, 2], [1, 2, 3], 1.5 / math.sqrt(1.5 * 2)),  # ranks 1.5, 1.5, 3
        ([1, 2, math.inf], [0, 1, 2], 1.0),
        ([1, 2, math.nan, 3], [1, 2, 0, math.nan], 1.0),
    ],
)
def test_cases_by_hand(x: list[float], y: list[float], rho: float) -> None:
    assert spearman(x, y) == pytest.approx(rho, abs=1e-15)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3])])
def test_without_spread_there_is_none(x: list[float], y: list[float]) -> None:
    assert math.isnan(spearman(x, y))
    found = rank_correlation(x, y, range(len(x)))
    assert (found.low, found.high, found.n) == (None, None, len(x))


@given(PAIRS)
def test_ties_and_all_it_is_scipys(pairs: list[tuple[float, float]]) -> None:
    x, y = split(pairs)
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(PAIRS, st.sampled_from([np.exp, np.cbrt, lambda v: 3 * v - 7]))
def test_monotone_maps_change_nothing(
    pairs: list[tuple[float, float]], increasing: Callable[[Any], Any]
) -> None:
    x, y = split(pairs)
    mapped = increasing(np.array(x))
    assert same(spearman(mapped, y), spearman(x, y))
    assert same(spearman(y, x), spearman(x, y))
    assert same(spearman(-np.array(x), y), -spearman(x, y))
    of_five = [place % 5 for place in range(len(x))]
    assert rank_correlation(mapped, y, of_five, draws=50) == rank_correlation(x, y, of_five, draws=50) or (
        math.isnan(spearman(x, y))
    )


@given(PAIRS, st.integers(0, 100))
def test_bounds(pairs: list[tuple[float, float]], seed: int) -> None:
    x, y = split(pairs)
    found = rank_correlation(x, y, range(len(x)), draws=50, seed=seed)
    assert math.isnan(found.rho) or -1 <= found.rho <= 1
    assert (found.low is None) == (found.high is None)
    if found.low is not None and found.high is not None:
        assert -1 <= found.low <= found.high <= 1
    assert (found.low is None) == (len(x) < 4 or math.isnan(found.rho))


def test_the_interval_is_the_bootstrap_written_out() -> None:
    rng = np.random.default_rng(3)
    x, y, groups = rng.integers(0, 5, 18), rng.integers(0, 5, 18), np.repeat(np.arange(6), 3)
    found = rank_correlation(x, y, groups.tolist(), level=0.9, draws=200, seed=7)
    drawn = []
    for times in np.random.default_rng(7).multinomial(6, [1 / 6] * 6, size=200):
        of = [np.flatnonzero(groups == group) for group, count in enumerate(times) for _ in range(count)]
        rows = np.concatenate(of)
        drawn.append(stats.spearmanr(x[rows], y[rows]).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=1e-12)
    assert found == rank_correlation(x, y, groups.tolist(), level=0.9, draws=200, seed=7)
    assert found != rank_correlation(x, y, groups.tolist(), level=0.9, draws=200, seed=8)


def test_seeds_of_one_configuration_add_nothing() -> None:
    """Every pair twice: as two seeds the interval stays, as new configurations it would shrink."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 10))
    once = rank_correlation(x, y, range(10))
    twice = rank_correlation(np.tile(x, 2), np.tile(y, 2), [*range(10), *range(10)])
    pretended = rank_correlation(np.tile(x, 2), np.tile(y, 2), range(20))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=1e-12)
    width = [f.high - f.low for f in (once, pretended) if f.low is not None and f.high is not None]
    assert width[1] < 0.85 * width[0]


def test_what_is_nan_is_left_out_and_counted() -> None:
    x, y = [1, 2, math.nan, 4, 5], [1, math.nan, 3, 4, 6]
    found = rank_correlation(x, y, "abcde")
    assert found == RankCorrelation(1.0, None, None, 3, 3, 2, 0.95)
    assert str(found) == "ρ = 1, n = 3 of 3 configurations, 2 left out"
    assert found.to_dict()["left_out"] == 2
    told = rank_correlation([1, 2, 3, 4, 5], [1, 2, 4, 3, 5], "abcde")
    assert str(told) == "ρ = 0.9, 95 % interval 0.111 … 1, n = 5 of 5 configurations"


def test_the_difference_says_which_tells_more() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=40)
    near, far = -y + 0.2 * rng.normal(size=40), rng.normal(size=40)
    found = rank_difference(near, far, y, range(40))
    assert (found.first, found.second) == (spearman(near, y), spearman(far, y))
    assert found.first < -0.9
    assert found.difference == abs(found.first) - abs(found.second)
    assert found.low is not None
    assert found.low > 0
    assert found.verdict == "first"
    back = rank_difference(far, near, y, range(40))
    assert (back.verdict, back.difference) == ("second", -found.difference)
    assert back.high == pytest.approx(-found.low)
    alike = rank_difference(near, np.exp(near), y, range(40))
    assert (alike.verdict, alike.difference, alike.low, alike.high) == ("undecided", 0, 0, 0)
    few = rank_difference(near[:3], far[:3], y[:3], range(3))
    assert (few.verdict, few.low) == ("undecided", None)
    assert str(back).startswith("second: |ρ| 0.")
    assert "of 40 configurations" in str(back)


def test_rows_that_lack_one_number_are_left_out_of_both() -> None:
    x1, x2, y = [1.0, 2, 3, 4, math.nan], [4.0, 1, math.nan, 2, 9], [1.0, 2, 3, 4, 5]
    found = rank_difference(x1, x2, y, "abcde")
    assert (found.n, found.left_out) == (3, 2)
    assert found.second == spearman([4, 1, 2], [1, 2, 4])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"y: expected one number for each of x, shape \(3,\); got \(2,\)"):
        rank_correlation([1, 2, 3], [1, 2], "abc")
    with pytest.raises(ConfigError, match="groups: expected one for each of 3 rows; got 2"):
        rank_correlation([1, 2, 3], [1, 2, 3], "ab")
    with pytest.raises(ConfigError, match=r"level: expected a number between 0 and 1, such as 0.95; got 95"):
        rank_correlation([1, 2, 3], [1, 2, 3], "abc", level=95)
    with pytest.raises(ConfigError, match="draws: expected 1 or more, such as 2000; got 0"):
        rank_difference([1], [1], [1], "a", draws=0)


@pytest.mark.slow
@pytest.mark.long
def test_intervals_hold_the_true_correlation() -> None:
    """2,000 samples of 20 configurations with three seeds each; the population's ρ from 200,000."""
    rng = np.random.default_rng(1)

    def sample(count: int, seeds: int) -> tuple[Any, Any]:
        of_configuration = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=count)
        values = of_configuration[:, None] + 0.3 * rng.normal(size=(count, seeds, 2))
        return values[..., 0].ravel(), values[..., 1].ravel()

    true, groups = stats.spearmanr(*sample(200_000, 1)).statistic, np.repeat(np.arange(20), 3).tolist()
    found = [rank_correlation(*sample(20, 3), groups, draws=400, seed=i) for i in range(2_000)]
    held = [f.low <= true <= f.high for f in found if f.low is not None and f.high is not None]
    assert len(held) == 2_000
    assert 0.925 <= np.mean(held) <= 0.965  # 93 … 95 %, as documented, and a binomial standard error of 0.5 %
