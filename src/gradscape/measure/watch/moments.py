"""Decide after which steps a training is diagnosed while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST = (20, 50, 100)  # steps: from 20 on there is more to say than that it is too early to tell
GAP = 100  # steps from one diagnosis to the next, where there is time for it
SOON = 50  # steps until a finding is looked at a second time
GROWTH = 1.5  # ratio of a step to the last one diagnosed, where only the allowance is left
SHARE = 0.01  # fraction of the time for diagnosing,
ALLOWANCE = 1.0  # or as many seconds in all, where that is more: a short training is diagnosed too


class Moments:
    """Moments of the diagnoses of a training, which cost `SHARE` of its time at most.

    Args:
        clock: Function that returns the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock, self.began = clock, clock()
        self.spent = self.cost = 0.0  # seconds: of all diagnoses, and of the last
        self.last, self.next, self.is_doubtful = 0, FIRST[0], False

    def is_due(self, step: int) -> bool:
        """Return True if the training is to be diagnosed now.

        Args:
            step: Number of steps so far.
        """
        if step < self.next:
            return False
        far = self.is_doubtful or step >= GROWTH * self.last
        return self.is_paid() or (far and self.spent + self.cost <= ALLOWANCE)

    def is_paid(self) -> bool:
        """Return True if the time of the training so far pays for one more diagnosis as long as the last."""
        return self.spent + self.cost <= SHARE * (self.clock() - self.began)

    def is_affordable(self) -> bool:
        """Return True if there is time for a diagnosis out of turn."""
        return self.is_paid() or self.spent + self.cost <= ALLOWANCE

    def add(self, step: int, seconds: float, is_doubtful: bool) -> None:
        """Count a diagnosis.

        Args:
            step: Number of steps so far.
            seconds: Time that it took.
            is_doubtful: Whether it has a finding that must stand in the next one too, to be told.
        """
        self.spent, self.cost, self.last, self.is_doubtful = self.spent + seconds, seconds, step, is_doubtful
        early = [first for first in FIRST if first > step]
        self.next = early[0] if early else step + (SOON if is_doubtful else GAP)
