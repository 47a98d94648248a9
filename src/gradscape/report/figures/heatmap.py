"""Accuracy over two axes of a sweep: a heat map with the numbers in its cells."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from gradscape.analysis.sweep_points import Point, format_setting, in_order, ordered
from gradscape.config.paths import Value
from gradscape.records.encoding import Values
from gradscape.report.figures.base import SHADES, panel, write_across
from gradscape.report.figures.labels import LETTER, longest, make_room, name_across, name_up
from gradscape.report.figures.style import HEIGHT, WIDTH, styled

COLORS = "viridis"  # rises evenly in lightness: its order survives in gray
HATCHES = "#8a929b"  # readable on light and dark
LIGHT, DARK = "#fdfdfd", "#101214"  # numbers in cells; not the colors that follow the page's theme
COLUMNS, ROWS = 10, 24  # most cells that have room for numbers
BESIDE, BELOW = 1.3, 0.8  # inches that the scale and the axes' names take


def heat_figure(found: Sequence[Point], across: str, up: str) -> tuple[Drawing, str]:
    """Draw final validation accuracy over the values of two axes, mean over seeds and all other axes.

    Args:
        found: All points of the sweep.
        across: Name of the horizontal axis.
        up: Name of the vertical axis.

    Returns:
        The drawing, and a note on the cells for its caption.

    Example:
        >>> drawing, note = heat_figure(points(study), "optim.lr", "net.depth")
    """
    columns, rows = (in_order(ordered(found, axis)) for axis in (across, up))
    cells, whole = _means(found, (across, columns), (up, rows))
    written = len(columns) <= COLUMNS and len(rows) <= ROWS
    with styled():
        drawing, axes = panel()
        axes.set(xlabel=across, ylabel=up)
        axes.grid(visible=False)
        if np.isnan(cells).all():
            write_across(axes, "no run is done yet")
            return drawing, ""
        drawing.set_size_inches(WIDTH, float(np.clip(0.3 * len(rows) + 1.2, HEIGHT, 6.5)))
        colors = mpl.colormaps[COLORS].resampled(SHADES)
        norm = _scale(cells)
        _draw_cells(axes, cells, norm, colors)
        names = [format_setting(value) for value in rows]
        name_across(
            axes, [format_setting(value) for value in columns], WIDTH - BESIDE - LETTER * longest(names)
        )
        name_up(axes, names, drawing.get_figheight() - BELOW)
        if written:
            _write_numbers(axes, cells, whole, norm, colors)
        _add_bar(drawing, axes, norm, colors)
        make_room(drawing, axes)
    return drawing, _note(found, cells, whole, written)


def _means(
    found: Sequence[Point], across: tuple[str, Sequence[Value]], up: tuple[str, Sequence[Value]]
) -> tuple[Values, np.ndarray]:
    """Return the mean accuracy [rows, columns], NaN without a run that is done, and which cells are whole."""
    groups: dict[tuple[Value, Value], list[Point]] = {}
    for point in found:
        groups.setdefault((point.values[up[0]], point.values[across[0]]), []).append(point)
    cells, whole = np.full((len(up[1]), len(across[1])), np.nan), np.ones((len(up[1]), len(across[1])), bool)
    for row, y in enumerate(up[1]):
        for column, x in enumerate(across[1]):
            members = groups.get((y, x), [])
            known = [point.accuracy.mean for point in members if point.accuracy is not None]
            cells[row, column] = fmean(known) if known else np.nan
            whole[row, column] = all(point.complete for point in members)
    return cells, whole


def _scale(cells: Values) -> Normalize:
    """Scale from the lowest to the highest mean, at least 0.01 wide: equal cells look alike."""
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    spare = max(0.0, 0.01 - (high - low)) / 2
    return Normalize(low - spare, high + spare)


def _draw_cells(axes: Axes, cells: Values, norm: Normalize, colors: Colormap) -> None:
    """Color cells that have a mean; elsewhere the ground's hatches show."""
    axes.patch.set(hatch="////", edgecolor=HATCHES)
    edges = [np.arange(count + 1) - 0.5 for count in reversed(cells.shape)]
    axes.pcolormesh(*edges, np.ma.masked_invalid(cells), cmap=colors, norm=norm, edgecolors="face")


def _write_numbers(axes: Axes, cells: Values, whole: np.ndarray, norm: Normalize, colors: Colormap) -> None:
    few = cells.shape[1] <= 6
    for (row, column), mean in np.ndenumerate(cells):
        if np.isnan(mean):
            continue
        red, green, blue, _ = colors(norm(mean))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axes.text(
            column,
            row,
            f"{mean:.{3 if few else 2}f}{'' if whole[row, column] else '*'}",
            ha="center",
            va="center",
            fontsize=8 if few else 7,
            color=DARK if dark else LIGHT,
        )


def _add_bar(drawing: Drawing, axes: Axes, norm: Normalize, colors: Colormap) -> None:
    mapped = ScalarMappable(norm, colors)
    bar = drawing.colorbar(mapped, ax=axes, label="validation accuracy", pad=0.02, aspect=28)
    bar.locator = MaxNLocator(nbins=6)
    bar.outline.set_visible(False)
    assert bar.solids is not None
    bar.solids.set_edgecolor("face")  # else viewers show hairlines between the shades
    bar.update_ticks()


def _note(found: Sequence[Point], cells: Values, whole: np.ndarray, written: bool) -> str:
    """Describe a cell, and what some cells lack."""
    axes = len(found[0].values)
    over = "over seeds" if axes == 2 else "over seeds and over all settings of the other axes"
    notes = [f"Mean {over}, of the runs that are done."]
    if np.isnan(cells).any():
        notes.append("Hatched: no run that is done.")
    if written and not (whole | np.isnan(cells)).all():
        notes.append("*: not all of its runs are done.")
    if not written:
        notes.append("The numbers are in the table of points.")
    return " ".join(notes)
