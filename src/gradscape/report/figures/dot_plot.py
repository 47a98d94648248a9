"""Dot plot: several numbers compared for many rows, a panel for each number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gradscape.report.figures.base import write_across
from gradscape.report.figures.style import INK, LOOKS, SHADE, styled

ROW = 0.24  # inches, as below
PANEL = 2.0
LABELS = 2.3
EDGES = 1.15  # above and below the rows


@dataclass(frozen=True)
class DotColumn:
    """One panel.

    Attributes:
        title: Name and unit of the number.
        marks: Values per name of a mark: one list for each row, an entry for each seed.
        scale: Scale of the axis; a logarithmic one shows no values that are 0 or less.
        reference: Label and level of a thin line; None for none.
        ticks: All ticks of the axis; None chooses them.
    """

    title: str
    marks: Mapping[str, Sequence[Sequence[float]]]
    scale: Literal["linear", "log"] = "linear"
    reference: tuple[str, float] | None = None
    ticks: tuple[float, ...] | None = None


def dot_figure(labels: Sequence[str], groups: Sequence[str], columns: Sequence[DotColumn]) -> Drawing:
    """Draw a dot for the mean over seeds and a fine one for each seed; every other group of rows is shaded.

    Args:
        labels: Labels of the rows, from the top.
        groups: Group of each row; rows of one follow each other.
        columns: Panels, from the left; the first mark of each is open, the second filled.

    Example:
        >>> drawing = dot_figure(["He"], ["initialization"], [DotColumn("accuracy", {"valid": [[0.4, 0.5]]})])
    """
    with styled():
        size = (LABELS + PANEL * len(columns), EDGES + ROW * len(labels))
        drawing = Drawing(figsize=size, layout="constrained")
        FigureCanvasAgg(drawing)
        panels = np.atleast_1d(drawing.subplots(1, len(columns), sharey=True))
        for axes, column in zip(panels, columns, strict=True):
            _draw_column(axes, column)
            _shade(axes, groups)
        first: Axes = panels[0]
        first.set_yticks(range(len(labels)), labels)
        first.set_ylim(len(labels) - 0.5, -0.5)
    return drawing


def _draw_column(axes: Axes, column: DotColumn) -> None:
    axes.set_xlabel(column.title)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for place, (name, rows) in enumerate(column.marks.items()):
        _draw_marks(axes, name, rows, place, len(column.marks) > 1, column.scale)
    known = any(fits(v, column.scale) for rows in column.marks.values() for values in rows for v in values)
    if not known:
        write_across(axes, "no value")
    elif column.scale == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    if known and column.ticks:
        axes.set_xticks(column.ticks, [f"{tick:g}" for tick in column.ticks])
        axes.set_xlim(0.7 * column.ticks[0], column.ticks[-1] / 0.7)
    if column.reference:
        label, level = column.reference
        axes.axvline(level, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), label=label)
    if len(column.marks) > 1 or column.reference:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, handletextpad=0.3, fontsize=8, ncols=1
        )


def _draw_marks(
    axes: Axes, name: str, rows: Sequence[Sequence[float]], place: int, several: bool, scale: str
) -> None:
    look = LOOKS[place]
    seeds = [(value, row) for row, values in enumerate(rows) for value in values if fits(value, scale)]
    means = [(middle([v for v in values if fits(v, scale)], scale), row) for row, values in enumerate(rows)]
    known = [(value, row) for value, row in means if value is not None]
    axes.scatter(
        [value for value, _ in seeds],
        [row for _, row in seeds],
        s=5,
        color=look.color,
        linewidths=0,
        alpha=0.6,
    )
    face = "none" if several and place == 0 else look.color
    axes.scatter(
        [value for value, _ in known],
        [row for _, row in known],
        s=30,
        marker=look.marker,
        facecolors=face,
        edgecolors=look.color,
        linewidths=1.2,
        label=name,
        zorder=3,
    )


def fits(value: float, scale: str) -> bool:
    """Check that an axis can show a value.

    Args:
        value: Number.
        scale: `linear` or `log`.
    """
    return math.isfinite(value) and (value > 0 or scale == "linear")


def middle(values: Sequence[float], scale: str) -> float | None:
    """Return the mean, on a logarithmic axis the geometric one; None without values.

    Args:
        values: Numbers, above 0 on a logarithmic axis.
        scale: `linear` or `log`.
    """
    if not values:
        return None
    return 10 ** fmean(map(math.log10, values)) if scale == "log" else fmean(values)


def _shade(axes: Axes, groups: Sequence[str]) -> None:
    """Shade every other group."""
    for place, group in enumerate(dict.fromkeys(groups)):
        rows = [row for row, name in enumerate(groups) if name == group]
        if place % 2:
            axes.axhspan(rows[0] - 0.5, rows[-1] + 0.5, color=SHADE, zorder=0, linewidth=0)
