"""Rows of a watch around a spike, and the layers whose gradient or update left its usual range first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values
from gradscape.records.spike_search import FLOOR, WINDOW, Noise
from gradscape.records.spikes import LayerMove, Spike, SpikeWindow

BEFORE, AFTER = 20, 10  # rows around a spike
USUAL = 60  # rows before these, from which a layer's usual range is taken
MOST = 8  # layers that are named
CHANCE = 0.05  # share of spikes before which one of all the layers leaves its range by chance


@dataclass(frozen=True)
class FlowRows:
    """Rows of a watch.

    Attributes:
        steps: (T,) Steps.
        layers: Names of P parameters.
        gradients: (T, P) ‖∂L/∂W‖; NaN where there is none.
        updates: (T, P) ‖ΔW‖.
    """

    steps: NDArray[np.int64]
    layers: tuple[str, ...]
    gradients: Values
    updates: Values


def with_rows(spike: Spike, rows: FlowRows, steps: NDArray[np.int64], losses: Values) -> Spike:
    """Return a spike with the rows around it, and what moved about it.

    Args:
        spike: Spike of `spikes_of`.
        rows: Rows that are in memory.
        steps, losses: (S,) Loss at every step, of which the rows are some.
    """
    place = int(np.searchsorted(rows.steps, spike.first))
    part = slice(max(0, place - BEFORE), place + AFTER)
    if not len(rows.steps[part]):
        return spike
    moves = _moves(spike, rows, place)
    names = tuple(dict.fromkeys(each.layer for each in moves))
    columns = [rows.layers.index(name) for name in names]
    at = np.minimum(np.searchsorted(steps, rows.steps[part]), len(steps) - 1)
    window = SpikeWindow(
        steps=rows.steps[part],
        losses=np.where(steps[at] == rows.steps[part], losses[at], math.nan),
        gradient=_together(rows.gradients[part]),
        update=_together(rows.updates[part]),
        layers=names,
        gradients=rows.gradients[part][:, columns],
        updates=rows.updates[part][:, columns],
    )
    return replace(spike, moves=moves, window=window)


def _together(norms: Values) -> Values:
    """Return the norm of all parameters; NaN where none has one."""
    known = ~np.isnan(norms)
    with np.errstate(over="ignore"):
        total: Values = np.sqrt((np.where(known, norms, 0.0) ** 2).sum(axis=1))
    return np.where(known.any(axis=1), total, math.nan)


def _moves(spike: Spike, rows: FlowRows, place: int) -> tuple[LayerMove, ...]:
    """Return the parameters that left their usual range by the spike's peak, the first ones first."""
    start = max(0, place - BEFORE)
    if start < WINDOW:  # a spike early on: fewer rows are left for what is usual
        start = max(place - BEFORE // 2, 0)
    if start < WINDOW:
        return ()
    usual = slice(max(0, start - USUAL), start)
    end = max(place + 1, int(np.searchsorted(rows.steps, spike.peak, side="right")))
    found: list[LayerMove] = []
    tables: Sequence[tuple[Literal["gradient", "update"], Values]] = (
        ("gradient", rows.gradients),
        ("update", rows.updates),
    )
    for quantity, table in tables:
        logs = _logarithms(table[usual.start : end])
        for column, name in enumerate(rows.layers):
            before, now = logs[: start - usual.start, column], logs[start - usual.start :, column]
            before = before[np.isfinite(before)]
            if len(before) < WINDOW:
                continue
            middle = float(np.median(before))
            if not (now - middle > math.log(FLOOR)).any():
                continue
            noise = Noise.of(before - middle, 2 * len(rows.layers) * BEFORE / CHANCE)
            high = np.flatnonzero(now - middle > noise.limit)
            if len(high):
                step, rise = int(rows.steps[start + high[0]]), float(now[high[0]] - middle)
                height = rise / noise.deviation if noise.deviation > 0 else math.inf
                factor = math.exp(rise) if math.isfinite(rise) else math.inf
                found.append(LayerMove(name, quantity, step, spike.first - step, factor, height))
    return tuple(sorted(found, key=lambda each: (each.step, -each.factor))[:MOST])


def _logarithms(norms: Values) -> Values:
    """Return logarithms: NaN where there is no norm or it is 0, infinite where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Values = np.log(np.where(norms > 0, norms, math.nan))
    return found
