import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.errors import GradscapeError
from gradscape.stats.paired import compare
from gradscape.stats.student_t import Interval, interval, mass_beyond, share, student_t

# Two-sided 95 %: Abramowitz & Stegun, table 26.10.
KNOWN = {
    1: 12.7062,
    2: 4.3027,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    9: 2.2622,
    10: 2.2281,
    29: 2.0452,
    30: 2.0423,
    120: 1.9799,
}


@pytest.mark.parametrize(("df", "t"), KNOWN.items())
def test_student_t_is_the_published_one(df: int, t: float) -> None:
    assert student_t(df) == pytest.approx(t, abs=5e-5)


def test_student_t_at_one_and_two_degrees_is_the_closed_form() -> None:
    assert student_t(1) == pytest.approx(math.tan(0.95 * math.pi / 2), rel=1e-12)
    assert student_t(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)


def test_student_t_falls_to_the_normal_quantile() -> None:
    values = [student_t(df) for df in range(1, 200)]
    assert values == sorted(values, reverse=True)
    assert student_t(20_000) == pytest.approx(NormalDist().inv_cdf(0.975), abs=2e-4)


@given(st.floats(0, 50), st.integers(1, 12))
def test_mass_is_the_integral_of_the_density(t: float, df: int) -> None:
    norm = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    steps = 2_000  # Simpson's rule in the angle, where the density is smooth and bounded
    width = math.atan(t / math.sqrt(df)) / steps
    values = [math.cos(i * width) ** (df - 1) for i in range(steps + 1)]
    inner = 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])
    integral = 2 * norm * math.sqrt(df) * width / 3 * (values[0] + inner + values[-1])
    near = 1e-9 if t > 1e-6 or t == 0 else 1e-8  # scipy's stdtr is off by 3e-9 at t = 1e-8
    assert 1 - mass_beyond(t, df) == pytest.approx(integral, abs=near)


@pytest.mark.parametrize("df", [1, 2, 3, 5, 20, 200])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.5, 1.5, 2.5, 10.0, 40.0, 1e3, 1e6])
def test_what_lies_beyond_is_the_density_s_tail_also_far_below_the_rounding_of_1(t: float, df: int) -> None:
    """In the angle from the tail's end, by Gauss and Legendre's quadrature, no term of which cancels."""
    norm = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    end = math.pi / 2 if not t else math.atan(math.sqrt(df) / t)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    values = np.sin(end * (nodes + 1) / 2) ** (df - 1)
    tail = 2 * norm * math.sqrt(df) * end / 2 * float(weights @ values)
    assert mass_beyond(t, df) == pytest.approx(tail, rel=1e-9, abs=0)


def test_differences_that_cannot_be_chance_have_a_p_above_0() -> None:
    first = {seed: 0.1 + 1e-6 * (seed % 3) for seed in range(12)}
    second = {seed: 0.5 + 1e-6 * (seed % 5) for seed in range(12)}
    found = compare(first, second)
    assert found.p is not None
    assert 0 < found.p < 1e-40
    assert found.verdict == "higher"


def test_interval_is_mean_and_t_standard_errors() -> None:
    found = interval([1.0, 2.0, 3.0])
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)  # t at 2 degrees, a standard deviation of 1
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - half, rel=1e-12)
    assert found.high == pytest.approx(2 + half, rel=1e-12)
    assert found.half == pytest.approx(half, rel=1e-12)
    assert str(found) == "2, 95 % interval -0.484 … 4.48, n = 3"


def test_one_value_has_no_interval() -> None:
    assert interval([0.4]) == Interval(0.4, None, None, 1)
    assert interval([0.4]).half is None
    assert str(interval([0.4])) == "0.4, n = 1"


@pytest.mark.parametrize("value", [0.25, 0.1 + 0.2, 1e-20])
def test_equal_values_have_no_interval(value: float) -> None:
    """They would have one of no width, which is sure of what the next seed does."""
    found = interval([value, value * (1 + 1e-15), value])
    assert (found.low, found.high, found.half) == (None, None, None)
    assert str(found) == f"{value:.3g}, n = 3, all equal"


def test_equal_values_of_a_known_deviation_have_its_interval() -> None:
    """t of 2 degrees at 95 % is 4.303."""
    found = interval([0.1, 0.1, 0.1], alike=0.01)
    assert found.half == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert interval([0.1, 0.2], alike=9.0) == interval([0.1, 0.2])


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("n", [1, 3, 5, 12])
def test_a_share_ends_where_each_tail_has_2_5_percent(n: int) -> None:
    for count in range(n + 1):
        found = share(count, n)
        assert (found.low == 0, found.high == 1) == (count == 0, count == n)
        if count:
            assert sum(binomial(n, found.low)[count:]) == pytest.approx(0.025, rel=1e-9)
        if count < n:
            assert sum(binomial(n, found.high)[: count + 1]) == pytest.approx(0.025, rel=1e-9)


def test_known_shares() -> None:
    assert str(share(1, 3)) == "1 of 3 (95 % 1 … 91 %)"
    assert share(5, 5).low == pytest.approx(0.025 ** (1 / 5))


def test_a_share_of_no_seeds_is_refused() -> None:
    for count, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(
            GradscapeError, match=rf"expected a count from 0 to n, n at least 1; got {count} of"
        ):
            share(count, n)


def test_where_seeds_fail_the_share_covers_and_the_mean_does_not() -> None:
    """30 % of seeds at guessing, the others at 0.6: what docs/statistics.md says of three of them."""
    rng = np.random.default_rng(0)
    fails = rng.random((20_000, 3)) < 0.3
    noise = rng.normal(size=fails.shape)
    values = np.where(fails, 0.1 + 0.01 * noise, 0.6 + 0.05 * noise)
    half = student_t(2) * values.std(axis=1, ddof=1) / math.sqrt(3)
    covered = np.abs(values.mean(axis=1) - (0.3 * 0.1 + 0.7 * 0.6)) <= half
    assert covered.mean() == pytest.approx(0.72, abs=0.015)
    shares = [share(count, 3) for count in range(4)]
    held = np.array([each.low <= 0.7 <= each.high for each in shares])
    assert held[(~fails).sum(axis=1)].mean() >= 0.95


def test_no_values_are_refused() -> None:
    with pytest.raises(GradscapeError, match=r"interval: expected one number per seed; got none"):
        interval([])
    with pytest.raises(GradscapeError, match=r"df: expected 1 or more, that is two values; got 0"):
        student_t(0)
