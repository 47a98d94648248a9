"""What the curves of a range test say, from made-up losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from gradscape._codec import decode
from gradscape.records.lr_range import LrRange, decay

RATES = np.geomspace(1e-5, 1.0, 100)


def smoothed(untrained: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Means with weights β^age of all losses so far, by their definition."""
    seen, count = np.concatenate([untrained, losses]), len(untrained)
    weights = decay(len(losses)) ** np.arange(len(seen))[::-1]
    return np.array([weights[-n:] @ seen[:n] / weights[-n:].sum() for n in range(count + 1, len(seen) + 1)])


def made(losses: Any, untrained: Any, divergence: Any = None) -> LrRange:
    losses, untrained = np.atleast_2d(losses), np.atleast_2d(untrained)
    return LrRange(
        optimizer="SGD", rates=RATES[: losses.shape[1]], untrained=untrained, losses=losses,
        smoothed=np.array([smoothed(*pair) for pair in zip(untrained, losses, strict=True)]),
        divergence=np.full(len(losses), math.nan) if divergence is None else np.array(divergence),
        batches=1, samples=8, notes=(),
    )  # fmt: skip


def valley(bottom: int = 60, noise: float = 0.0, seed: int = 0, height: float = 2.0) -> np.ndarray:
    """A loss that falls over twenty steps before `bottom`, and rises after it."""
    places = np.arange(100)
    fall = height / (1 + np.exp((places - bottom + 20) / 3))
    return fall + 0.02 * np.maximum(places - bottom, 0) + noise * np.random.default_rng(seed).normal(size=100)


def test_the_steepest_rate_is_where_the_loss_falls_fastest_not_where_its_mean_does() -> None:
    found = made(valley(60), np.full(10, 2.0))
    assert found.steepest[0] == RATES[40]
    assert found.suggestion == RATES[40]
    assert found.spread == (RATES[40], RATES[40])
    assert RATES[60] <= found.lowest[0] < RATES[80]
    assert found.heading == f"steepest {RATES[40]:.2g}; does not diverge up to 1; take {RATES[40]:.2g}"


def test_the_suggestion_is_the_geometric_mean_of_the_seeds_that_fall() -> None:
    losses = [valley(50), valley(70), np.full(100, 2.0)]
    found = made(losses, np.full((3, 10), 2.0))
    assert found.falls.tolist() == [True, True, False]
    assert found.suggestion == pytest.approx(math.sqrt(RATES[30] * RATES[50]))
    assert f"({RATES[30]:.2g} to {RATES[50]:.2g} over 2 of 3 seeds)" in str(found)
    assert math.isnan(found.steepest[2])
    assert math.isnan(found.lowest[2])


def test_the_suggestion_is_at_most_a_tenth_of_the_lowest_rate_that_diverges() -> None:
    found = made([valley(70), valley(70)], np.full((2, 10), 2.0), [math.nan, RATES[60]])
    assert found.diverges == RATES[60]
    assert found.suggestion == pytest.approx(RATES[60] / 10)
    assert "diverges from 0.011 (1 of 2 seeds)" in found.heading
    assert found.sentence.endswith("diverges above 0.011 (2 seeds)")
    none = made(valley(40), np.full(10, 2.0), [RATES[10]])
    assert math.isnan(none.suggestion)  # a tenth of it lies below the rates
    assert none.advice == "the range begins too high: give rates=(1e-08, 1)"


def test_a_fall_after_a_rise_is_recovery() -> None:
    losses = valley(60)
    losses[70:75] += np.array([3.0, 9.0, 27.0, 9.0, 3.0])
    assert made(losses, np.full(10, 2.0)).steepest[0] == RATES[40]


@pytest.mark.parametrize("count", [10, 30, 100])
def test_noise_alone_seldom_falls(count: int) -> None:
    generator = np.random.default_rng(count)
    rows = [generator.normal(5, 1, (3, count + max(5, count // 10))) for _ in range(300)]
    records = [made(row[:, -count:], row[:, :-count]) for row in rows]
    assert np.mean([not each.flat for each in records]) < 0.05
    assert np.median([each.noise for each in records]) == pytest.approx(1, abs=0.1)


def test_noise_does_not_hide_a_fall_of_four_times_its_size() -> None:
    generator = np.random.default_rng(0)
    for seed in range(50):
        found = made(valley(60, 0.5, seed), 2 + 0.5 * generator.normal(size=10))
        assert not found.flat
        # 95 % of the fall lies within eleven steps of the fortieth, and a window is five steps wide each way.
        assert RATES[24] <= found.steepest[0] <= RATES[56]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=45, max_size=45),
    st.lists(st.sampled_from([math.nan, *RATES[:15]]), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_suggestion_lies_within_the_rates_and_below_divergence(
    values: list[float], divergence: list[float]
) -> None:
    losses = np.array(values).reshape(3, 15)
    found = made(losses, np.repeat([[3.0, 4.0, 5.0, 4.0, 3.5]], 3, axis=0), divergence)
    low, high = found.spread
    if math.isnan(found.suggestion):
        assert np.isnan(found.suggestions).all()
    else:
        assert found.rates[0] <= low <= found.suggestion <= high <= found.rates[-1]
        assert math.isnan(found.diverges) or high < found.diverges
    assert len(repr(found)) < 200
    assert decode(LrRange, found.to_dict()) == found
    assert found.to_dict()["flat"] is found.flat


def test_the_drawing_has_a_line_and_a_band_for_each_seed_and_cuts_what_diverges() -> None:
    losses = np.array([valley(50, 0.1, 0), valley(55, 0.1, 1)])
    losses[:, 90:] = 1e9
    untrained = 2 + 0.1 * np.random.default_rng(0).normal(size=(2, 10))
    found = made(losses, untrained, [RATES[90]] * 2)
    axes = found.plot(Figure().add_subplot())
    assert len(axes.collections) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "steepest", "lowest", "diverges", f"take {found.suggestion:.2g}",
    ]  # fmt: skip
    assert axes.get_ylim()[1] < 4
    assert axes.get_xscale() == "log"


def test_a_loss_that_breaks_out_leaves_the_drawing_its_room() -> None:
    """The margin below is a share of what is seen, not of what is cut off above."""
    losses = np.concatenate([valley(60)[:90], np.full(10, 1e4)])
    low, high = made(losses, np.full(10, 2.0)).plot(Figure().add_subplot()).get_ylim()
    assert -0.5 < low < losses.min()
    assert high < 5


def test_a_drawing_names_only_the_marks_that_it_has() -> None:
    flat = made([np.full(100, 2.0)] * 2, np.full((2, 10), 2.0)).plot(Figure().add_subplot())
    assert flat.get_legend() is None
    some = made([np.full(100, 2.0), valley(60)], np.full((2, 10), 2.0), [RATES[80], math.nan])
    legend = some.plot(Figure().add_subplot()).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "diverges",
        "steepest",
        "lowest",
        "take 0.001",
    ]
