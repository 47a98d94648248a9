"""Signals between layers that a watch has seen, as plain arrays; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.heatmap import ColorScale, draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = {
    "second_moment": ColorScale("mean h² of the output"),
    "correlation": ColorScale("correlation of two samples", (-1.0, 1.0), "RdBu"),
    "dead": ColorScale("share of dead units", (0.0, 1.0)),
    "saturated": ColorScale("share of saturated values", (0.0, 1.0)),
}


@dataclass(frozen=True, eq=False, repr=False)
class ActivationHistory(Displayable, Record):
    """Every layer's output in the forward passes of a training, in the order in which layers ran.

    Arrays (T, L) have a row for each row of the `FlowHistory` they belong to and a column for each call of a
    layer, which is a module that calls no other; NaN where it did not run or there is nothing to measure. A
    row is the mean over the passes whose gradients the step used, a micro-batch each. In distributed training
    each process sees its own samples.

    Attributes:
        layers: (L) `input`, which the first layer was given, then module names; `name (call 2)` for a module
            called again.
        kinds: (L) `input`, or as in `SignalRecord`.
        widths: (L) Numbers in a layer's output for each sample.
        steps: (T,) Optimizer's step of each row, from 0.
        second_moment: (T, L) Mean h² of the output over samples, units and positions.
        correlation: (T, L) Mean cosine between a weight layer's outputs for two of at most 16 samples,
            uncentered; of the input too. Samples lie along the first axis of what the first layer is given.
        dead: (T, L) For a ReLU-like activation the share of units that are ≤ 0 on every sample and position
            of the batch; of a weight layer that is not given another layer's very output, but what a function
            such as `F.relu` made of it, the share of its inputs that are exactly 0 on all of them.
        saturated: (T, L) Share of values where tanh's or sigmoid's derivative is < 1 % of its largest.
        nonfinite: (T, L) True if the output had an infinite value or NaN.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    widths: tuple[int, ...]
    steps: NDArray[np.int64]
    second_moment: Values
    correlation: Values
    dead: Values
    saturated: Values
    nonfinite: NDArray[np.bool_]

    @property
    def origin(self) -> tuple[int, int] | None:
        """Row and column of the first output that was not finite; None if all were."""
        rows = np.flatnonzero(self.nonfinite.any(axis=1))
        return (int(rows[0]), int(np.argmax(self.nonfinite[rows[0]]))) if len(rows) else None

    def plot(self, ax: Axes | None = None, statistic: str = "second_moment") -> Axes:
        """Draw a map of layer × step; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
            statistic: `second_moment` (its colors logarithmic), `correlation`, `dead` or `saturated`.
        """
        return draw_map(ax, self.steps, self.layers, getattr(self, statistic), SCALES[statistic])

    def __str__(self) -> str:
        return f"the outputs of {len(self.layers)} layers over {len(self.steps)} rows"
