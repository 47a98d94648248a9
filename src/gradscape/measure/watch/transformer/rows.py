"""Rows of a transformer's numbers: those of several passes as one, and their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gradscape.measure.watch.thinned_rows import Numbers, Rows
from gradscape.measure.watch.transformer import attention, logits, routers, stream
from gradscape.records.encoding import Values
from gradscape.records.transformer import (
    AttentionHistory,
    LogitHistory,
    RouterHistory,
    StreamHistory,
    TransformerHistory,
)

# Columns of which the largest of several passes counts.
LARGEST = {
    "attention": (attention.COLUMNS.index("logit"),),
    "logits": (logits.COLUMNS.index("largest"),),
}


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
