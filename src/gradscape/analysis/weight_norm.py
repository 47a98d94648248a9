"""Size of weights over training, and the distance that a step moves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from gradscape.analysis.gradient_flow import Flows, log10
from gradscape.analysis.outcomes import ended
from gradscape.records.run import RunRecord, StudyRecord

EpochStatistic = Callable[[RunRecord], Flows]


def typical(run: RunRecord, statistic: str) -> Flows:
    """Return the geometric mean over the convolutions of one statistic in every epoch (T,).

    Args:
        run: Record of a run.
        statistic: Name of a field of its gradient flow, such as `weight`.
    """
    if run.flow is None:
        return np.array([])
    columns = [column for column, kind in enumerate(run.flow.kinds) if kind == "conv"]
    rows = getattr(run.flow, statistic)
    return np.array([10 ** log10(row[columns]).mean() if columns else math.nan for row in rows])


VALUES: dict[str, tuple[str, str, EpochStatistic]] = {
    "norm": ("‖w‖", "linear", lambda run: typical(run, "weight")),
    "rate": (
        "effective rate, lr / ‖w‖²",
        "log",
        lambda run: run.curve("lr") / typical(run, "weight") ** 2,
    ),
    "update": ("relative update, ‖Δw‖ / ‖w‖", "log", lambda run: typical(run, "relative_update")),
}


def known(run: RunRecord, series: EpochStatistic) -> bool:
    """Check that every epoch of a run that has begun has the value, which is finite and above 0.

    Args:
        run: Record of a run.
        series: Function from a run to the value of every epoch.
    """
    if not run.epochs:
        return False
    values = series(run)
    return bool((np.isfinite(values) & (values > 0)).all())


def scales(study: StudyRecord, role: str, what: str, epoch: int = -1) -> dict[int, float]:
    """Return one of `VALUES` per seed in one epoch, of the runs that came to an end and have it.

    Args:
        study: Record of a study.
        role: Name of the role.
        what: Key of `VALUES`.
        epoch: Index of the epoch, by default the last.
    """
    *_, series = VALUES[what]
    return {s: float(series(run)[epoch]) for s, run in ended(study, role).items() if known(run, series)}


def through(study: StudyRecord, role: str, what: str) -> dict[int, float]:
    """Return the mean log10 of one of `VALUES` over all epochs, per seed that came to an end and has it.

    Args:
        study: Record of a study.
        role: Name of the role.
        what: Key of `VALUES`.
    """
    *_, series = VALUES[what]
    return {
        seed: fmean(map(math.log10, series(run).tolist()))
        for seed, run in ended(study, role).items()
        if known(run, series)
    }
