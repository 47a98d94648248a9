"""Two networks at equal loss, whose numbers are known functions of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gradscape.analysis.equal_loss import BIN, LEARNING, ratios
from gradscape.records.run import RunRecord
from gradscape.studies.smoothing.roles import DEFAULT_PAIR
from smoothed import NORMED, run, study

GUESSING = math.log(100)
SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40)


def network(role: str, shares: Sequence[float], log: Callable[[float], float]) -> dict[str, RunRecord]:
    """A run whose β is a function of its mini-batches' losses, which are shares of guessing's."""
    losses = [share * GUESSING for share in shares]
    epochs = [
        run(role, 0, NORMED._replace(relative=10 ** log(share)), [loss]).epochs[0]
        for share, loss in zip(shares, losses, strict=True)
    ]
    made = dataclasses.replace(run(role, 0, NORMED, losses), epochs=tuple(epochs))
    return {made.identity: made}


def compared(
    first: tuple[Sequence[float], Callable[[float], float]],
    second: tuple[Sequence[float], Callable[[float], float]],
) -> dict[int, float]:
    with_norm, without = DEFAULT_PAIR
    found = study(seeds=1, replaced=network(with_norm, *first) | network(without, *second))
    return ratios(found, DEFAULT_PAIR, "beta", "relative")


def line(share: float) -> float:
    """A number that rises tenfold while the loss falls by a sixth of guessing's, as measured."""
    return 3 - 6 * share


@given(SHARES, SHARES)
# The one only just reaches a bin that the other passes: in the bin their means are 0.05 of guessing's apart.
@example([0.78, 0.79, 0.85, 0.95], [0.55, 0.65, 0.71, 0.73, 0.85, 0.95])
def test_one_function_of_the_loss_is_equal_wherever_each_network_stays(
    first: list[float], second: list[float]
) -> None:
    found = compared((first, line), (second, line))
    assert list(found.values()) == pytest.approx([0.0] * len(found), abs=1e-9)


@given(SHARES, st.floats(-2, 2))
def test_a_factor_is_found_and_is_the_inverse_the_other_way_round(shares: list[float], log: float) -> None:
    assume(any(LEARNING[0] + BIN < share < LEARNING[1] - BIN for share in shares))
    dense = list(np.linspace(0.01, 1.0, 100))
    above = (dense, lambda share: line(share) + log)
    assert compared(above, (shares, line))[0] == pytest.approx(log, abs=1e-9)
    assert compared((shares, line), above)[0] == pytest.approx(-log, abs=1e-9)


def test_nothing_is_compared_beyond_a_curve_or_across_a_gap_in_it() -> None:
    assert compared(([0.85, 0.95], line), ([0.25, 0.35], line)) == {}
    assert compared(([0.25, 0.75], line), ([0.5], line)) == {}
    assert compared(([0.45, 0.55], line), ([0.5], line)) == {0: pytest.approx(0.0, abs=1e-9)}
