"""Learning rates and clipping in each row of a watch, beside its ring of readings."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscape.records.encoding import Values

Places = NDArray[np.int64]


class SettingRows:
    """Settings of the steps in the last rows; NaN and 1 where a row has none.

    Args:
        capacity: Number of rows in memory.
    """

    def __init__(self, capacity: int) -> None:
        # By part of a row: indices of parameters, which rows share, and their rates, one if all are equal.
        self._rates: deque[list[tuple[Places, Values]]] = deque(maxlen=capacity)
        self._clip: deque[list[Tensor]] = deque(maxlen=capacity)
        self._rows = 0  # ever added

    def fill(self, row: int, places: Sequence[int], rates: Sequence[float], clip: Tensor | None) -> None:
        """Fill a part of a row; rows before it that have no part are empty.

        Args:
            row: Number of the row, among all rows ever.
            places: Indices of n parameters.
            rates: (n,) Their learning rates.
            clip: Norm of their gradients after clipping over that before, on its device; None without any.
        """
        self._catch_up(row + 1)
        known = self._rates[-2][:1] if len(self._rates) > 1 else []
        where = next((each for each, _ in known if each.tolist() == list(places)), np.array(places))
        same = len(set(rates)) == 1
        self._rates[-1].append((where, np.array(rates[:1] if same else rates, dtype=np.float64)))
        if clip is not None:
            self._clip[-1].append(clip)

    def _catch_up(self, rows: int) -> None:
        while self._rows < rows:
            self._rates.append([])
            self._clip.append([])
            self._rows += 1

    def widen(self, where: Sequence[int | None]) -> None:
        """Move the rows to other parameters.

        Args:
            where: Index among the earlier parameters for each parameter; None for a new one.
        """
        moved = {before: now for now, before in enumerate(where) if before is not None}
        for row in self._rates:
            for part, (places, rates) in enumerate(row):
                kept = [at for at, place in enumerate(places.tolist()) if place in moved]
                now = np.array([moved[place] for place in places[kept].tolist()], dtype=np.int64)
                row[part] = now, rates[kept] if len(rates) == len(places) else rates

    def rates(self, rows: int, ever: int, parameters: int) -> Values:
        """Return (T, P) learning rates of the last rows.

        Args:
            rows: T, the number of rows.
            ever: Number of rows ever added.
            parameters: P, the number of parameters.
        """
        self._catch_up(ever)
        found = np.full((rows, parameters), math.nan)
        for t, row in enumerate(list(self._rates)[len(self._rates) - rows :]):
            for places, rates in row:
                found[t, places] = rates
        return found

    def clipped(self, rows: int, ever: int) -> Values:
        """Return (T,) factors of clipping in the last rows; waits for the device.

        Args:
            rows: T, the number of rows.
            ever: Number of rows ever added.
        """
        self._catch_up(ever)
        last = list(self._clip)[len(self._clip) - rows :]
        found = np.ones(rows)
        places = [t for t, factors in enumerate(last) for _ in factors]
        if places:
            factors = torch.stack([factor for row in last for factor in row]).cpu().double().numpy()
            np.minimum.at(found, places, factors)
        return found
