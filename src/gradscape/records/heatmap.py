"""Maps of layer × step of a watch's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._text import literal, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ColorScale:
    """Colors of values.

    Attributes:
        label: Label of the color bar.
        range: Range of shares and cosines; None for sizes, whose colors are logarithmic.
        colors: Name of one of matplotlib's color maps.
    """

    label: str
    range: tuple[float, float] | None = None
    colors: str = "viridis"


LETTERS = 22  # of a layer's name
NAMED = 14  # layers whose names have room beside a map
ROWS = 2_000  # most rows that are drawn: of more each is narrower than a pixel, and one hides another
BLANK = "#b4b9c0"  # where a cosine, white at 0, has no value


def draw_map(
    ax: Axes | None,
    steps: NDArray[np.int64],
    layers: Sequence[str],
    values: NDArray[np.float64],
    scale: ColorScale,
    row: Literal["step", "epoch"] = "step",
) -> Axes:
    """Draw layers downwards and time to the right, blank where a value has no color; return the axes.

    A step's cell begins at it and goes to the next step read; an epoch's cell lies around its number.

    Args:
        ax: Axes to draw on; by default a new figure's.
        steps: (T,) Steps or epochs of the rows.
        layers: (L) Names, shown where there is room, else numbered from 1.
        values: (T, L) Values.
        scale: Their colors.
        row: What a row is of. Of more than 2,000 rows every second, third, … is drawn.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    axes = plt.subplots(layout="constrained")[1] if ax is None else ax
    axes.set(xlabel=row, ylabel="layer (input at the top)")
    every = -(-len(steps) // ROWS) or 1
    steps, values = steps[::every], values[::every]
    if scale.colors == "RdBu":
        axes.set_facecolor(BLANK)
    bad = ~(np.isfinite(values) & ((scale.range is not None) | (values > 0)))
    if bad.all():
        axes.text(
            0.5,
            0.5,
            "no value but zeros, or none that is finite",
            transform=axes.transAxes,
            ha="center",
            va="center",
        )
        axes.set(xticks=[], yticks=[])
        return axes
    mesh = axes.pcolormesh(
        _edges(steps) - (0.5 if row == "epoch" else 0),
        np.arange(values.shape[1] + 1) + 0.5,
        np.ma.masked_where(bad, values).T,
        norm=LogNorm() if scale.range is None else Normalize(*scale.range),
        cmap=scale.colors,
        rasterized=True,  # thousands of cells as one image
    )
    axes.figure.colorbar(mesh, ax=axes, label=scale.label)
    axes.invert_yaxis()
    name_layers(axes, layers)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def name_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Write the names of layers, the input at the top, where there is room; else their numbers from 1.

    Args:
        axes: Axes with a layer a row, the first at a height of 1.
        layers: (L) Names.
    """
    from matplotlib.ticker import MaxNLocator

    if len(layers) <= NAMED:
        names = [literal(shorten(name.removesuffix(".weight"), LETTERS)) for name in layers]
        axes.set_yticks(range(1, len(layers) + 1), names, fontsize="small")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _edges(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the edges (T + 1,) of cells that begin at each step."""
    if not len(steps):
        return np.zeros(1)
    last = steps[-1] + (steps[-1] - steps[-2] if len(steps) > 1 else 1)
    return np.append(steps, last).astype(np.float64)
