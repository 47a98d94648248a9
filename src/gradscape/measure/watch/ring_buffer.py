"""The last rows of measurements, on their device until they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Ring:
    """So many rows of (columns, parameters); a new one takes the oldest's place.

    Args:
        capacity: rows.
        columns: of each.
        like: (parameters,), a tensor of the wanted device and precision.
    """

    def __init__(self, capacity: int, columns: int, like: Tensor) -> None:
        self.rows = like.new_full((capacity, columns, len(like)), math.nan)
        self.skipped = like.new_zeros(capacity)
        self.steps: list[int] = []

    def add(self, step: int) -> int:
        """Open a row of NaN, of a skipped step until it is filled; it takes the oldest's place.

        Returns its number, among all rows ever added.
        """
        place = len(self.steps) % len(self.rows)
        self.rows[place] = math.nan
        self.skipped[place] = 1.0
        self.steps.append(step)
        return len(self.steps) - 1

    def fill(self, number: int, places: Sequence[int], values: Tensor, skipped: Tensor | None) -> None:
        """Columns of a row; it is of a skipped step where each of the steps in it was skipped.

        Args:
            number: what `add` gave.
            places: (n) of parameters.
            values: (columns, n)
            skipped: a number, as a GradScaler has it on its device; None of a step that was made.
        """
        place = number % len(self.rows)
        self.rows[place][:, places] = values
        now = 0.0 if skipped is None else skipped.reshape(()).to(self.skipped)
        self.skipped[place] *= now

    def widened(self, where: Sequence[int | None], like: Tensor) -> Ring:
        """The same rows for other parameters.

        Args:
            where: each of them was here before; None for a new one.
            like: as of a new ring.
        """
        found = Ring(len(self.rows), self.rows.shape[1], like)
        known = [(now, before) for now, before in enumerate(where) if before is not None]
        for now, before in known:
            found.rows[:, :, now] = self.rows[:, :, before]
        found.skipped, found.steps = self.skipped, self.steps
        return found

    def read(self, since: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Steps, whether they were skipped, and rows, the oldest first; without so many of all ever added."""
        first = max(since, len(self.steps) - len(self.rows))
        order = torch.arange(first, len(self.steps), device=self.rows.device) % len(self.rows)
        steps = np.array(self.steps[first:], dtype=np.int64)
        rows, skipped = self.rows[order].cpu(), self.skipped[order].cpu()
        return steps, skipped.bool().numpy(), rows.double().numpy()
