"""Panels of a measure of smoothness side by side on one scale, a pair of networks in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from gradscape.analysis.equal_loss import BIN, LEARNING, RolePair, loss_bin
from gradscape.analysis.outcomes import drawn_seeds, joined, members, not_done, seeds_in_words
from gradscape.analysis.smoothness import VALUES, Place, mean_logs
from gradscape.records.encoding import Values
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, add_legend, titled, write_across
from gradscape.report.figures.smoothness import HOW, log_ticks
from gradscape.report.figures.style import LOOKS, SHADE, styled

PANEL, HEIGHT = 2.7, 3.2  # inches
NAMES = ("with BatchNorm", "without")  # of the lines, in the order of a pair


@dataclass(frozen=True)
class Across:
    """Horizontal axis of the panels.

    Attributes:
        label: Name of the axis.
        place: Function from a run and its measure to the place on the axis.
        falling: True if the axis begins at its largest value.
        shade: Range to shade; None for none.
        words: Sentence of the caption.
    """

    label: str
    place: Place
    falling: bool
    shade: tuple[float, float] | None
    words: str


BY_LOSS = Across(
    "loss, share of guessing's",
    loss_bin,
    True,
    LEARNING,
    f"Over the mini-batch's own loss in bins of {BIN:g}, as it falls; shaded where claims compare, whose "
    "losses are means over neighboring measures.",
)
BY_STEP = Across("step", lambda run, measure: measure.step, False, None, "Over the steps of training.")


def pair_figure(
    study: StudyRecord,
    name: str,
    title: str,
    group: str,
    pairs: Mapping[str, RolePair],
    what: str,
    along: str,
    across: Across,
) -> Figure:
    """Draw one measure of every pair, with BatchNorm and without, on one scale.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        pairs: Roles of each pair per title of its panel.
        what: Key of `smoothness.VALUES`.
        along: Key of `HOW`.
        across: Horizontal axis.
    """
    ylabel, _ = VALUES[what]
    with styled():
        drawing = Drawing(figsize=(PANEL * len(pairs), HEIGHT), layout="constrained")
        FigureCanvasAgg(drawing)
        panels: list[Axes] = list(np.atleast_1d(drawing.subplots(1, len(pairs), sharex=True, sharey=True)))
        shown = [
            _draw_pair(study, axes, pair, what, along, across)
            for axes, pair in zip(panels, pairs.values(), strict=True)
        ]
        for axes, text in zip(panels, pairs, strict=True):
            axes.set_title(text, fontsize=10)
        panels[0].set(ylabel=ylabel)
        _finish(drawing, panels, shown, across)
    roles = {role: study.roles[role].label for pair in pairs.values() for role in pair if role in study.roles}
    caption = [
        f"Geometric means over {seeds_in_words(drawn_seeds(study, roles))}, bands from the lowest to the "
        f"highest, {HOW[along]}, on the step's own mini-batch in train mode.",
        across.words,
        not_done(study, roles),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def _draw_pair(study: StudyRecord, axes: Axes, pair: RolePair, what: str, along: str, across: Across) -> bool:
    """Draw the lines of a pair; return True if there are any."""
    axes.set(xlabel=across.label)
    shown = False
    for look, role in zip(LOOKS, pair, strict=False):
        places, low, middle, high = _curve(study, role, what, along, across.place)
        marker = look.marker if across.falling else ""
        axes.plot(places, middle, color=look.color, linestyle=look.dash, marker=marker, markersize=3)
        axes.fill_between(places, low, high, color=look.color, alpha=0.18, linewidth=0)
        shown = shown or bool(len(places))
    if across.shade and shown:
        axes.axvspan(*across.shade, color=SHADE, zorder=0, linewidth=0)
    return shown


def _finish(drawing: Drawing, panels: list[Axes], shown: list[bool], across: Across) -> None:
    """Set the common axes and add the legend, or write in a panel that it is empty."""
    if any(shown):
        for line, label in zip(panels[0].lines, NAMES, strict=True):
            line.set_label(label)
        add_legend(drawing, len(NAMES))
        panels[0].set(yscale="log")
        log_ticks(panels[0].yaxis)
        if across.falling:
            panels[0].set(xlim=(panels[0].get_xlim()[1], 0.0))
    for axes, there in zip(panels, shown, strict=True):
        if not there and any(shown):
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
        elif not there:
            write_across(axes, "not measured")


def _curve(
    study: StudyRecord, role: str, what: str, along: str, place: Place
) -> tuple[Values, Values, Values, Values]:
    """Return places (T,), and lowest, geometric mean and highest of the seeds that have a measure there."""
    by_seed = [mean_logs(run, what, along, place) for run in members(study, role).values() if run is not None]
    places = sorted({x for means in by_seed for x in means})
    rows = [[means[x] for means in by_seed if x in means] for x in places]
    ends = np.array([(min(row), sum(row) / len(row), max(row)) for row in rows]).reshape(len(rows), 3)
    low, middle, high = (10**ends).T
    return np.array(places), low, middle, high
