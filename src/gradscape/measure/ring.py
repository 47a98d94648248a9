"""The last rows of measurements, on their device until they are read."""

from __future__ import annotations

import math

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

    def add(self, step: int, row: Tensor, skipped: Tensor | bool | None = None) -> None:
        place = len(self.steps) % len(self.rows)
        self.rows[place] = row
        self.skipped[place] = skipped.reshape(()) if isinstance(skipped, Tensor) else float(bool(skipped))
        self.steps.append(step)

    def read(self, since: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Steps, whether they were skipped, and rows, the oldest first; without so many of all ever added."""
        first = max(since, len(self.steps) - len(self.rows))
        order = torch.arange(first, len(self.steps), device=self.rows.device) % len(self.rows)
        steps = np.array(self.steps[first:], dtype=np.int64)
        rows, skipped = self.rows[order].cpu(), self.skipped[order].cpu()
        return steps, skipped.bool().numpy(), rows.double().numpy()
