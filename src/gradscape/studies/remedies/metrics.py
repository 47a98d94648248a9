"""Numbers of a remedy's runs: accuracy, signal, smoothness, the rates at which it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from gradscape.analysis.evidence import finals
from gradscape.analysis.gradient_flow import Flows, flows, log10, slope
from gradscape.analysis.outcomes import ended, guessing, members
from gradscape.analysis.smoothness import VALUES, mean_log, measures
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.studies.remedies.roles import BASE, REMEDIES

Number = Callable[[RunRecord], float]


def there(study: StudyRecord) -> list[str]:
    """Return the remedies that the study has, in the order of figures and tables.

    Args:
        study: Record of a study.
    """
    return [role for role in REMEDIES if role in study.roles]


def each(study: StudyRecord, role: str, number: Number) -> dict[int, float]:
    """Return a number per seed of the runs that came to an end, where it is finite.

    Args:
        study: Record of a study.
        role: Name of the role.
        number: Function from a run to the number.
    """
    values = {seed: number(run) for seed, run in ended(study, role).items()}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


# The signal at initialization: before the first step.


def first_gradient(run: RunRecord) -> float:
    """Return mean |∂L/∂W| of the first weight layer at initialization; NaN where it was not measured.

    Args:
        run: Record of a run.
    """
    return float(_start_flow(run)[0]) if run.start else math.nan


def start_slope(run: RunRecord) -> float:
    """Return the orders of magnitude by which gradients grow from layer to layer at initialization.

    NaN where a gradient is exactly 0, as under Fixup.

    Args:
        run: Record of a run.
    """
    if run.start is None or not _start_flow(run).all():
        return math.nan
    return _steepness(log10(_start_flow(run)))


def likeness(run: RunRecord) -> float:
    """Return the correlation of two images in the last convolution's output at initialization.

    At 1 all images look alike.

    Args:
        run: Record of a run.
    """
    return float(run.start.correlation[-2]) if run.start else math.nan


def _start_flow(run: RunRecord) -> Flows:
    assert run.start is not None
    return run.start.gradients


# The signal through training.


def trained_gradient(run: RunRecord) -> float:
    """Return mean |∂L/∂W| of the first weight layer, geometric mean over epochs.

    Args:
        run: Record of a run.
    """
    return float(10 ** log10(flows(run)[:, 0]).mean()) if run.epochs else math.nan


def last_gradient(run: RunRecord) -> float:
    """Return mean |∂L/∂W| of the first weight layer in the last epoch.

    Args:
        run: Record of a run.
    """
    return float(flows(run)[-1, 0]) if run.epochs else math.nan


def trained_slope(run: RunRecord) -> float:
    """Return the orders of magnitude by which gradients grow from layer to layer, mean over epochs.

    Args:
        run: Record of a run.
    """
    return _steepness(log10(flows(run)).mean(axis=0)) if run.epochs else math.nan


def _steepness(logs: Flows) -> float:
    """Slope over layers; NaN where a gradient is not finite."""
    return slope(logs) if np.isfinite(logs).all() else math.nan


# Smoothness.


def typical(what: str, along: str = "gradient") -> Number:
    """Return a function for the geometric mean over a run's measures of one of `smoothness.VALUES`.

    Args:
        what: Key of `VALUES`.
        along: Key of `WAYS`.
    """
    return lambda run: float(10 ** mean_log(run, what, along))


def at_first(what: str, along: str = "gradient") -> Number:
    """Return a function for the value of a run's first measure, at its first step.

    Args:
        what: Key of `VALUES`.
        along: Key of `WAYS`.
    """

    def number(run: RunRecord) -> float:
        first, *_ = [VALUES[what][1](measure) for measure in measures(run, along)] or [math.nan]
        return first

    return number


def sharpness(moment: str) -> Number:
    """Return a function for the Hessian's largest eigenvalue.

    Args:
        moment: `start` or `end` of the training.
    """
    return lambda run: run.curvature[moment].largest if moment in run.curvature else math.nan


def _width(run: RunRecord) -> float:
    """Width of the basin in which the loss is at most 1 nat above the trained weights'."""
    return float(run.landscape.basin(1.0).width[0]) if run.landscape else math.nan


