"""Ring buffer of the last rows of measurements, on their device until they are read."""

from __future__ import annotations

import math
from collections import deque
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

    Attributes:
        count: Number of rows ever added.
    """

    def __init__(self, capacity: int, columns: int, like: Tensor) -> None:
        self.rows = like.new_full((capacity, columns, len(like)), math.nan)
        self.skipped = like.new_zeros(capacity)
        self.count = 0
        self._steps: deque[int] = deque(maxlen=capacity)

    def add(self, step: int) -> int:
        """Add a row of NaN, which counts as skipped until it is filled; it replaces the oldest.

        Args:
            step: Step of the training.

        Returns:
            Number of the row, among all rows ever added.
        """
        place = self.count % len(self.rows)
        self.rows[place] = math.nan
        self.skipped[place] = 1.0
        self._steps.append(step)
        self.count += 1
        return self.count - 1

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
        found.skipped, found.count, found._steps = self.skipped, self.count, self._steps
        return found

    def read(self, since: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return steps, whether they were skipped, and rows, oldest first.

        Args:
            since: Number of rows to leave out, of all ever added.
        """
        first = min(self.count, max(since, self.count - len(self.rows)))
        order = torch.arange(first, self.count, device=self.rows.device) % len(self.rows)
        known = self.count - len(self._steps)
        steps = np.array([*self._steps][first - known :], dtype=np.int64)
        rows, skipped = self.rows[order].cpu(), self.skipped[order].cpu()
        return steps, skipped.bool().numpy(), rows.double().numpy()
