"""Accuracy along one axis of a sweep: the choice of lines, and the panel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from gradscape.analysis.sweep_points import Point, format_setting, in_order, named, numbers, ordered, ranked
from gradscape.config.paths import Value
from gradscape.report.figures.base import add_legend, panel, write_across
from gradscape.report.figures.labels import LETTER, ROOM, make_room, name_across, wrapped
from gradscape.report.figures.style import LOOKS, Look, styled

SPAN = 20.0  # numbers that differ by this factor have a log axis
LINES = len(LOOKS)
CROWD = 25  # with more values on an axis bars would hide one another

PositionOnAxis = Callable[[Value, int, int], float]  # of a value, on a line, of so many lines


def axis_figure(found: Sequence[Point], axis: str) -> tuple[Drawing, str]:
    """Draw final validation accuracy along an axis, a line for each setting of the others.

    Args:
        found: All points of the sweep.
        axis: Name of the axis.

    Returns:
        The drawing, and a note for its caption: which lines there are, and what is cut.

    Example:
        >>> drawing, note = axis_figure(points(study), "optim.lr")
    """
    lines, note = chosen_lines(found, axis)
    drawn = ranked([point for line in lines.values() for point in line])
    with styled():
        drawing, axes = panel()
        axes.set(xlabel=axis, ylabel="validation accuracy")
        if not drawn:
            write_across(axes, "no run is done yet")
            return drawing, note
        place = _horizontal(axes, in_order(ordered(found, axis)))
        for number, (look, (label, line)) in enumerate(zip(LOOKS, lines.items(), strict=False)):
            places = {place(point.values[axis], number, len(lines)): point for point in line}
            _draw_line(axes, dict(sorted(places.items())), look, label)
        cut = _fit(axes, drawn)
        if len(lines) > 1:
            add_legend(drawing, len(lines))
        make_room(drawing, axes)
    return drawing, f"{note} {cut}".strip()


def chosen_lines(found: Sequence[Point], axis: str) -> tuple[dict[str, list[Point]], str]:
    """Return the points of each line per label, and the choice in words.

    One line for each setting of the other axes; where these are too many, one for each value of the axis
    that matters most, the rest as in the best point there.

    Args:
        found: All points of the sweep.
        axis: Name of the axis.
    """
    others = [field for field in found[0].values if field != axis]
    settings: dict[tuple[Value, ...], list[Point]] = {}
    for point in found:
        settings.setdefault(point.others(axis), []).append(point)
    if len(settings) <= LINES:
        return {_line_label(line[0], others): line for line in settings.values()}, ""
    first = max(others, key=lambda field: _influence(found, field))
    values = in_order(ordered(found, first))
    kept = values if len(values) <= LINES else [values[place] for place in evenly(len(values), LINES)]
    lines = {}
    for value in kept:
        there = [point for point in found if point.values[first] == value]
        best = (ranked(there) or there)[0]
        lines[_line_label(best, others)] = settings[best.others(axis)]
    which = "each value" if len(kept) == len(values) else f"{len(kept)} of {len(values)} values"
    rest = ", whose mean accuracies differ most, the rest as in the best point there"
    return lines, (
        f"A line for {which} of {first}{rest if len(others) > 1 else ''}; "
        f"one for each of {len(settings)} settings would be too many."
    )


def _line_label(point: Point, others: Sequence[str]) -> str:
    return wrapped(named({field: point.values[field] for field in others}))


def _influence(found: Sequence[Point], axis: str) -> float:
    """Distance between the mean accuracies of an axis' values; 0 without any."""
    means: dict[Value, list[float]] = {}
    for point in found:
        if point.accuracy is not None:
            means.setdefault(point.values[axis], []).append(point.accuracy.mean)
    known = [fmean(values) for values in means.values()]
    return max(known) - min(known) if known else 0.0