def epoch_seconds(run: RunRecord) -> float:
    """Return the median time of an epoch, in seconds.

    Args:
        run: Record of a run.
    """
    return median(run.curve("seconds")) if run.epochs else math.nan


# Learning rates at which it trains.


def threshold(study: StudyRecord) -> float:
    """Return the training accuracy above which a network counts as training: twice that of guessing.

    Args:
        study: Record of a study.
    """
    return 2 * guessing(study)


def all_train(study: StudyRecord, role: str) -> bool | None:
    """Check that every seed of a role trains; None while a run has not come to its end.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    accuracies = finals(study, role, "train")
    if len(accuracies) < len(members(study, role)) or not accuracies:
        return None
    return all(value > threshold(study) for value in accuracies.values())


@dataclass(frozen=True)
class Highest:
    """Highest learning rate at which every seed trains.

    Attributes:
        rate: The rate; None where there is none among those tried.
        tried: All rates that were tried, rising.
        open: True if a higher one has not come to its end.
    """

    rate: float | None
    tried: tuple[float, ...]
    open: bool

    def __str__(self) -> str:
        if self.rate is None:
            return "none" if not self.open else "?"
        return f"{'≥ ' if self.rate == max(self.tried) or self.open else ''}{self.rate:g}"


def highest_rate(study: StudyRecord, role: str) -> Highest:
    """Return the highest of the rates that the study tries for a remedy at which every seed trains.

    Args:
        study: Record of a study.
        role: Name of the remedy.
    """
    trained = {rate: all_train(study, name) for rate, name in rated(study, role).items()}
    known = [rate for rate, found in trained.items() if found]
    best = max(known, default=None)
    left = any(found is None and (best is None or rate > best) for rate, found in trained.items())
    return Highest(best, tuple(trained), left)


def best(study: StudyRecord, remedy: str) -> tuple[float, str]:
    """Return the learning rate of a remedy's highest mean validation accuracy, and its role's name.

    Args:
        study: Record of a study.
        remedy: Name of the remedy.
    """
    means = {
        (rate, name): fmean(accuracies.values())
        for rate, name in rated(study, remedy).items()
        if (accuracies := finals(study, name, "valid"))
    }
    return max(means, key=means.__getitem__, default=(BASE, remedy))


def rated(study: StudyRecord, remedy: str) -> dict[float, str]:
    """Return the name of a remedy's role at each learning rate, rising.

    Args:
        study: Record of a study.
        remedy: Name of the remedy.
    """
    rates = {
        rate: role.name
        for role in study.where(remedy=remedy)
        if isinstance(rate := role.parameters["lr"], float)
    }
    return dict(sorted(rates.items()))


# Predictors of accuracy, measured before a run is trained, and through its training.

PredictorPair = tuple[Number, Number]  # at initialization, through training
SIGNAL: Mapping[str, PredictorPair] = {
    "mean |∂L/∂W| of the first layer": (first_gradient, trained_gradient),
    "|slope| of the gradient over layers": (
        lambda run: abs(start_slope(run)),
        lambda run: abs(trained_slope(run)),
    ),
    "correlation of two images": (likeness, lambda run: math.nan),
}
SMOOTHNESS: Mapping[str, PredictorPair] = {
    **{VALUES[what][0]: (at_first(what), typical(what)) for what in VALUES},
    "effective β, scale-free": (lambda run: math.nan, typical("beta", "relative")),
    "largest eigenvalue of the Hessian": (sharpness("start"), sharpness("end")),
    "width of the basin at + 1 nat": (lambda run: math.nan, _width),
}
