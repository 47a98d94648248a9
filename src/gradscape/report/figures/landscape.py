"""Drawings of landscapes: contours and surfaces on one scale, slices, an animation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from gradscape._text import literal
from gradscape.errors import ConfigError
from gradscape.records.encoding import Values
from gradscape.records.landscape import LandscapeRecord, filled, is_uneven, levels_for, mark_models
from gradscape.report.figures.base import add_legend, panel
from gradscape.report.figures.labels import make_room
from gradscape.report.figures.style import INK, LOOKS, SHADOW, looks, styled

COLORS = "viridis"  # rises evenly in lightness: its order survives in gray
PANEL, TALL = 3.4, 3.4  # inches of one of several panels
TICKS = 8  # most ticks of a scale
LINES = 10  # contour lines over the filled ones, about
SMOOTH = 15  # frames from one surface to the next


def contours(records: Mapping[str, LandscapeRecord], axis: str = "loss") -> Drawing:
    """Draw filled contours of planes side by side on one scale, with the path of a training if there is one.

    Args:
        records: Record of dims 2 per name; of several pairs of directions the first is drawn.
        axis: `loss`, or a metric's name.

    Raises:
        ConfigError: A record is not a plane, or has no such metric.
    """
    levels = common_levels(records.values(), axis)
    with styled():
        drawing, panels = _row_of_panels(len(records))
        for place, ((name, record), axes) in enumerate(zip(records.items(), panels, strict=True)):
            shown = draw_contours(axes, record, levels, axis)
            axes.set_ylabel(record.directions[1] if not place else "")
            axes.xaxis.set_major_locator(MaxNLocator(5, prune="both"))
            axes.set_title(literal(name), fontsize=10)
        add_scale(drawing, shown, list(panels), levels, axis)
    return drawing


def common_levels(records: Iterable[LandscapeRecord], axis: str = "loss", top: float = np.inf) -> Values:
    """Return levels of contours that suit all of several planes.

    Args:
        records: Records of dims 2.
        axis: `loss`, or a metric's name.
        top: Highest level.
    """
    return levels_for(np.concatenate([first_surface(record, axis).ravel() for record in records]), top)


def draw_contours(axes: Any, record: LandscapeRecord, levels: Values, axis: str = "loss") -> Any:
    """Draw one plane's contours, with the path of a training where there is one; return the filled contours.

    Args:
        axes: Panel.
        record: Record of dims 2.
        levels: Levels of the contours.
        axis: `loss`, or a metric's name.
    """
    surface = first_surface(record, axis)
    shown = filled(axes, record.axes, surface, levels)
    lines = levels[:: max(1, len(levels) // LINES)]
    axes.contour(
        *record.axes, np.ma.masked_invalid(surface.T), levels=lines, colors=INK, linewidths=0.4, alpha=0.6
    )
    if record.path is not None:
        axes.plot(*record.path.coordinates.T, color="white", linewidth=2.6)
        axes.plot(*record.path.coordinates.T, "o-", color=SHADOW, markersize=2.5, linewidth=1)
    for color, size, width in ((SHADOW, 11, 3.2), ("white", 9, 1.4)):  # seen on every color of the map
        axes.plot(0, 0, "+", color=color, markersize=size, markeredgewidth=width)
    axes.set(xlabel=record.directions[0], ylabel=record.directions[1])
    for each in (axes.xaxis, axes.yaxis):
        each.set_major_locator(MaxNLocator(5))
    axes.grid(False)
    return shown


def contour_panel(record: LandscapeRecord, levels: Values) -> Drawing:
    """Draw filled contours of one plane's loss, with their scale.

    Args:
        record: Record of dims 2.
        levels: Levels of the contours, the same for each panel of a figure.
    """
    with styled():
        drawing, axes = panel()
        add_scale(drawing, draw_contours(axes, record, levels), axes, levels)
    return drawing


def add_scale(drawing: Drawing, shown: Any, panels: Any, levels: Values, axis: str = "loss") -> None:
    """Add the colors' scale beside panels.

    Args:
        drawing: Figure.
        shown: Filled contours of one of its panels.
        panels: Panels beside the scale.
        levels: Levels of the contours.
        axis: `loss`, or a metric's name.
    """
    bar = drawing.colorbar(shown, ax=panels, label=axis, pad=0.02, aspect=28)
    bar.minorticks_off()
    ticks = ticks_of(levels)
    bar.set_ticks(ticks, labels=tick_labels(ticks))


def surfaces(records: Mapping[str, LandscapeRecord], axis: str = "loss") -> Drawing:
    """Draw planes as surfaces in three dimensions, on one scale.

    Args:
        records: Record of dims 2 per name.
        axis: `loss`, or a metric's name.
    """
    heights = {name: first_surface(record, axis) for name, record in records.items()}
    levels = common_levels(records.values(), axis)
    uneven = is_uneven(levels)
    with styled():
        drawing = Drawing(figsize=(PANEL * len(records) + 0.6, TALL), layout="constrained")
        FigureCanvasAgg(drawing)
        for place, (name, record) in enumerate(records.items()):
            axes: Any = drawing.add_subplot(1, len(records), place + 1, projection="3d")
            _draw_surface(axes, record.axes, heights[name], levels)
            axes.set_xlabel(record.directions[0], fontsize=8, labelpad=0)
            axes.set_ylabel(record.directions[1], fontsize=8, labelpad=3)
            axes.set_zlabel(f"{axis}, log scale" if uneven else axis, fontsize=8, labelpad=2)
            axes.set_title(literal(name), fontsize=10)
    return drawing


def _draw_surface(axes: Any, grid: Sequence[Values], surface: Values, levels: Values) -> None:
    """Draw a surface, of logarithms where losses differ by orders of magnitude (3D has no log axis)."""
    uneven = is_uneven(levels)
    there = np.log10 if uneven else np.array
    with np.errstate(divide="ignore", invalid="ignore"):
        height = there(np.where(np.isfinite(surface), surface, np.nan))
    low, high = (float(there(np.array(end))) for end in (levels[0], levels[-1]))
    x, y = np.meshgrid(*grid, indexing="ij")
    axes.plot_surface(
        x, y, height, cmap=COLORS, vmin=low, vmax=high, rcount=60, ccount=60, linewidth=0, antialiased=True
    )
    axes.set_zlim(low, high)
    axes.set_box_aspect(None, zoom=0.85)  # room for labels, which no layout knows of
    axes.tick_params(labelsize=7, pad=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.zaxis.set_major_locator(MaxNLocator(5, integer=bool(uneven and high - low > 2)))
    if uneven:
        axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(10**value)))


def slices(records: Mapping[str, LandscapeRecord], axis: str = "loss") -> Drawing:
    """Draw lines with a band over directions, from the lowest to the highest.

    Args:
        records: Record of dims 1 per name.
        axis: `loss`, or a metric's name.
    """
    with styled():
        drawing, axes = panel()
        for look, (name, record) in zip(looks(len(records)), records.items(), strict=True):
            lines = _of_all(record, axis)
            c = record.axes[0]
            axes.plot(c, lines.mean(axis=0), color=look.color, linestyle=look.dash, label=literal(name))
            if len(lines) > 1:
                axes.fill_between(
                    c, lines.min(axis=0), lines.max(axis=0), color=look.color, alpha=0.2, linewidth=0
                )
        first = next(iter(records.values()))
        mark_models(axes, first)
        axes.set(xlabel=first.directions[0], ylabel=axis)
        values = np.concatenate([_of_all(record, axis).ravel() for record in records.values()])
        if is_uneven(levels_for(values)):
            axes.set_yscale("log")
            ticks = ticks_of(levels_for(values))
            axes.set_yticks(ticks, tick_labels(ticks))
            axes.yaxis.set_minor_locator(NullLocator())
        add_legend(drawing, len(records))
        if len(records) > len(LOOKS):
            make_room(drawing, axes)
    return drawing


def save_animation(records: Mapping[str, LandscapeRecord], path: str | Path, axis: str = "loss") -> Path:
    """Write a GIF in which one surface becomes the next, such as those of a training's epochs.

    Args:
        records: Record of dims 2 per moment, all on the same grid.
        path: Path of the file.
        axis: `loss`, or a metric's name.

    Raises:
        ConfigError: There are fewer than two surfaces, or their grids differ.
    """
    heights = [first_surface(record, axis) for record in records.values()]
    if len(heights) < 2 or len({each.shape for each in heights}) > 1:
        raise ConfigError("animation: give two surfaces or more, all of the same number of points")
    levels = common_levels(records.values(), axis)
    names, grid = list(records), next(iter(records.values())).axes
    with styled():
        drawing = Drawing(figsize=(4.2, 3.8), layout="constrained")
        FigureCanvasAgg(drawing)
        axes: Any = drawing.add_subplot(projection="3d")

        def frame(number: int) -> list[Any]:
            first, share = divmod(number, SMOOTH)
            axes.clear()
            here, there = heights[first], heights[min(first + 1, len(heights) - 1)]
            _draw_surface(axes, grid, here + (there - here) * share / SMOOTH, levels)
            axes.set_title(literal(names[first]), fontsize=10)
            axes.set_zlabel(axis, fontsize=8)
            return []

        film = FuncAnimation(drawing, frame, frames=(len(heights) - 1) * SMOOTH + 1)
        target = Path(path)
        aside = target.with_name(f".{target.stem}.part.gif")
        film.save(aside, writer=PillowWriter(fps=15))
    aside.replace(target)
    return target


def first_surface(record: LandscapeRecord, axis: str) -> Values:
    """Return the surface (P, Q) of a record's first pair of directions.

    Args:
        record: Record of dims 2.
        axis: `loss`, or a metric's name.

    Raises:
        ConfigError: It is not a plane, or has no such metric.
    """
    if record.dims != 2:
        raise ConfigError("a slice has no contours; give a record of dims=2, or draw it as slices")
    first: Values = _of_all(record, axis)[0]
    return first


def _of_all(record: LandscapeRecord, axis: str) -> Values:
    """Return the loss or a metric (K, …)."""
    if axis == "loss":
        return record.loss
    if axis not in record.metrics:
        known = ", ".join(["loss", *record.metrics])
        raise ConfigError(f"{axis!r} was not measured; known here: {known}")
    return record.metrics[axis]


def _row_of_panels(count: int) -> tuple[Drawing, Any]:
    drawing = Drawing(figsize=(PANEL * count + 0.9, TALL), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing, drawing.subplots(1, count, sharey=True, squeeze=False)[0]


def short_number(value: float, digits: int = 3) -> str:
    """Return a number as short as it is readable.

    Args:
        value: Number, 0 or more.
        digits: Significant digits, at most; one less from 1,000 on.

    Example:
        >>> [short_number(value) for value in (0.5, 100, 2_000_000)]
        ['0.5', '100', '2e6']
    """
    if value < 1_000:
        return f"{value:.{digits}g}"
    return f"{value:.{digits - 1}g}".replace("e+0", "e").replace("e+", "e")


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return a short label for each tick of a scale, with as many digits as tell them apart.

    Args:
        ticks: Numbers that differ, 0 or more.

    Example:
        >>> tick_labels([2.3101, 2.3102])
        ['2.3101', '2.3102']
    """
    labels: list[str] = []
    for digits in range(3, 18):
        labels = [short_number(tick, digits) for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def ticks_of(levels: Values) -> list[float]:
    """Return round numbers for a scale.

    Args:
        levels: Levels of the contours, increasing.
    """
    if not is_uneven(levels):
        ticks = MaxNLocator(6).tick_values(float(levels[0]), float(levels[-1]))
        return [tick for tick in ticks if levels[0] <= tick <= levels[-1]]
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        steps = [m * 10.0**k for k in range(-12, 40) for m in digits]
        inside = [step for step in steps if levels[0] <= step <= levels[-1]]
        if len(inside) <= TICKS:
            return inside
    return inside[:: math.ceil(len(inside) / TICKS)]
