"""Ring buffer of the last rows of measurements, on their device until they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Ring:
    """Ring buffer of rows (columns, parameters); a new row replaces the oldest.

    Args:
        capacity: Number of rows.
        columns: Number of columns per row.
        like: Tensor (parameters,) of the device and dtype of the rows.
    """

    def __init__(self, capacity: int, columns: int, like: Tensor) -> None:
        self.rows = like.new_full((capacity, columns, len(like)), math.nan)
        self.skipped = like.new_zeros(capacity)
        self.steps: list[int] = []

    def add(self, step: int) -> int:
        """Add a row of NaN, which counts as skipped until it is filled; it replaces the oldest.

        Args:
            step: Step of the training.

        Returns:
            Number of the row, among all rows ever added.
        """
        place = len(self.steps) % len(self.rows)
        self.rows[place] = math.nan
        self.skipped[place] = 1.0
        self.steps.append(step)
        return len(self.steps) - 1

    def fill(self, number: int, places: Sequence[int], values: Tensor, skipped: Tensor | None) -> None:
        """Fill a part of a row; a row counts as skipped if all steps in it were skipped.

        Args:
            number: Result of `add`.
            places: Indices of n parameters.
            values: Values (columns, n).
            skipped: GradScaler's `found_inf` on its device; None for a step that was made.
        """
        place = number % len(self.rows)
        self.rows[place][:, places] = values
        now = 0.0 if skipped is None else skipped.reshape(()).to(self.skipped)
        self.skipped[place] *= now

    def widened(self, where: Sequence[int | None], like: Tensor) -> Ring:
        """Return the rows for other parameters.

        Args:
            where: Index in this ring for each parameter; None for a new one.
            like: See `Ring`.
        """
        found = Ring(len(self.rows), self.rows.shape[1], like)
        known = [(now, before) for now, before in enumerate(where) if before is not None]
        for now, before in known:
            found.rows[:, :, now] = self.rows[:, :, before]
        found.skipped, found.steps = self.skipped, self.steps
        return found

    def read(self, since: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return steps, whether they were skipped, and rows, oldest first.

        Args:
            since: Number of rows to leave out, of all ever added.
        """
        first = max(since, len(self.steps) - len(self.rows))
        order = torch.arange(first, len(self.steps), device=self.rows.device) % len(self.rows)
        steps = np.array(self.steps[first:], dtype=np.int64)
        rows, skipped = self.rows[order].cpu(), self.skipped[order].cpu()
        return steps, skipped.bool().numpy(), rows.double().numpy()
