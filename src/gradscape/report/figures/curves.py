"""Curves over the epochs: one panel of them, and a study's accuracy and loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from gradscape._text import literal
from gradscape.analysis.outcomes import (
    count_states,
    describe_states,
    drawn_seeds,
    guessing,
    joined,
    members,
    not_done,
    seeds_in_words,
)
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import (
    Figure,
    add_legend,
    draw_reference,
    panel,
    round_ticks,
    titled,
    write_across,
)
from gradscape.report.figures.labels import make_room, wrapped
from gradscape.report.figures.style import LOOKS, Look, looks, styled

NARROWEST = 0.05  # smallest span of an axis of accuracies or losses


@dataclass(frozen=True)
class Series:
    """One line of a panel of curves.

    Attributes:
        label: Label for the legend, which names what is missing.
        runs: One curve per seed, a value per epoch from the first.
        cut: True for each run that ended early, by diverging or on request.
        look: Color, dash and marker.
    """

    label: str
    runs: tuple[tuple[float, ...], ...]
    cut: tuple[bool, ...]
    look: Look


def curves(
    series: Sequence[Series],
    ylabel: str,
    *,
    reference: tuple[str, float] | None = None,
    bottom: float | None = None,
    beside: Sequence[Series] = (),
) -> Drawing:
    """Draw curves over the epochs: the mean over seeds, and a band from the lowest to the highest seed.

    Mean and band go as far as all seeds do; beyond, each remaining seed is a thin line. A cross marks
    where a run diverged or was stopped. A series without runs keeps its place in the legend.

    Args:
        series: Lines to draw.
        ylabel: Name and unit of the values.
        reference: Label and level of a thin horizontal line.
        bottom: Lower end of the axis; by default just below the values.
        beside: Lines of the panel beside this one, for one scale on both.

    Example:
        >>> drawing = curves([Series("VGG08", ((0.1, 0.2),), (False,), LOOKS[0])], "accuracy")
    """
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch", ylabel=ylabel)
        longest = max((len(run) for one in series for run in one.runs), default=0)
        for one in series:
            draw_series(axes, one, max(longest // 6, 1))
        if longest:
            if reference:
                draw_reference(axes, *reference, beside=True)
            axes.update_datalim([(1, value) for one in beside for run in one.runs for value in run])
            axes.autoscale_view(scalex=False)
            _fit_axes(axes, longest, bottom)
        else:
            write_across(axes, "not run yet")
        add_legend(drawing, len(series))
        if len(series) > len(LOOKS) or any(len(wrapped(one.label).splitlines()) > 1 for one in series):
            make_room(drawing, axes)
    return drawing


def draw_series(axes: Axes, series: Series, every: int) -> None:
    """Draw mean and band over seeds, then the epochs that only some seeds reached, then crosses.

    Args:
        axes: Panel to draw in.
        series: Line to draw.
        every: Number of epochs from one marker to the next.
    """
    look = series.look
    common = min(map(len, series.runs), default=0)
    epochs = np.arange(1, common + 1)
    shared = np.array([run[:common] for run in series.runs]).reshape(len(series.runs), common)
    mean = shared.mean(axis=0) if common else []
    axes.plot(
        epochs,
        mean,
        color=look.color,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4,
        markevery=every,
        label=literal(wrapped(series.label)),
    )
    if len(series.runs) > 1 and common:
        low, high = shared.min(axis=0), shared.max(axis=0)
        axes.fill_between(epochs, low, high, color=look.color, alpha=0.18, linewidth=0)
    for run, cut in zip(series.runs, series.cut, strict=True):
        start = max(common - 1, 0)
        if len(run) > common:
            axes.plot(
                range(start + 1, len(run) + 1),
                run[start:],
                color=look.color,
                linestyle=look.dash,
                linewidth=0.8,
            )
        if cut and run:
            axes.plot(len(run), run[-1], color=look.color, marker="x", markersize=9, markeredgewidth=2)


def _fit_axes(axes: Axes, longest: int, bottom: float | None) -> None:
    """Set whole epochs from 1, and a vertical axis on which constant curves do not look like noise."""
    margin = min(0.2 + 0.02 * longest, 0.9)  # below 1, or the axis would show an epoch 0
    axes.set_xlim(1 - margin, longest + margin)
    axes.set_xticks(round_ticks(longest))
    low, high = axes.get_ylim()
    low = low if bottom is None else bottom
    if high - low < NARROWEST:
        low = low if bottom is not None else (low + high - NARROWEST) / 2
        high = low + NARROWEST
    axes.set_ylim(low, high)


def both_splits(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], what: str
) -> Figure:
    """Draw training and validation curves of a few roles in one panel.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        what: `accuracy` or `loss`.
    """
    lines: list[Series] = []
    for place, (one, (role, label)) in enumerate(zip(looks(len(roles)), roles.items(), strict=True)):
        for split, dash in (("train", "-"), ("valid", "--")):
            other = LOOKS[(len(lines) + place // len(LOOKS)) % len(LOOKS)]
            look = replace(one, dash=dash, marker=other.marker)
            lines.append(series(study, role, f"{label} {split}", f"{split}_{what}", look))
    guess = guessing(study)
    if what == "accuracy":
        drawing = curves(lines, what, reference=("guessing", guess), bottom=0.0)
    else:
        drawing = curves(lines, "loss (nats)", reference=("guessing", -math.log(guess)))
    return Figure(name, titled(name, title), _curve_caption(study, roles), group, drawing)


def one_split(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], split: str
) -> Figure:
    """Draw one split's accuracy of several roles in one panel, on the scale of both splits.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        split: `train` or `valid`.
    """
    lines, beside = (
        [
            series(study, role, label, f"{which}_accuracy", look)
            for look, (role, label) in zip(looks(len(roles)), roles.items(), strict=True)
        ]
        for which in (split, {"train": "valid", "valid": "train"}[split])
    )
    unit = {"train": "training accuracy", "valid": "validation accuracy"}[split]
    drawing = curves(lines, unit, reference=("guessing", guessing(study)), bottom=0.0, beside=beside)
    return Figure(name, titled(name, title), _curve_caption(study, roles), group, drawing)


def series(study: StudyRecord, role: str, label: str, field: str, look: Look) -> Series:
    """Return the line of a role's runs, labeled with what is missing.

    Args:
        study: Record of a study.
        role: Name of the role.
        label: Label of the role.
        field: Name of an `EpochRecord` field.
        look: Color, dash and marker.
    """
    asked = members(study, role)
    runs = [run for run in asked.values() if run is not None and run.epochs]
    words = describe_states(study, role) if len(asked) == 1 else count_states(study, role)
    return Series(
        label=f"{label} ({words})" if words else label,
        runs=tuple(run.curve(field) for run in runs),
        cut=tuple(run.state in ("diverged", "stopped") for run in runs),
        look=look,
    )


def _curve_caption(study: StudyRecord, roles: Mapping[str, str]) -> str:
    counts = drawn_seeds(study, roles)
    many = f"Mean over {seeds_in_words(counts)}, band from the lowest to the highest."
    spread = many if max(counts) > 1 else "One seed."
    mode = "Training values are running means over the epoch, in train mode."
    return joined([spread, mode, not_done(study, roles)])
