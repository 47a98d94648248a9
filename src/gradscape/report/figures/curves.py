"""Figures of a study's roles: gradient flow, accuracy and loss, and in words what is missing from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gradscape.analysis.gradient_flow import flows
from gradscape.analysis.run_status import (
    count_states,
    describe_states,
    guessing,
    joined,
    members,
    seeds_in_words,
)
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import Figure, Series, curves, gradient_flow
from gradscape.report.figures.style import LOOKS, Look


def flow_figure(
    study: StudyRecord, name: str, title: str, group: str, role: str, band: tuple[float, float] | None = None
) -> Figure:
    """Draw the gradient flow of one role, all seeds, with a range to shade and Adam's epsilon marked.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        role: Name of the role.
        band: Range of gradients to shade.
    """
    runs = [run for run in members(study, role).values() if run is not None and run.epochs]
    epsilons = {float(run.config["optim"]["eps"]) for run in runs if _by_adam(run)}
    marks = {f"Adam's ε = {_scientific(eps)}": eps for eps in sorted(epsilons)}
    words = describe_states(study, role)
    drawing, note = gradient_flow([flows(run) for run in runs], band=band, marks=marks, absent=words)
    seeds = f" and seed ({len(runs)} seeds)" if len(runs) > 1 else ""
    caption = [f"Mean |∂L/∂W| of each weight layer over an epoch, one line per epoch{seeds}."]
    if band:
        caption.append(f"Shaded: {band[0]:g} to {band[1]:g}, where the paper finds them.")
    caption += [note, f"{title.removeprefix('Gradient flow of ')}: {words}." if words else ""]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def _by_adam(run: RunRecord) -> bool:
    """True if its optimizer is Adam, the only one of older records."""
    return bool(run.config["optim"].get("name", "adam") == "adam")


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
    for place, (role, label) in enumerate(roles.items()):
        for split, dash in (("train", "-"), ("valid", "--")):
            look = replace(LOOKS[place], dash=dash, marker=LOOKS[len(lines)].marker)
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
    """Draw one split's accuracy of several roles in one panel.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        split: `train` or `valid`.
    """
    lines = [
        series(study, role, label, f"{split}_accuracy", LOOKS[place])
        for place, (role, label) in enumerate(roles.items())
    ]
    unit = {"train": "training accuracy", "valid": "validation accuracy"}[split]
    drawing = curves(lines, unit, reference=("guessing", guessing(study)), bottom=0.0)
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
    counts = [len(members(study, role)) for role in roles]
    seeds = seeds_in_words(counts)
    many = f"Mean over {seeds}, band from the lowest to the highest."
    spread = many if max(counts) > 1 else "One seed."
    mode = "Training values are running means over the epoch, in train mode."
    return joined([spread, mode, not_done(study, roles)])


def not_done(study: StudyRecord, roles: Mapping[str, str]) -> str:
    """Return a sentence on the runs that are not done; empty if all are.

    Args:
        study: Record of a study.
        roles: Label per role.
    """
    words = [
        f"{label}: {states}" for role, label in roles.items() if (states := describe_states(study, role))
    ]
    return f"{'; '.join(words)}." if words else ""


def _scientific(value: float) -> str:
    """`1e-8`, where `:g` has `1e-08`."""
    return np.format_float_scientific(value, trim="-", exp_digits=1)


def titled(name: str, title: str) -> str:
    """Return a title with the figure's number before it.

    Args:
        name: File name of the figure.
        title: Title without number.
    """
    return f"{name.replace('figure-', 'Figure ')}. {title}"
