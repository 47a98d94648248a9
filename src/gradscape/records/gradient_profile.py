"""Gradient of each weight layer at the steps that a diagnosis rests on, and its drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import literal, shorten
from gradscape.records.encoding import Values
from gradscape.records.heatmap import LETTERS, NAMED, name_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, INK = "#0072b2", "#d55e00", "#1f2329"  # told apart without colors too: by their markers


@dataclass(frozen=True, repr=False)
class GradientProfile(Record):
    """Mean |∂L/∂W| of each weight layer, input to output.

    Attributes:
        layers: Names of the weights.
        values: Median over the last rows; infinite where an element was not finite in any of them, NaN where
            there never was a gradient.
    """

    layers: tuple[str, ...]
    values: tuple[float, ...]

    def place_of(self, layer: str) -> int | None:
        """Return the place of a weight, or of the module that has it; None if it is not among them.

        Args:
            layer: Name of a weight, or of a module's call.
        """
        module = layer.partition(" (call")[0]
        names = {name: place for place, name in enumerate(self.layers)}
        return names.get(layer, names.get(f"{module}.weight"))

    def plot(self, axes: Axes, layer: str = "") -> Axes:
        """Draw the layers downwards and their gradients to the right, on a logarithmic axis; return the axes.

        Zeros are triangles at the left edge, what is not finite crosses at the right one.

        Args:
            axes: Axes to draw on.
            layer: Name of a layer to mark; empty for none.
        """
        values, depth = np.array(self.values), np.arange(1, len(self.values) + 1)
        positive = np.isfinite(values) & (values > 0)
        axes.plot(np.where(positive, values, np.nan), depth, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set(xscale="log", xlabel="mean |∂L/∂W|", ylabel="layer (input at the top)")
        if positive.any():
            axes.set_xlim(*_decades(values[positive]))
            axes.xaxis.set_minor_formatter("")  # within a decade they lie on one another
        else:
            axes.set_xticks([])
        _mark_edge(axes, depth[values == 0], 0.0, "<", "0")
        _mark_edge(axes, depth[np.isinf(values)], 1.0, "X", "not finite")
        self._mark(axes, self.place_of(layer))
        axes.set_ylim(len(values) + 0.5, 0.5)
        name_layers(axes, self.layers)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        return axes

    def _mark(self, axes: Axes, place: int | None) -> None:
        """Mark a layer, and name it where there is no room for all names."""
        if place is None:
            return
        where = "here" if len(self.layers) <= NAMED else f"at {shorten(self.layers[place], LETTERS)}"
        axes.axhspan(place + 0.5, place + 1.5, color=RED, alpha=0.25, label=literal(f"begins {where}"))


def _mark_edge(axes: Axes, depth: NDArray[np.int64], edge: float, marker: str, label: str) -> None:
    """Draw layers that a logarithmic axis cannot show, at one of its ends."""
    if len(depth):
        across = axes.get_yaxis_transform()
        axes.plot(
            np.full(len(depth), edge), depth, marker, color=INK, transform=across, clip_on=False, label=label
        )


def _decades(values: Values) -> tuple[float, float]:
    """Return whole decades around positive values: gradients that differ by little look alike."""
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    return float(10.0**low), float(10.0 ** max(high, low + 1))
