"""Decide which steps of a training a watch reads."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from torch import nn

from gradscape.measure.core.gradient_statistics import Shards

SMALL = 1_000_000  # parameters up to which a model is read at every step
BUDGET = 0.015  # fraction of the time for reading a larger model,
FIRST = 10  # after as many first steps, all of which are read, so that no verdict rests on one


class Schedule:
    """Schedule of readings: every n-th step, or as many as cost little of the time.

    Processes that hold parts of the same tensors must read the same steps, because a reading joins their
    parts: one that reads alone waits for ever. Their clocks differ, so each reading is followed by one number
    that they agree on, the next step to read.

    Args:
        every: Number of steps from one reading to the next; None to read by the cost.
        budget: Fraction of the time for reading.
        first: Number of first steps, all of which are read.
        regular: Number of steps from one reading of a small model to the next, after these.
    """

    def __init__(
        self, every: int | None, budget: float = BUDGET, first: int = FIRST, regular: int = 1
    ) -> None:
        self.every, self.budget, self.first, self.regular = every, budget, first, regular
        self.began = time.perf_counter()
        self.is_small = True
        self.shards: Shards | None = None
        self._planned = -1  # next step that the processes have agreed to read
        self._last = (0, self.began)  # step and time at which they did

    def follow(self, parameters: Sequence[nn.Parameter], shards: Shards) -> None:
        """Decide by the number of parameters whether the cost of reading counts at all.

        Args:
            parameters: Watched parameters.
            shards: Process groups over which they are sharded.
        """
        self.is_small = sum(parameter.numel() for parameter in parameters) <= SMALL
        self.shards = shards if shards.groups else None

    def is_due(self, step: int, spent: float) -> bool:
        """Return True if a step is to be read.

        Args:
            step: Number of the step.
            spent: Seconds that reading has taken so far.
        """
        if self.every is not None:
            return step % self.every == 0
        if self.is_small or step < self.first:
            return step < self.first or step % self.regular == 0
        if self.shards is None:
            return spent <= self.budget * (time.perf_counter() - self.began)
        if step > self._planned:
            self._planned = self.shards.agreed(self._affordable(step, spent))
        return step == self._planned

    def _affordable(self, step: int, spent: float) -> int:
        """Return the first step by which reading will have taken its fraction of the time alone."""
        now, (before, then) = time.perf_counter(), self._last
        self._last = step, now
        wait = spent / self.budget - (now - self.began)
        return step + max(0, math.ceil(wait * (step - before) / (now - then)))
