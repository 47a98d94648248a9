"""Smoothness of the loss through training, and which of two networks is smoother."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.outcomes import (
    ended,
    guesses,
    members,
    together,
    unfinished,
)
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness

StepValue = Callable[[StepSmoothness], float]
Place = Callable[[RunRecord, StepSmoothness], float]
Range = Callable[[StepSmoothness], tuple[float, float]]


VALUES: dict[str, tuple[str, StepValue]] = {
    "beta": ("effective β", lambda measure: measure.beta),
    "lipschitz": ("Lipschitz estimate of the loss", lambda measure: measure.lipschitz),
}


WAYS = {
    "gradient": "along the gradient",
    "step": "along the real step",
    "relative": "relative to the weights' size",
}


def measures(run: RunRecord, along: str) -> list[StepSmoothness]:
    """Return a run's measures in one direction, in the order of its steps.

    Args:
        run: Record of a run.
        along: Key of `WAYS`.
    """
    return [measure for epoch in run.epochs for measure in epoch.smoothness if measure.along == along]


def over_seeds(study: StudyRecord, role: str, along: str, value: Range) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (T,) that every seed has, and the geometric mean over seeds of two numbers (T, 2).

    A seed without an epoch has no step yet and does not count.

    Args:
        study: Record of a study.
        role: Name of the role.
        along: Key of `WAYS`.
        value: Function from a measure to its two numbers.
    """
    runs = [run for run in members(study, role).values() if run is not None and run.epochs]
    seen = [{measure.step: value(measure) for measure in measures(run, along)} for run in runs]
    steps = sorted(set.intersection(*map(set, seen))) if seen else []
    if not steps:
        return np.zeros(0), np.zeros((0, 2))
    table = np.array([[each[step] for step in steps] for each in seen], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array(steps), np.exp(np.log(table).mean(axis=0))


def updates(study: StudyRecord, role: str) -> int:
    """Return the number of steps of an epoch.

    Args:
        study: Record of a study.
        role: Name of a role that has a run.
    """
    run = next(run for run in members(study, role).values() if run is not None)
    return math.ceil(int(run.config["data"]["train"]) / int(run.config["batch_size"]))


def fewest_steps(study: StudyRecord, roles: Sequence[str]) -> float:
    """Return the number of steps of the role that makes fewest; infinite where there are no runs.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    by_role = {role: [run for run in members(study, role).values() if run is not None] for role in roles}
    steps = [runs[0].config["epochs"] * updates(study, role) for role, runs in by_role.items() if runs]
    return min(steps, default=math.inf)


def logs(run: RunRecord, what: str, along: str, place: Place) -> list[tuple[float, float]]:
    """Return the place and the log10 of each of a run's measures, of those positive and finite, by step.

    Args:
        run: Record of a run.
        what: Key of `VALUES`.
        along: Key of `WAYS`.
        place: Function from a run and a measure to its place; NaN leaves the measure out.
    """
    placed = [(place(run, measure), VALUES[what][1](measure)) for measure in measures(run, along)]
    return [
        (x, math.log10(value))
        for x, value in placed
        if value > 0 and math.isfinite(value) and math.isfinite(x)
    ]


def mean_logs(run: RunRecord, what: str, along: str, place: Place) -> dict[float, float]:
    """Return, per place, the mean log10 of a run's measures there, of those positive and finite.

    Args:
        run, what, along, place: See `logs`.
    """
    found: dict[float, list[float]] = {}
    for x, log in logs(run, what, along, place):
        found.setdefault(x, []).append(log)
    return {x: fmean(there) for x, there in found.items()}


def mean_log(
    run: RunRecord, what: str, along: str, chosen: Callable[[StepSmoothness], bool] = lambda measure: True
) -> float:
    """Return the mean log10 of a number over a run's measures, of those positive and finite; NaN without one.

    Args:
        run: Record of a run.
        what: Key of `VALUES`.
        along: Key of `WAYS`.
        chosen: Whether a measure counts.
    """
    found = mean_logs(run, what, along, lambda _, measure: 0.0 if chosen(measure) else math.nan)
    return found.get(0.0, math.nan)


def _typical(
    study: StudyRecord, role: str, what: str, along: str, until: float = math.inf
) -> dict[int, float]:
    """Seed → mean log10 of a number over a run's measures, those before the step `until`."""
    means = {
        seed: mean_log(run, what, along, lambda measure: measure.step < until)
        for seed, run in ended(study, role).items()
    }
    return {seed: mean for seed, mean in means.items() if not math.isnan(mean)}


def smoother(
    study: StudyRecord,
    roles: Mapping[str, str],
    what: str,
    along: str,
    until: float = math.inf,
) -> Evidence:
    """Judge if a number is smaller for the first of two roles than for the second, paired by seed.

    Args:
        study: Record of a study.
        roles: Labels of the two roles.
        what: Key of `VALUES`.
        along: Key of `WAYS`.
        until: Number of first steps that count.
    """
    (role, label), (other, other_label) = roles.items()
    when = f"the first {until:g} steps" if math.isfinite(until) else "training"
    pairs = differences(_typical(study, role, what, along, until), _typical(study, other, what, along, until))
    both = ended(study, role).keys() & ended(study, other).keys()
    lacking = ", ".join(f"seed {seed}" for seed in sorted(both - pairs.keys()) if pairs)
    there = pairs or not (ended(study, role) and ended(study, other))
    idle = guesses(study, role, other)
    return below(
        f"log10 of the {VALUES[what][0]} {WAYS[along]}, {label} over {other_label}, mean over {when}",
        pairs,
        0.0,
        together(
            unfinished(study, role),
            unfinished(study, other),
            "" if there else f"not measured over {when}",
            f"{role} and {other}: {lacking} not measured over {when}" if lacking and not idle else "",
        ),
        idle,
    )
