"""How smooth the loss was through training: bands and lines over steps, and numbers that decide claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullLocator

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.run_status import (
    counted,
    ended,
    guesses,
    joined,
    members,
    seeds_in_words,
    together,
    unfinished,
)
from gradscape.records.run import RunRecord, StepSmoothness, StudyRecord
from gradscape.report.figures.base import Figure, add_legend, panel, write_across
from gradscape.report.figures.curves import not_done, titled
from gradscape.report.figures.style import LOOKS, styled

FEW = 100.0  # on a log axis shorter than this, powers of ten alone would be too few to read
Value = Callable[[StepSmoothness], float]
Range = Callable[[StepSmoothness], tuple[float, float]]

VALUES: dict[str, tuple[str, Value]] = {
    "beta": ("effective β", lambda measure: measure.beta),
    "lipschitz": ("Lipschitz estimate of the loss", lambda measure: measure.lipschitz),
}
RANGES: dict[str, tuple[str, str, Range]] = {
    "variation": ("loss (nats)", "linear", lambda measure: (min(measure.losses), max(measure.losses))),
    "predictiveness": (
        "change of the gradient", "log", lambda measure: (min(measure.changes), max(measure.changes)),
    ),
}  # fmt: skip
HOW = {
    "gradient": "along the gradient, at two points, ½ and 4 times the learning rate",
    "step": "along the optimiser's real step, at two points, ½ and 4 times its length",
    "relative": (
        "along the gradient with every parameter over its own size, which is free of the weights' scale, "
        "at two points, ρ = 0.05 and 0.4 (Kwon et al. 2021)"
    ),
}
WAYS = {
    "gradient": "along the gradient",
    "step": "along the real step",
    "relative": "relative to the weights' size",
}


def measures(run: RunRecord, along: str) -> list[StepSmoothness]:
    """A run's measures in one direction, in the order of its steps."""
    return [measure for epoch in run.epochs for measure in epoch.smoothness if measure.along == along]


def band_figure(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], what: str, along: str
) -> Figure:
    """The less and the more at the two points, a band for each role (Santurkar et al., Fig. 4a, b)."""
    ylabel, scale, value = RANGES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="step", ylabel=ylabel)
        shown = False
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            steps, ends = over_seeds(study, role, along, value)
            words = labelled(study, role, label)
            axes.plot(steps, ends[:, 1], color=look.colour, linestyle=look.dash, label=words)
            axes.fill_between(steps, ends[:, 0], ends[:, 1], color=look.colour, alpha=0.3, linewidth=0)
            shown = shown or bool(len(steps) and (ends > 0).any())
        finish(drawing, axes, shown and scale, len(roles))
    lead = "The less and the more of two points, means over seeds"
    return Figure(name, titled(name, title), caption(study, roles, lead, along), group, drawing)


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
    """One number of each measure, a line for each role, over steps or epochs (Santurkar et al., Fig. 4c)."""
    ylabel, value = VALUES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch" if per_epoch else "step", ylabel=ylabel)
        shown = False
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            steps, found = over_seeds(study, role, along, lambda measure: (value(measure), value(measure)))
            times = steps / updates(study, role) if per_epoch and len(steps) else steps
            style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker}
            axes.plot(times, found[:, 0], markersize=3, label=labelled(study, role, label), **style)
            shown = shown or bool((found > 0).any())
        finish(drawing, axes, shown and "log", len(roles))
    return Figure(name, titled(name, title), caption(study, roles, "Means over seeds", along), group, drawing)


def over_seeds(study: StudyRecord, role: str, along: str, value: Range) -> tuple[np.ndarray, np.ndarray]:
    """Steps (T,) that every seed has, and the geometric mean over seeds of two numbers (T, 2)."""
    runs = [run for run in members(study, role).values() if run is not None]
    seen = [{measure.step: value(measure) for measure in measures(run, along)} for run in runs]
    steps = sorted(set.intersection(*map(set, seen))) if seen else []
    if not steps:
        return np.zeros(0), np.zeros((0, 2))
    table = np.array([[each[step] for step in steps] for each in seen], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array(steps), np.exp(np.log(table).mean(axis=0))


def updates(study: StudyRecord, role: str) -> int:
    """Steps of an epoch."""
    run = next(run for run in members(study, role).values() if run is not None)
    return math.ceil(int(run.config["data"]["train"]) / int(run.config["batch_size"]))


def fewest_steps(study: StudyRecord, roles: Sequence[str]) -> float:
    """Steps of the role that makes fewest; infinite where there are no runs."""
    runs = {role: [run for run in members(study, role).values() if run is not None] for role in roles}
    steps = [found[0].config["epochs"] * updates(study, role) for role, found in runs.items() if found]
    return min(steps, default=math.inf)


def labelled(study: StudyRecord, role: str, label: str) -> str:
    words = counted(study, role)
    return f"{label} ({words})" if words else label


def finish(drawing: Drawing, axes: Axes, scale: str | Literal[False], entries: int) -> None:
    """Its axis, or why there is nothing on it; and the legend."""
    if scale == "log":
        axes.set(yscale=scale)
        log_ticks(axes.yaxis)
    if not scale:
        write_across(axes, "not measured")
    add_legend(drawing, entries)


def log_ticks(axis: Axis) -> None:
    """Of a log axis that is short or long."""
    low, high = axis.get_view_interval()
    between = (1.0, 2.0, 5.0) if high < FEW * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=between, numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(math.inf, math.inf)))


def caption(study: StudyRecord, roles: Mapping[str, str], lead: str, along: str) -> str:
    counts = [len(members(study, role)) for role in roles]
    return joined(
        [
            f"{lead} ({seeds_in_words(counts)}), {HOW[along]}, on the step's own mini-batch in train mode.",
            not_done(study, roles),
        ]
    )


def typical(
    study: StudyRecord, role: str, what: str, along: str, until: float = math.inf
) -> dict[int, float]:
    """Seed → mean log10 of a number over a run's measures, those of the first steps alone if asked."""
    value, found = VALUES[what][1], {}
    for seed, run in ended(study, role).items():
        numbers = [value(measure) for measure in measures(run, along) if measure.step < until]
        logs = [math.log10(number) for number in numbers if number > 0 and math.isfinite(number)]
        if logs:
            found[seed] = fmean(logs)
    return found


def smoother(
    study: StudyRecord,
    roles: Mapping[str, str],
    what: str,
    along: str,
    until: float = math.inf,
) -> Evidence:
    """Whether a number is smaller for the first of two roles than for the second, paired by seed."""
    (role, label), (other, other_label) = roles.items()
    when = f"the first {until:g} steps" if math.isfinite(until) else "training"
    pairs = differences(typical(study, role, what, along, until), typical(study, other, what, along, until))
    there = pairs or not (ended(study, role) and ended(study, other))
    return below(
        f"log10 of the {VALUES[what][0]} {WAYS[along]}, {label} over {other_label}, mean over {when}",
        pairs,
        0.0,
        together(
            unfinished(study, role), unfinished(study, other), "" if there else f"not measured over {when}"
        ),
        guesses(study, role, other),
    )
