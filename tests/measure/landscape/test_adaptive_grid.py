"""Grids refined where interpolation is wrong by more than is asked for, and than the samples can tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradscape.measure.landscape.adaptive_grid import Index, refine
from gradscape.records.encoding import Values

PLATEAU = 25 + 16  # points of a plane that has nothing to find: 5 × 5, and the middles of their cells


def refined(
    truth: Values, error: float | Callable[[Index], float], accuracy: float
) -> tuple[Values, np.ndarray, list[Index]]:
    """The surface that is found of a true one, what was measured of it, and in which order."""
    values, errors = np.full(truth.shape, np.nan), np.full(truth.shape, np.nan)
    order: list[Index] = []

    def measure(indices: list[Index]) -> None:
        for index in indices:
            values[index] = truth[index]
            errors[index] = error if isinstance(error, float) else error(index)
        order.extend(indices)

    return values, refine(values, errors, measure, accuracy), order


def cubic(points: int, lift: float) -> Values:
    """A surface that cubics interpolate exactly."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, points)] * 2, indexing="ij")
    surface: Values = lift + x**3 - 2 * x * y**2 + y
    return surface


@pytest.mark.parametrize("points", [9, 33, 65])
def test_what_cubics_interpolate_takes_the_fewest_points_and_is_exact(points: int) -> None:
    truth = cubic(points, 0.0)
    values, measured, order = refined(truth, float("nan"), 1e-6)
    assert len(order) == len(set(order)) == measured.sum()
    assert values == pytest.approx(truth, abs=1e-12)
    assert measured.sum() == PLATEAU


@pytest.mark.parametrize("error", [0.49, 0.51])
def test_a_deviation_counts_beyond_twice_the_standard_error(error: float) -> None:
    """One middle of a cell lies 1 above its interpolation, which is exactly twice 0.5."""
    truth = cubic(33, 0.0)
    truth[12, 12] += 1.0
    _, measured, order = refined(truth, error, 1e-9)
    alike, searched = measured.sum() == PLATEAU, (12, 8) in order
    assert (alike, searched) == (error > 0.5, error < 0.5)


@pytest.mark.parametrize("error", [4.9, 5.1])
def test_above_zero_the_error_is_relative_to_the_loss(error: float) -> None:
    """Interpolated are logarithms: 10 e is 1 too much for 10, and half of that is 5 e over 10 e."""
    truth = np.full((33, 33), 10.0)
    truth[12, 12] *= np.e
    _, measured, _ = refined(truth, float(error * np.e), 1e-9)
    assert bool(measured.sum() == PLATEAU) is (error > 5)


def test_an_accuracy_above_the_errors_stands() -> None:
    truth = cubic(33, 0.0)
    truth[12, 12] += 1.0
    span = float(np.ptp(truth[::8, ::8]))
    assert refined(truth, 1e-9, 0.51 / span)[1].sum() == PLATEAU
    assert refined(truth, 1e-9, 0.49 / span)[1].sum() > PLATEAU


def test_errors_that_are_not_known_change_nothing() -> None:
    truth = cubic(33, 0.0)
    truth[12, 12] += 1.0
    assert refined(truth, float("nan"), 0.01)[2] == refined(truth, 0.0, 0.01)[2]


def test_an_error_at_one_place_spares_that_place_alone() -> None:
    truth = cubic(33, 0.0)
    truth[4, 4] += 1.0
    truth[28, 28] += 1.0
    _, measured, _ = refined(truth, lambda index: 1.0 if max(index) < 16 else 0.0, 1e-3)
    assert measured[:16, :16].sum() < measured[17:, 17:].sum()
    assert not measured[4, 8]
    assert measured[28, 24]


def test_a_noisy_valley_is_followed_to_its_noise_and_no_further() -> None:
    """A bowl with noise of a known size: what is interpolated is as near to the bowl as the noise is."""
    sigma, draw = 0.02, np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(-1, 1, 33)] * 2, indexing="ij")
    bowl = 1 + x**2 + 2 * y**2 + np.exp(-30 * (x**2 + y**2))
    noisy = bowl + sigma * draw.standard_normal(bowl.shape)
    blind, told = (refined(noisy, error, 1e-4) for error in (float("nan"), sigma))
    assert blind[1].all()
    assert told[1].sum() < 0.4 * noisy.size
    there = told[0] - bowl
    assert np.sqrt(np.mean(there[~told[1]] ** 2)) < 1.5 * sigma


def test_a_line_has_no_edges_of_cells() -> None:
    truth = np.sin(np.linspace(0, 3, 65))
    values, measured, _ = refined(truth, float("nan"), 1e-4)
    assert measured.sum() < 65
    assert np.abs(values - truth).max() < 1e-4 * np.ptp(truth)
