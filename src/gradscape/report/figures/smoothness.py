"""Smoothness of the loss through training: bands and lines over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullLocator

from gradscape.analysis.outcomes import (
    count_states,
    drawn_seeds,
    joined,
    not_done,
    seeds_in_words,
)
from gradscape.analysis.smoothness import VALUES, Range, over_seeds, updates
from gradscape.records.encoding import Values
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, add_legend, panel, titled, write_across
from gradscape.report.figures.style import LOOKS, styled

FEW = 100.0  # a log axis that spans less has more ticks than powers of ten


def _least_and_most(values: Values) -> tuple[float, float]:
    return float(values.min()), float(values.max())


RANGES: dict[str, tuple[str, str, Range]] = {
    "variation": ("loss (nats)", "linear", lambda measure: _least_and_most(measure.line.losses)),
    "predictiveness": (
        "change of the gradient", "log", lambda measure: _least_and_most(measure.line.changes),
    ),
}  # fmt: skip
HOW = {
    "gradient": "along the gradient, at two points, ½ and 4 times the learning rate",
    "step": "along the optimizer's real step, at two points, ½ and 4 times its length",
    "relative": (
        "along the gradient with every parameter over its own size, which is free of the weights' scale, "
        "at two points, ρ = 0.05 and 0.4 (Kwon et al. 2021)"
    ),
}


def band_figure(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], what: str, along: str
) -> Figure:
    """Draw a band between the two points' numbers for each role (Santurkar et al., Fig. 4a, b).

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        what: Key of `RANGES`.
        along: Key of `HOW`.
    """
    ylabel, scale, value = RANGES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="step", ylabel=ylabel)
        shown = False
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            steps, ends = over_seeds(study, role, along, value)
            words = labeled(study, role, label)
            axes.plot(steps, ends[:, 1], color=look.color, linestyle=look.dash, label=words)
            axes.fill_between(steps, ends[:, 0], ends[:, 1], color=look.color, alpha=0.3, linewidth=0)
            shown = shown or bool(len(steps) and (ends > 0).any())
        finish(drawing, axes, shown and scale, len(roles))
    lead = "Band from the smaller to the larger of two values, means over seeds"
    return Figure(name, titled(name, title), _caption(study, roles, lead, along), group, drawing)


def line_figure(
    study: StudyRecord,
    name: str,
    title: str,
    group: str,
    roles: Mapping[str, str],
    what: str,
    along: str,
    per_epoch: bool = False,
) -> Figure:
    """Draw one number of each measure over steps or epochs, a line for each role (Santurkar et al., Fig. 4c).

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        what: Key of `VALUES`.
        along: Key of `HOW`.
        per_epoch: Draw over epochs, not steps.
    """
    ylabel, value = VALUES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch" if per_epoch else "step", ylabel=ylabel)
        shown = False
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            steps, found = over_seeds(study, role, along, lambda measure: (value(measure), value(measure)))
            times = steps / updates(study, role) if per_epoch and len(steps) else steps
            style: dict[str, Any] = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
            axes.plot(times, found[:, 0], markersize=3, label=labeled(study, role, label), **style)
            shown = shown or bool((found > 0).any())
        finish(drawing, axes, shown and "log", len(roles))
    return Figure(
        name, titled(name, title), _caption(study, roles, "Means over seeds", along), group, drawing
    )


def labeled(study: StudyRecord, role: str, label: str) -> str:
    """Return a role's label with the states of its runs that are not done.

    Args:
        study: Record of a study.
        role: Name of the role.
        label: Label of the role.
    """
    words = count_states(study, role)
    return f"{label} ({words})" if words else label


def finish(drawing: Drawing, axes: Axes, scale: str | Literal[False], entries: int) -> None:
    """Set the panel's axis, or write why it is empty; add the legend.

    Args:
        drawing: Figure.
        axes: Its panel.
        scale: `linear` or `log`; False for an empty panel.
        entries: Number of entries of the legend.
    """
    if scale == "log":
        axes.set(yscale=scale)
        log_ticks(axes.yaxis)
    if not scale:
        write_across(axes, "not measured")
    add_legend(drawing, entries)


def log_ticks(axis: Axis) -> None:
    """Set the ticks of a log axis by its length.

    Args:
        axis: Axis of a panel.
    """
    low, high = axis.get_view_interval()
    between = (1.0, 2.0, 5.0) if high < FEW * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=between, numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(math.inf, math.inf)))


def _caption(study: StudyRecord, roles: Mapping[str, str], lead: str, along: str) -> str:
    seeds = seeds_in_words(drawn_seeds(study, roles))
    return joined(
        [
            f"{lead} ({seeds}), {HOW[along]}, on the step's own mini-batch in train mode.",
            not_done(study, roles),
        ]
    )
