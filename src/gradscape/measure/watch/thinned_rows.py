"""Rows of numbers by label: on their device until they are read, and thinned as they become many."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gradscape.records.encoding import Values

FEWEST = 16  # rows that are kept in any case
# By quantity: by label, numbers (columns, width).
Numbers = Mapping[str, Mapping[str, Tensor]]


class Rows:
    """Rows of numbers, oldest first.

    Args:
        most: Number of numbers in memory, beyond which every second row of the older half is left out.

    Attributes:
        steps: Step of each row.
        widths: By quantity, its labels in order, and the width of their numbers.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.steps: list[int] = []
        self._rows: list[dict[str, dict[str, Values]] | None] = []  # None of one that is on its device
        self._pending: dict[int, dict[str, dict[str, Tensor]]] = {}
        self.widths: dict[str, dict[str, int]] = {}

    def add(self, step: int, numbers: dict[str, dict[str, Tensor]]) -> None:
        """Add a row.

        Args:
            step: Number of the step.
            numbers: Numbers of the row.
        """
        for name, values in numbers.items():
            known = self.widths.setdefault(name, {})
            known |= {label: max(each.shape[1], known.get(label, 0)) for label, each in values.items()}
        self._pending[len(self.steps)] = numbers
        self.steps.append(step)
        self._rows.append(None)
        size = sum(each.numel() for values in numbers.values() for each in values.values())
        if len(self.steps) > max(FEWEST, self.most // max(1, size)):
            self._thin()

    def _thin(self) -> None:
        """Leave out every second row of the older half."""
        half = len(self.steps) // 2
        keep = [*range(0, half, 2), *range(half, len(self.steps))]
        self._pending = {now: self._pending[old] for now, old in enumerate(keep) if old in self._pending}
        self._rows = [self._rows[old] for old in keep]
        self.steps = [self.steps[old] for old in keep]

    def table(self, name: str, columns: int) -> Values:
        """Return the numbers of a quantity, (columns, T, labels, width); waits for the device.

        Args:
            name: Name of the quantity.
            columns: Number of columns.
        """
        self._read()
        widths = self.widths.get(name, {})
        places = {label: place for place, label in enumerate(widths)}
        rows = [{} if row is None else row.get(name, {}) for row in self._rows]
        table = np.full((columns, len(rows), len(widths), max(widths.values(), default=0)), math.nan)
        for t, row in enumerate(rows):
            for label, values in row.items():
                table[:, t, places[label], : values.shape[1]] = values
        return table

    def _read(self) -> None:
        """Copy what is still on its device, a row at once."""
        for place, numbers in self._pending.items():
            flat = [each for values in numbers.values() for each in values.values()]
            device = flat[0].device if flat else torch.device("cpu")
            joined = torch.cat([each.to(device, torch.float64).flatten() for each in flat]) if flat else None
            values = iter(
                () if joined is None else np.split(joined.cpu().numpy(), np.cumsum([e.numel() for e in flat]))
            )
            self._rows[place] = {
                name: {label: next(values).reshape(tuple(each.shape)) for label, each in own.items()}
                for name, own in numbers.items()
            }
        self._pending = {}
