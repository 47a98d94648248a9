"""Networks before their first step, layer by layer: a line for each role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from gradscape.analysis.outcomes import count_states, joined, members, not_done, seeds_in_words
from gradscape.records.encoding import Values
from gradscape.records.run import StudyRecord
from gradscape.records.signal import RunStart
from gradscape.report.figures.base import Figure, add_legend, panel, round_ticks, titled, write_across
from gradscape.report.figures.style import LOOKS, styled

LayerValues = Callable[[RunStart], Values]


def depth_figure(
    study: StudyRecord,
    name: str,
    title: str,
    group: str,
    roles: Mapping[str, str],
    value: LayerValues,
    ylabel: str,
    scale: Literal["linear", "log"],
    lead: str,
) -> Figure:
    """Draw a number of every weight layer at initialization: mean over seeds, band from lowest to highest.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role, one look each.
        value: Function from a run's start to one number for each weight layer, input to output.
        ylabel: Name of the number.
        scale: Scale of the axis; on a logarithmic one the mean is geometric, and 0 leaves a gap.
        lead: First sentence of the caption.
    """
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="weight layer, input → output", ylabel=ylabel)
        deepest, shown, seeds = 0, False, list[int]()
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            rows = _starts(study, role, value, scale)
            depth = np.arange(1, rows.shape[1] + 1)
            middle = _over_seeds(rows, scale)
            style = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
            every = max(rows.shape[1] // 8, 1)
            named = label if len(rows) else f"{label} ({count_states(study, role) or 'not measured'})"
            axes.plot(depth, middle, markersize=4, markevery=every, label=named, **style)  # type: ignore[arg-type]
            if len(rows) > 1:
                axes.fill_between(
                    depth, rows.min(axis=0), rows.max(axis=0), color=look.color, alpha=0.18, linewidth=0
                )
            deepest = max(deepest, rows.shape[1])
            seeds += [len(rows)] * bool(len(rows))
            shown = shown or bool(np.isfinite(middle).any())
        if deepest:
            axes.set_xlim(1 - 0.02 * deepest, deepest * 1.02)
            axes.set_xticks(round_ticks(deepest))
        if shown and scale == "log":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=9))
            axes.yaxis.set_minor_locator(NullLocator())
        if not shown:
            write_across(axes, "0 or not finite" if deepest else "not measured")
        add_legend(drawing, len(roles))
    many = f"Mean over {seeds_in_words(seeds or [0])}, band from the lowest to the highest."
    caption = joined([lead, many, not_done(study, roles)])
    return Figure(name, titled(name, title), caption, group, drawing)


def _starts(study: StudyRecord, role: str, value: LayerValues, scale: str) -> np.ndarray:
    """Numbers (seeds, layers) of the runs that were measured; NaN for values that the axis cannot show."""
    runs = [run for run in members(study, role).values() if run is not None and run.start is not None]
    rows = np.array([value(run.start) for run in runs if run.start], dtype=np.float64)
    if not rows.size:
        return np.zeros((0, 0))
    return np.where(rows > 0, rows, np.nan) if scale == "log" else rows


def _over_seeds(rows: np.ndarray, scale: str) -> np.ndarray:
    if not len(rows):
        return np.zeros(0)
    mean: np.ndarray = 10 ** np.log10(rows).mean(axis=0) if scale == "log" else rows.mean(axis=0)
    return mean
