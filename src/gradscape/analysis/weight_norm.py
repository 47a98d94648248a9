"""The size of weights over training, and how far a step moves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from gradscape.analysis.gradient_flow import Flows, log10
from gradscape.analysis.run_status import ended
from gradscape.records.run import RunRecord, StudyRecord

Series = Callable[[RunRecord], Flows]


def typical(run: RunRecord, statistic: str) -> Flows:
    """(T) of every epoch, the geometric mean over the convolutions of one statistic."""
    if run.flow is None:
        return np.array([])
    columns = [place for place, kind in enumerate(run.flow.kinds) if kind == "conv"]
    rows = getattr(run.flow, statistic)
    return np.array([10 ** log10(row[columns]).mean() if columns else math.nan for row in rows])


VALUES: dict[str, tuple[str, str, Series]] = {
    "norm": ("‖w‖", "linear", lambda run: typical(run, "weight")),
    "rate": (
        "effective rate, lr / ‖w‖²",
        "log",
        lambda run: run.curve("lr") / typical(run, "weight") ** 2,
    ),
    "update": ("relative update, ‖Δw‖ / ‖w‖", "log", lambda run: typical(run, "relative_update")),
}


def known(run: RunRecord, series: Series) -> bool:
    """Whether every epoch of a run that has begun has the value."""
    return bool(run.epochs) and bool(np.isfinite(series(run)).all())


def scales(study: StudyRecord, role: str, what: str, epoch: int = -1) -> dict[int, float]:
    """Seed → one of `VALUES` in an epoch (the last), of the runs that came to an end and have it."""
    *_, series = VALUES[what]
    return {s: float(series(run)[epoch]) for s, run in ended(study, role).items() if known(run, series)}


def through(study: StudyRecord, role: str, what: str) -> dict[int, float]:
    """Seed → mean log10 of one of `VALUES` over all epochs, of the runs that came to an end and have it."""
    *_, series = VALUES[what]
    return {
        seed: fmean(map(math.log10, series(run).tolist()))
        for seed, run in ended(study, role).items()
        if known(run, series)
    }
