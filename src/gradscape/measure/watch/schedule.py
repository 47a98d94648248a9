"""Decide which steps of a training a watch reads."""

from __future__ import annotations

import time
from collections.abc import Iterable

from torch import nn

SMALL = 1_000_000  # parameters up to which a model is read at every step
BUDGET = 0.015  # fraction of the time for reading a larger model,
FIRST = 10  # after as many first steps, all of which are read, so that no verdict rests on one


class Schedule:
    """Schedule of readings: every n-th step, or as many as cost little of the time.

    Args:
        every: Number of steps from one reading to the next; None to read by the cost.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.began = time.perf_counter()
        self.is_small = True

    def follow(self, parameters: Iterable[nn.Parameter]) -> None:
        """Decide by the number of parameters whether the cost of reading counts at all.

        Args:
            parameters: Watched parameters.
        """
        self.is_small = sum(parameter.numel() for parameter in parameters) <= SMALL

    def is_due(self, step: int, spent: float) -> bool:
        """Return True if a step is to be read.

        Args:
            step: Number of the step.
            spent: Seconds that reading has taken so far.
        """
        if self.every is not None:
            return step % self.every == 0
        if self.is_small or step < FIRST:
            return True
        return spent <= BUDGET * (time.perf_counter() - self.began)
