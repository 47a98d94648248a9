"""Two networks at equal loss, whose numbers are known functions of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gradscape.analysis.equal_loss import BIN, LEARNING, ratios
from gradscape.records.run import RunRecord
from gradscape.studies.smoothing.roles import DEFAULT_PAIR
from smoothed import NORMED, measured, run, study

GUESSING = math.log(100)
STUDY = study(seeds=1)
SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40)


def network(role: str, shares: Sequence[float], logs: Sequence[float]) -> dict[str, RunRecord]:
    """A run with the β's logarithms and its mini-batches' losses, which are shares of guessing's."""
    losses = [share * GUESSING for share in shares]
    made = run(role, 0, NORMED, losses)
    epochs = [
        dataclasses.replace(epoch, smoothness=measured(NORMED._replace(relative=10**log), number, loss))
        for number, (epoch, log, loss) in enumerate(zip(made.epochs, logs, losses, strict=True))
    ]
    made = dataclasses.replace(made, epochs=tuple(epochs))
    return {made.identity: made}


def compared(
    first: tuple[Sequence[float], Callable[[float], float]],
    second: tuple[Sequence[float], Callable[[float], float]],
) -> dict[int, float]:
    return found_ratios(*((shares, [*map(log, shares)]) for shares, log in (first, second)))


def found_ratios(
    first: tuple[Sequence[float], Sequence[float]], second: tuple[Sequence[float], Sequence[float]]
) -> dict[int, float]:
    with_norm, without = DEFAULT_PAIR
    runs = network(with_norm, *first) | network(without, *second)
    found = dataclasses.replace(STUDY, runs=STUDY.runs | runs)
    return ratios(found, DEFAULT_PAIR, "beta", "relative")


def line(share: float) -> float:
    """A number that rises tenfold while the loss falls by a sixth of guessing's, as measured."""
    return 3 - 6 * share


@settings(deadline=None, max_examples=50)
@given(SHARES, SHARES)
# The one only just reaches a bin that the other passes: in the bin their means are 0.05 of guessing's apart.
@example([0.78, 0.79, 0.85, 0.95], [0.55, 0.65, 0.71, 0.73, 0.85, 0.95])
def test_one_function_of_the_loss_is_equal_wherever_each_network_stays(
    first: list[float], second: list[float]
) -> None:
    found = compared((first, line), (second, line))
    assert list(found.values()) == pytest.approx([0.0] * len(found), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(SHARES.map(lambda shares: sorted(shares, reverse=True)), st.floats(-2, 2))
def test_a_factor_is_found_and_is_the_inverse_the_other_way_round(shares: list[float], log: float) -> None:
    # A mean with neighbors of a loss that falls is within a bin's width of it.
    assume(any(LEARNING[0] + 2 * BIN < share < LEARNING[1] - 2 * BIN for share in shares))
    dense = list(np.linspace(1.0, 0.01, 100))
    above = (dense, lambda share: line(share) + log)
    assert compared(above, (shares, line))[0] == pytest.approx(log, abs=1e-9)
    assert compared((shares, line), above)[0] == pytest.approx(-log, abs=1e-9)


def test_a_network_does_not_seem_smoother_for_the_noise_of_the_mini_batches_it_is_measured_on() -> None:
    """One function of the loss over all images, which one network nears at 0.79 and the other passes.

    Where the first stays, only mini-batches of less loss than its images' are below 0.8, as far from them as
    the noise goes; the second's are below and above alike.
    """
    rng = np.random.default_rng(0)
    stays, passes = (low + (1 - low) * np.exp(-np.arange(150) / 25) for low in (0.79, 0.65))
    noise = 0.022  # of CIFAR-100's mini-batches of 100 images, in VGG08's last epochs

    def noisy(losses: np.ndarray) -> tuple[list[float], list[float]]:
        return [*(losses + noise * rng.standard_normal(len(losses)))], [*line(losses)]

    found = [found_ratios(noisy(passes), noisy(stays))[0] for _ in range(10)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.04)


@pytest.mark.parametrize("nears", [0.77, 0.79])
@pytest.mark.parametrize(
    ("shares", "logs"),
    [
        ([0.66, 0.77, 0.84, 0.94, 1.0], [2.9, 2.3, 1.9, 1.0, 0.0]),
        ([0.66, 0.745, 0.77, 0.84, 0.94, 1.0], [0.72, 0.6, 0.52, 0.42, 0.0, -0.5]),
        ([0.66, 0.75, 0.77, 0.84, 0.94], [0.7, 0.5, 0.15, -0.2, -1.0]),
    ],
    ids=["beta", "lipschitz", "relative"],
)
def test_lines_between_bins_are_near_a_curved_function(
    shares: list[float], logs: list[float], nears: float
) -> None:
    """The functions are about those of VGG08 on CIFAR-100, with BatchNorm and without."""

    def falling(low: float) -> tuple[list[float], list[float]]:
        losses = low + (1 - low) * np.exp(-np.arange(48) / 8)
        return [*losses], [*np.interp(losses, shares, logs)]

    assert found_ratios(falling(0.65), falling(nears))[0] == pytest.approx(0.0, abs=0.07)


def test_nothing_is_compared_beyond_a_curve_or_across_a_gap_in_it() -> None:
    assert compared(([0.85, 0.95], line), ([0.25, 0.35], line)) == {}
    assert compared(([0.25, 0.75], line), ([0.5], line)) == {}
    assert compared(([0.45, 0.55], line), ([0.5], line)) == {0: pytest.approx(0.0, abs=1e-9)}
