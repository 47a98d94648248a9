"""Rows of a transformer's numbers: on their device until they are read, then thinned as they become many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gradscape.measure.watch.transformer import attention, logits, routers, stream
from gradscape.records.encoding import Values
from gradscape.records.transformer import (
    AttentionHistory,
    LogitHistory,
    RouterHistory,
    StreamHistory,
    TransformerHistory,
)

MOST = 100_000  # numbers in memory, beyond which every second row of the older half is left out
FEWEST = 16  # rows that are kept in any case

# Columns of which the largest of several passes counts.
LARGEST = {
    "attention": (attention.COLUMNS.index("logit"),),
    "logits": (logits.COLUMNS.index("largest"),),
}
# By quantity: by label, numbers (columns, width).
Numbers = Mapping[str, Mapping[str, Tensor]]


def merged(passes: Sequence[Numbers], largest: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Tensor]]:
    """Return the numbers of the passes of one step as one: means, or the largest.

    Args:
        passes: Numbers of each pass.
        largest: Columns of a quantity of which the largest counts.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in dict.fromkeys(name for each in passes for name in each):
        labels = dict.fromkeys(label for each in passes for label in each.get(name, {}))
        found[name] = {
            label: _joined([each[name][label] for each in passes if label in each.get(name, {})],
                           largest.get(name, ()))
            for label in labels
        }  # fmt: skip
    return found


def _joined(values: Sequence[Tensor], largest: Sequence[int]) -> Tensor:
    same = [each.to(values[0].device) for each in values if each.shape == values[0].shape]
    if len(same) == 1:
        return same[0]
    stacked = torch.stack(same)
    mean = stacked.mean(0)
    for column in largest:
        mean[column] = stacked[:, column].amax(0)
    return mean


class Rows:
    """Rows of numbers, oldest first.

    Attributes:
        steps: Step of each row.
        widths: By quantity, its labels in order, and the width of their numbers.
    """

    def __init__(self) -> None:
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
        if len(self.steps) > max(FEWEST, MOST // max(1, size)):
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


def history_of(rows: Rows) -> TransformerHistory:
    """Return rows as a record; waits for the device.

    Args:
        rows: Rows, one at least.
    """

    def tables(name: str, columns: tuple[str, ...], axes: int) -> dict[str, Values]:
        """Return the columns of a quantity, of so many axes: labels and width, labels alone, or neither."""
        whole = rows.table(name, len(columns))
        values = whole if axes == 2 else whole[..., 0] if axes == 1 else whole[..., 0, 0]
        return dict(zip(columns, values, strict=True))

    chosen = rows.widths.get("routers", {})
    routed = tables("routers", routers.COLUMNS, 2) if chosen else {}
    routed = {name: each if name == "load" else each[..., 0] for name, each in routed.items()}
    heads, layers = rows.widths.get("attention", {}), tuple(rows.widths.get("stream", {}))
    return TransformerHistory(
        steps=np.array(rows.steps, dtype=np.int64),
        attention=AttentionHistory(
            tuple(heads), tuple(heads.values()), **tables("attention", attention.COLUMNS, 2)
        )
        if heads
        else None,
        stream=StreamHistory(layers, **tables("stream", stream.COLUMNS, 1)) if layers else None,
        logits=LogitHistory(**tables("logits", logits.COLUMNS, 0)) if rows.widths.get("logits") else None,
        routers=RouterHistory(tuple(chosen), tuple(chosen.values()), **routed) if chosen else None,
    )
