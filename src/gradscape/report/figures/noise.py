"""Noise of the gradient after training: by batch size, and against the accuracy of the run.

SGD walks on a loss that its noise smooths (Kleinberg et al. 2018): the noise of a step has the deviation
lr √tr Σ_B, which falls with the batch size B as 1 / √B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes

from gradscape.analysis.noise import step_noise
from gradscape.analysis.outcomes import ended, final, joined, not_done
from gradscape.records.encoding import Values
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import Figure, add_legend, panel, titled, write_across
from gradscape.report.figures.smoothness import log_ticks
from gradscape.report.figures.style import INK, LOOKS, styled

RAW = (
    "The noise is that of the raw gradient at the trained weights, and lr that of the first epoch; Adam "
    "divides a gradient by its own size before it takes a step."
)
STEP = r"noise of a step, lr $\sqrt{\mathrm{tr}\ \Sigma_B}$"
Lines = Mapping[str, Mapping[str, str]]  # label of a line → role → label of a point on it
PointOfRun = Callable[[RunRecord], tuple[float, float]]


def trace_figure(study: StudyRecord, name: str, title: str, group: str, lines: Lines) -> Figure:
    """Draw tr Σ_B against B on log axes, a line for each group of roles, and 1 / B.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        lines: Labels of the points per role, for each label of a line.
    """

    def place(run: RunRecord) -> tuple[float, float]:
        return (
            (run.noise.record.batch_size, run.noise.record.batch_trace) if run.noise else (math.nan, math.nan)
        )

    with styled():
        drawing, axes = panel()
        axes.set(xlabel="batch size B", ylabel=r"gradient noise, tr $\Sigma_B$", xscale="log", yscale="log")
        means = _draw_lines(axes, study, lines, place)
        if len(means):
            sizes, middle = np.unique(means[:, 0]), np.exp(np.log(means).mean(axis=0))
            inverse = middle[1] * middle[0] / sizes
            axes.plot(sizes, inverse, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), label="1 / B")
            log_ticks(axes.yaxis)
            log_ticks(axes.xaxis)
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        else:
            write_across(axes, "not measured")
        add_legend(drawing, len(lines) + bool(len(means)))
    caption = [
        "Trace of the covariance of a mini-batch's gradient, at the weights that each run came to, BatchNorm "
        "as in training: means over seeds, and a faint dot for every run. At weights that were the "
        "same, and of images that do not depend on one another, it would be as 1 / B.",
        not_done(study, _flat(lines)),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def outcome_figure(study: StudyRecord, name: str, title: str, group: str, lines: Lines) -> Figure:
    """Draw final validation accuracy against a step's noise, a line for each group of roles.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        lines: Labels of the points per role, for each label of a line.
    """
    with styled():
        drawing, axes = panel()
        axes.set(xlabel=STEP, ylabel="validation accuracy", xscale="log")
        means = _draw_lines(
            axes, study, lines, lambda run: (step_noise(run), final(run, "valid_accuracy").mean), ends=True
        )
        if len(means):
            log_ticks(axes.xaxis)
        else:
            write_across(axes, "not measured")
        add_legend(drawing, len(lines))
    caption = [
        "Means over seeds, and a faint dot for every run; a line goes through the batch sizes, its ends are "
        f"named. {RAW}",
        not_done(study, _flat(lines)),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def _draw_lines(
    axes: Axes, study: StudyRecord, lines: Lines, place: PointOfRun, ends: bool = False
) -> Values:
    """Draw a line through the means of its roles and a dot for each run; return all means (roles, 2).

    `ends`: name the first and the last role of a line by its batch size.
    """
    means: list[Values] = []
    for look, (label, roles) in zip(LOOKS, lines.items(), strict=False):
        found = [np.array([place(run) for run in ended(study, role).values() if run.noise]) for role in roles]
        seen = [runs.mean(axis=0) for runs in found if len(runs)]
        named = [
            str(study.roles[role].parameters["batch_size"])
            for role, runs in zip(roles, found, strict=True)
            if len(runs)
        ]
        x, y = np.array(seen).reshape(-1, 2).T
        axes.plot(
            x, y, color=look.color, linestyle=look.dash, marker=look.marker, markersize=4.5, label=label
        )
        for runs in found:
            axes.plot(*runs.reshape(-1, 2).T, "o", color=look.color, alpha=0.35, markersize=3.5, mew=0)
        for at in (0, -1) if ends and seen else ():
            axes.annotate(
                named[at], (x[at], y[at]), xytext=(4, 4), textcoords="offset points",
                fontsize=7, color=look.color,
            )  # fmt: skip
        means += seen
    return np.array(means).reshape(-1, 2)


def _flat(lines: Lines) -> dict[str, str]:
    """Role → line and point, for a caption."""
    return {role: f"{label}, {point}" for label, roles in lines.items() for role, point in roles.items()}