def evenly(count: int, kept: int) -> list[int]:
    """Return evenly spaced ones of 0 … count − 1, both ends among them.

    Args:
        count: Number to choose from.
        kept: Number to choose, 2 or more.

    Example:
        >>> evenly(10, 4)
        [0, 3, 6, 9]
    """
    return [round(place * (count - 1) / (kept - 1)) for place in range(kept)]


def _horizontal(axes: Axes, values: Sequence[Value]) -> PositionOnAxis:
    """Set up the horizontal axis; return the function from a value to its place."""
    known = numbers(values)
    if len(known) > 1 and known[0] > 0 and known[-1] >= SPAN * known[0]:
        return _logarithmic(axes, known)
    name_across(axes, [format_setting(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)
    places = {value: place for place, value in enumerate(values)}
    return lambda value, line, lines: places[value] + _beside(line, lines)


def _logarithmic(axes: Axes, known: Sequence[float]) -> PositionOnAxis:
    """Set up a log axis, with ticks at the values where their names fit."""
    logs = [math.log10(number) for number in known]
    gap = min(b - a for a, b in pairwise(logs))
    margin = max(0.06 * (logs[-1] - logs[0]), gap / 2)
    axes.set(xscale="log", xlim=(10 ** (logs[0] - margin), 10 ** (logs[-1] + margin)))
    scale = ROOM / (logs[-1] - logs[0] + 2 * margin)
    halves = [LETTER * len(format_setting(number)) / 2 for number in known]
    spaces = zip(pairwise(logs), pairwise(halves), strict=True)
    apart = all(scale * (b - a) > left + right + 0.05 for (a, b), (left, right) in spaces)
    axes.xaxis.set_major_locator(FixedLocator(list(known)) if apart else LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_setting(float(value))))
    axes.xaxis.set_minor_locator(NullLocator())
    return lambda value, line, lines: float(value or 0) * 10 ** (gap * _beside(line, lines))


def _beside(line: int, lines: int) -> float:
    """Distance of a line's marks from the value, in steps between values, which keeps bars apart."""
    return (line - (lines - 1) / 2) * min(0.1, 0.5 / lines)


def _draw_line(axes: Axes, places: dict[float, Point], look: Look, label: str) -> None:
    """Draw joined means with their intervals (a band where bars are too many), and a dot for every run."""
    known = {x: point.accuracy for x, point in places.items() if point.accuracy is not None}
    halves = np.array([found.half or 0.0 for found in known.values()])
    means = np.array([found.mean for found in known.values()])
    crowded = len(places) > CROWD
    axes.errorbar(
        list(known),
        means,
        yerr=None if crowded else halves,
        color=look.color,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4.5,
        markevery=-(-len(known) // CROWD) or 1,
        elinewidth=1.1,
        capsize=2.5,
        label=label,
    )
    if crowded:
        axes.fill_between(list(known), means - halves, means + halves, color=look.color, alpha=0.12, lw=0)
    runs = np.array([(x, value) for x in known for value in places[x].accuracies.values()]).reshape(-1, 2)
    axes.plot(*runs.T, "o", color=look.color, alpha=0.35, markersize=3.5, markeredgewidth=0)


def _fit(axes: Axes, drawn: Sequence[Point]) -> str:
    """Fit the vertical axis to all runs, with as much again for intervals; name a cut."""
    values = [value for point in drawn for value in point.accuracies.values()]
    ends = [end for p in drawn if p.accuracy for end in (p.accuracy.low, p.accuracy.high) if end is not None]
    room = max(max(values) - min(values), 0.1) / 2
    bottom = max(min([*values, *ends]), min(values) - room)
    top = min(max([*values, *ends]), max(values) + room)
    margin = max(0.05 * (top - bottom), 0.01)
    axes.set_ylim(max(bottom - margin, -0.02), min(top + margin, 1.02))
    low, high = axes.get_ylim()
    return "Intervals that leave the panel are cut." if any(not low <= end <= high for end in ends) else ""
