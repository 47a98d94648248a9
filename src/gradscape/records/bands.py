"""Bands of quantiles over steps, on an axis that is logarithmic on both sides of 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._text import literal, shorten
from gradscape.records.encoding import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOR = "#2a6f97"
DECADES = 6  # most decades of an axis on either side of 0
POINTS = 1_000  # most readings that are drawn
LETTERS = 40  # of a label


def draw_bands(ax: Axes | None, steps: NDArray[np.int64], values: Values, label: str) -> Axes:
    """Draw quantiles over steps: the median as a line, 25 to 75 % and 5 to 95 % as bands; return the axes.

    Args:
        ax: Axes to draw on; by default a new figure's.
        steps: (T,) Steps.
        values: (T, 7) Quantiles, lowest first; NaN leaves a gap.
        label: Label of the axis of values.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    axes = plt.subplots(layout="constrained")[1] if ax is None else ax
    axes.set(xlabel="step", ylabel=literal(shorten(label, LETTERS)))
    every = -(-len(steps) // POINTS) or 1
    steps, values = steps[::every], values[::every]
    if not np.isfinite(values).any():
        text = "no finite value was read"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return axes
    axes.set_yscale("symlog", linthresh=linear_until(values))
    low, lower, quarter, median, three, upper, high = values.T
    axes.fill_between(steps, lower, upper, color=COLOR, alpha=0.2, linewidth=0, label="5 to 95 %")
    axes.fill_between(steps, quarter, three, color=COLOR, alpha=0.4, linewidth=0, label="25 to 75 %")
    axes.plot(steps, low, color=COLOR, linewidth=0.8, linestyle=":", label="1 and 99 %")
    axes.plot(steps, high, color=COLOR, linewidth=0.8, linestyle=":")
    marker = "." if len(steps) == 1 else ""
    axes.plot(steps, median, color=COLOR, linewidth=1.6, label="median", marker=marker)
    axes.axhline(0, color="gray", linewidth=0.6, zorder=0)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=2,
        fontsize="small",
        frameon=False,
        columnspacing=1.2,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def linear_until(values: Values) -> float:
    """Return the power of ten up to which an axis of both signs is linear, for no band to end within it.

    That is the decade of the smallest quartile, at most six decades below the largest quantile.

    Args:
        values: (T, 7) Quantiles.
    """
    sizes, quartiles = np.abs(values), np.abs(values[:, [2, 4]])
    seen = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not seen.size:
        return 1.0
    inner = quartiles[np.isfinite(quartiles) & (quartiles > 0)]
    small = float(inner.min()) if inner.size else float(seen.min())
    largest = math.floor(math.log10(float(seen.max())))
    return float(10.0 ** max(math.floor(math.log10(small)), largest - DECADES))
