"""Spikes of a loss: found where they were put, with height and length; noise of any kind has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscape.records.spike_search import FEWEST, Noise, spikes_of

N = 1_000
STEPS = np.arange(N)


def falling(seed: int, noise: float = 0.05) -> np.ndarray:
    return (2 * np.exp(-STEPS / 200) + 1) * np.exp(noise * np.random.default_rng(seed).normal(size=N))


@pytest.mark.parametrize("factor", [1.8, 3.0, 30.0])
@pytest.mark.parametrize("length", [1, 8, 60])
def test_a_spike_has_its_step_height_and_length(factor: float, length: int) -> None:
    values = falling(0)
    values[500 : 500 + length] *= factor
    (spike,) = spikes_of(STEPS, values)
    assert spike.first == 500
    assert 500 <= spike.peak < 500 + length
    assert spike.back == length
    assert spike.value == pytest.approx(values[spike.peak])
    assert spike.usual == pytest.approx(np.median(values[479:500]))
    assert spike.factor == pytest.approx(spike.value / spike.usual)
    assert spike.deviations == pytest.approx(math.log(spike.factor) / 0.05, rel=0.2)


def test_a_small_spike_in_small_noise_counts_and_a_large_one_in_large_noise_does_not() -> None:
    quiet, loud = falling(1, 0.01), falling(1, 0.8)
    quiet[600] *= 1.7
    loud[600] = 3 * np.median(loud[579:600])
    assert [each.first for each in spikes_of(STEPS, quiet)] == [600]
    assert not spikes_of(STEPS, loud)


def test_steps_need_not_be_one_apart() -> None:
    values = falling(2)
    values[400:403] *= 5
    (spike,) = spikes_of(10 * STEPS + 7, values)
    assert (spike.first, spike.back) == (4007, 30)


def test_what_is_not_finite_is_an_infinite_spike() -> None:
    values = falling(3)
    values[300], values[700] = math.nan, math.inf
    first, second = spikes_of(STEPS, values)
    assert (first.first, second.first) == (300, 700)
    assert first.factor == second.value == math.inf
    assert first.back == 1
    assert "loss not finite at step 300" in str(first)


def test_a_loss_that_stays_up_is_not_back() -> None:
    values = falling(4)
    values[800:] *= 6
    (spike,) = spikes_of(STEPS, values)
    assert (spike.first, spike.back) == (800, None)
    assert "not back yet" in spike.heading


HEAVY = {
    "normal": lambda random: 2 + 0.1 * random.normal(size=N),
    "lognormal": lambda random: np.exp(random.normal(size=N)),
    "Pareto": lambda random: 1 + random.pareto(1.5, size=N),
    "exponential": lambda random: random.exponential(size=N),
    "square of a normal": lambda random: random.normal(size=N) ** 2 + 1e-6,
    "Student's t of 5": lambda random: np.abs(2 + 0.3 * random.standard_t(5, size=N)) + 1e-3,
    "falls": lambda random: falling(int(random.integers(1_000)), 0.3),
    "rises": lambda random: falling(int(random.integers(1_000)), 0.3)[::-1],
}


@pytest.mark.parametrize("kind", HEAVY)
def test_noise_with_heavy_tails_has_no_spike(kind: str) -> None:
    for seed in range(10):
        values = HEAVY[kind](np.random.default_rng(seed))
        assert not [str(each) for each in spikes_of(STEPS, values)]


def test_a_loss_that_rises_for_good_has_no_spike_that_is_back() -> None:
    values = 0.001 + STEPS / N + 0.01 * np.abs(np.random.default_rng(0).normal(size=N))
    assert not [each for each in spikes_of(STEPS, values) if each.back is not None]


def test_what_cannot_be_judged_has_none() -> None:
    short = np.r_[np.ones(FEWEST - 2), 100.0]
    assert spikes_of(np.arange(len(short)), short) == ()
    negative = falling(5) - 2
    negative[500] = 100
    assert spikes_of(STEPS, negative) == ()
    assert spikes_of(STEPS, np.full(N, math.nan)) == ()
    assert spikes_of(STEPS[:0], np.zeros(0)) == ()


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(50, 900))
def test_the_unit_of_the_loss_does_not_matter(unit: float, place: int) -> None:
    values = falling(6)
    values[place] *= 4
    (spike,), (scaled,) = spikes_of(STEPS, values), spikes_of(STEPS, unit * values)
    assert spike.first == scaled.first == place
    assert spike.deviations == pytest.approx(scaled.deviations)


def test_the_limit_of_normal_and_exponential_noise() -> None:
    """Six deviations of normal noise; of an exponential tail where one value in 1,000 trainings lies."""
    random = np.random.default_rng(7)
    normal = Noise.of(random.normal(size=200_000), 1e6)
    assert normal.deviation == pytest.approx(1, abs=0.02)
    assert 6 <= normal.limit < 8.5
    tail = Noise.of(random.exponential(size=200_000), 1e6)
    assert tail.limit == pytest.approx(math.log(1e6), rel=0.05)


def test_the_last_batch_of_an_epoch_is_as_noisy_as_its_size_makes_it() -> None:
    """Means over 64 samples, and at each tenth step over one; a spike at a usual step, and one not finite."""
    blind = 0
    for seed in range(5):
        losses = np.random.default_rng(seed).exponential(size=(N, 64))
        values, last = losses.mean(axis=1), range(9, N, 10)
        values[last] = losses[last, 0]
        small = [(step, 1 / 64) for step in last]
        blind += len(spikes_of(STEPS, values))
        assert not spikes_of(STEPS, values, small)
        values[500], values[709] = 20, math.inf
        assert [each.first for each in spikes_of(STEPS, values, small)] == [500, 709]
    assert blind >= 5
