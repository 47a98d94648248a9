"""Networks that train against each other: a loss at guessing is where their game settles, and no fault."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from gradscape.measure.diagnose.loss.terms import BINARY, REGRESSION
from gradscape.records.loss import LossHistory, TensorSummary

FEWEST, MOST = 3, 0.9  # steps with several passes, and the share of them whose targets are opposed


def is_adversarial(history: LossHistory) -> bool:
    """Return True where one network tells what another makes from what is real, step after step.

    Real samples, made ones and the generator's pass have targets of their own within one step: yes, no, yes,
    or a batch of both. Goodfellow et al. (2014), §4.1: at the optimum the discriminator is at guessing.

    Args:
        history: Loss of a training and what it was made of.
    """
    targets: dict[int, list[TensorSummary]] = {}
    for reading in history.readings:
        of_step = targets.setdefault(reading.step, [])
        of_step += [
            term.target
            for term in reading.terms
            if term.target is not None and term.name in (*BINARY, *REGRESSION)
        ]
    several = [_are_opposed(seen) for seen in targets.values() if len(seen) > 1]
    return len(several) >= FEWEST and sum(several) >= MOST * len(several)


def _are_opposed(targets: Sequence[TensorSummary]) -> bool:
    """Return True if the targets of two passes are apart, or those of one alone are all the same."""
    return any(
        one.low > other.high or other.low > one.high or (one.std == 0) != (other.std == 0)
        for one, other in combinations(targets, 2)
    )
