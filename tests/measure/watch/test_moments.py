"""Diagnoses come early, and take a hundredth of the time: with a clock of the tests' own."""

from __future__ import annotations

import itertools
import random

import pytest

from gradscape.measure.watch.moments import ALLOWANCE, SHARE, Moments


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def trained(step: float, cost: float, steps: int, doubtful: bool = False, jitter: float = 0.0) -> list[int]:
    """The steps diagnosed of a training; the share is held to after each of them."""
    clock, draw = Clock(), random.Random(0)
    moments = Moments(clock)
    seen = []
    for number in range(1, steps + 1):
        clock.now += step
        if moments.is_due(number):
            took = cost * draw.uniform(1 - jitter, 1 + jitter)
            clock.now += took
            moments.add(number, took, doubtful)
            seen.append(number)
            bound = max(ALLOWANCE, SHARE * (clock.now - 100.0))
            assert moments.spent <= bound + 2 * jitter * cost + cost * (len(seen) == 1)
    return seen


def test_a_training_of_long_steps_is_diagnosed_early_and_then_every_hundred_steps() -> None:
    assert trained(step=1.0, cost=0.05, steps=600) == [20, 50, 100, 200, 300, 400, 500, 600]


def test_a_finding_in_doubt_is_looked_at_again_soon() -> None:
    assert trained(step=1.0, cost=0.05, steps=300, doubtful=True) == [20, 50, 100, 150, 200, 250, 300]


def test_a_training_of_short_steps_is_diagnosed_ever_further_apart_within_the_allowance() -> None:
    seen = trained(step=0.001, cost=0.05, steps=3_000)
    assert seen == [20, 50, 100, 200, 300, 450, 675, 1013, 1520, 2280]
    assert 0.05 * len(seen) <= ALLOWANCE


@pytest.mark.parametrize("step", [0.0005, 0.01, 0.3])
@pytest.mark.parametrize("cost", [0.005, 0.05, 0.5])
def test_of_a_long_training_diagnosing_takes_a_hundredth(step: float, cost: float) -> None:
    steps = int(200 / step) if step < 0.3 else 20_000
    seen = trained(step, cost, steps, jitter=0.5)
    share = cost * len(seen) / (steps * step)
    assert share <= SHARE * 1.1  # the mean of the drawn costs is within a tenth of what is asked for
    # And where the time pays for it, no more than two hundred steps go by unseen.
    if cost <= SHARE * 100 * step / 2:
        assert max(b - a for a, b in itertools.pairwise(seen)) <= 200


def test_a_diagnosis_longer_than_all_allowances_is_made_once_and_then_paid_for() -> None:
    seen = trained(step=0.01, cost=3.0, steps=100_000)
    assert seen[0] == 20
    assert seen[1] >= 59_000  # six seconds are a hundredth of ten minutes
