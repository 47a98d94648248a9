"""Curves and gradients of a few points of a sweep: all, or the best and the worst of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullLocator

from gradscape.analysis.gradient_flow import Flows, flows
from gradscape.analysis.sweep_points import Point, named, ranked
from gradscape.config.run import DATASETS
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import add_legend, panel, round_ticks, write_across
from gradscape.report.figures.curves import curves, series
from gradscape.report.figures.gradient_flow import flow_note, heights_of, limits, mark_zeros
from gradscape.report.figures.labels import make_room, wrapped
from gradscape.report.figures.style import Look, looks, styled

MOST = 8  # most points in a panel


def chosen(found: Sequence[Point]) -> tuple[list[Point], str]:
    """Return the points to draw, and the choice in words.

    Args:
        found: All points of the sweep.
    """
    if len(found) <= MOST:
        return list(found), ""
    best = ranked(found)
    if len(best) >= MOST:
        half = MOST // 2
        return best[:half] + best[-half:], f"The best {half} and the worst {half} of {len(found)} points."
    rest = [point for point in found if point.accuracy is None]
    return (best + rest)[:MOST], f"{MOST} of {len(found)} points, those with runs that are done first."


def curve_figure(study: StudyRecord, found: Sequence[Point]) -> tuple[Drawing, str]:
    """Draw validation accuracy by epoch of the chosen points.

    Args:
        study: Record of a sweep.
        found: All its points.

    Returns:
        The drawing, and a note on the choice for its caption.

    Example:
        >>> drawing, note = curve_figure(study, points(study))
    """
    few, note = chosen(found)
    lines = [
        series(study, point.label, named(point.values), "valid_accuracy", look)
        for point, look in zip(few, looks(len(few)), strict=True)
    ]
    guess = _guesses(few)
    drawing = curves(
        lines,
        "validation accuracy",
        reference=("guessing", guess) if guess else None,
        bottom=0.0,
    )
    with styled():
        make_room(drawing, drawing.axes[0])
    return drawing, note


def _guesses(found: Sequence[Point]) -> float | None:
    """Accuracy of guessing; None where the runs are on data of different numbers of classes."""
    runs = [run for point in found for run in point.runs.values() if run is not None]
    classes = {DATASETS[run.config["data"]["name"]].classes for run in runs}
    return 1 / classes.pop() if len(classes) == 1 else None


def flow_lines(found: Sequence[Point]) -> tuple[Drawing, str]:
    """Draw mean |∂L/∂W| of every weight layer in the last epoch, geometric mean over seeds, of chosen points.

    Args:
        found: All points of the sweep.

    Returns:
        The drawing, and a note for its caption.

    Example:
        >>> drawing, note = flow_lines(points(study))
    """
    few, note = chosen(found)
    flows = {point.label: _last_flow(point) for point in few}
    shown = [flow for flow in flows.values() if flow.size]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="weight layer, input → output", ylabel="mean |∂L/∂W|")
        if not shown:
            write_across(axes, "not run yet")
            return drawing, note
        floor, ceiling = limits(shown, None)
        axes.set(yscale="log", ylim=(floor, ceiling))
        axes.yaxis.set_major_locator(LogLocator(numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        deepest = max(flow.size for flow in shown)
        for point, look in zip(few, looks(len(few)), strict=True):
            label = named(point.values) if flows[point.label].size else f"{named(point.values)} (not run yet)"
            _draw_flow(axes, flows[point.label], floor, deepest, look, wrapped(label))
        axes.set_xlim(1 - 0.02 * deepest, deepest * 1.02)
        axes.set_xticks(round_ticks(deepest))
        add_legend(drawing, len(few))
        make_room(drawing, axes)
    return drawing, f"{note} {flow_note(shown)}".strip()


def _last_flow(point: Point) -> Flows:
    """Geometric mean of each weight layer over the runs that have an epoch and equal depth."""
    runs = [run for run in point.runs.values() if run is not None and run.epochs]
    flows = [flow for flow in map(_weights, runs) if flow.size]
    if not flows:
        return np.array([])
    with np.errstate(divide="ignore", invalid="ignore"):  # a layer that is 0 in one run is 0 in the mean
        mean: Flows = np.exp(np.mean(np.log([flow for flow in flows if flow.size == flows[0].size]), axis=0))
    return mean


def _weights(run: RunRecord) -> Flows:
    found = flows(run)
    return found[-1] if found.size else found


def _draw_flow(axes: Axes, flow: Flows, floor: float, deepest: int, look: Look, label: str) -> None:
    """A line over the layers; zeros as triangles on the floor."""
    depth = np.arange(1, flow.size + 1)
    axes.plot(
        depth,
        heights_of(flow, floor),
        color=look.color,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4,
        markevery=max(deepest // 8, 1),
        label=label,
    )
    mark_zeros(axes, depth[flow == 0], floor)
