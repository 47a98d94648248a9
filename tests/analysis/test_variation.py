"""Variation to expect: medians, errors and limits against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from gradscape.analysis import variation
from gradscape.analysis.variation import MAD, judge, limit, running_median

NOTHING = np.zeros(1)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_a_running_median_is_the_median_of_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(0, 20, 3)
    expected = [np.median(values[row : row + 5], axis=0) for row in range(16)]
    assert np.array_equal(running_median(values, 5), expected)
    monkeypatch.setattr(variation, "CELLS", 1)  # a column at a time
    assert np.array_equal(running_median(values, 5), expected)


def test_a_running_median_passes_over_what_is_missing() -> None:
    values = np.array([[1.0], [np.nan], [3.0], [2.0], [np.nan], [np.nan], [np.nan], [np.inf]])
    assert running_median(values, 3)[:, 0].tolist() == [1.0, 2.0, 2.0, 2.0, -np.inf, np.inf]


def test_medians_pass_over_what_is_not_a_number() -> None:
    values = normal(0, 6, 3)
    values[:2, 1] = values[:, 2] = np.nan
    expected = [np.median(values[:, 0]), np.median(values[2:, 1]), 0.0]
    assert variation._median(values) == pytest.approx(expected)
    assert variation._median(values[:5])[:2] == pytest.approx(
        [np.median(values[:5, 0]), np.median(values[2:5, 1])]
    )


def test_the_limit_is_students_t_for_all_tests_together() -> None:
    freedom = np.array([1.0, 3.0, 50.0, 1e9])
    assert limit(freedom, 1_000, 0.05) == pytest.approx(t.ppf(1 - 0.05 / 2_000, freedom), rel=1e-9)
    assert limit(freedom, 0, 0.05) == pytest.approx(t.ppf(0.975, freedom), rel=1e-9)


def test_of_seeds_the_error_is_the_two_sample_one() -> None:
    """Constant in time: the textbook's formula, and one independent window."""
    levels = normal(1, 5)
    a = [np.full((30, 1), level) for level in levels[:3]]
    b = [np.full((30, 1), level) for level in levels[3:]]
    found = judge(a, b, 5, NOTHING)
    squares = 2 * levels[:3].var(ddof=1) + levels[3:].var(ddof=1)
    assert found.error == pytest.approx(np.full((26, 1), np.sqrt(squares / 3 * (1 / 3 + 1 / 2))))
    assert found.difference == pytest.approx(np.full((26, 1), levels[3:].mean() - levels[:3].mean()))
    assert found.freedom.tolist() == pytest.approx([3.0], abs=0.3)


def test_independent_rows_count_each_for_themselves() -> None:
    a, b = ([normal(seed, 400, 1) for seed in range(first, first + 3)] for first in (0, 3))
    found = judge(a, b, 1, NOTHING)
    assert found.freedom[0] == pytest.approx(4 * 400, rel=0.3)
    assert float(found.error.mean()) == pytest.approx(np.sqrt(2 / 3), rel=0.1)


def test_without_seeds_the_error_is_that_of_changes_and_of_seeds_known() -> None:
    a, b = normal(0, 2_000, 1), normal(1, 2_000, 1)
    found = judge([a], [b], 5, np.array([0.5]))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(normal(2, 100_000), 5), axis=1)
    expected = np.sqrt(2 * medians.var() + 2 * 0.5**2)
    assert np.median(found.error) == pytest.approx(expected, rel=0.1)
    trend = np.linspace(0, 50, 2_000)[:, None]  # which both share
    shared = judge([a + trend], [b + trend], 5, np.array([0.5]))
    assert np.median(shared.error) == pytest.approx(np.median(found.error), rel=0.1)


def test_outliers_do_not_move_the_error() -> None:
    a, b = normal(0, 500, 1), normal(1, 500, 1)
    spiked = a.copy()
    spiked[::50] += 1e6
    before, after = (judge([each], [b], 1, NOTHING).error for each in (a, spiked))
    assert np.median(after) == pytest.approx(np.median(before), rel=0.15)


def test_the_mad_is_scaled_to_the_standard_deviation() -> None:
    assert pytest.approx(np.median(np.abs(normal(0, 100_000))) ** -1, rel=0.01) == MAD


def test_what_is_infinite_is_no_test_and_no_error() -> None:
    a, b = normal(0, 50, 2), normal(1, 50, 2)
    b[:, 1] = -np.inf
    found = judge([a], [b], 5, np.zeros(2))
    assert found.tests == 46
    assert np.isfinite(found.error).all()
    assert (found.difference[:, 1] == -np.inf).all()
