"""The size of weights over training, and how far a step moves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from gradscape.analysis.gradient_flow import log10
from gradscape.analysis.run_status import ended
from gradscape.records.run import EpochRecord, RunRecord, StudyRecord

Value = Callable[[EpochRecord], float]


def typical(epoch: EpochRecord, statistic: str) -> float:
    """Geometric mean over the convolutions of one statistic; NaN where it was not kept."""
    values, kinds = getattr(epoch.flow, statistic), epoch.flow.kinds
    found = np.array([v for v, kind in zip(values, kinds, strict=bool(values)) if kind == "conv"])
    return float(10 ** log10(found).mean()) if found.size else math.nan


VALUES: dict[str, tuple[str, str, Value]] = {
    "norm": ("‖w‖", "linear", lambda epoch: typical(epoch, "weight_norm")),
    "rate": ("effective rate, lr / ‖w‖²", "log", lambda e: e.lr / typical(e, "weight_norm") ** 2),
    "update": ("relative update, ‖Δw‖ / ‖w‖", "log", lambda epoch: typical(epoch, "update")),
}


def known(run: RunRecord, value: Value) -> bool:
    """Whether every epoch of a run that has begun has the value."""
    return bool(run.epochs) and all(math.isfinite(value(epoch)) for epoch in run.epochs)


def scales(study: StudyRecord, role: str, what: str, epoch: int = -1) -> dict[int, float]:
    """Seed → one of `VALUES` in an epoch (the last), of the runs that came to an end and have it."""
    *_, value = VALUES[what]
    return {s: value(run.epochs[epoch]) for s, run in ended(study, role).items() if known(run, value)}


def through(study: StudyRecord, role: str, what: str) -> dict[int, float]:
    """Seed → mean log10 of one of `VALUES` over all epochs, of the runs that came to an end and have it."""
    *_, value = VALUES[what]
    return {
        seed: fmean(math.log10(value(epoch)) for epoch in run.epochs)
        for seed, run in ended(study, role).items()
        if known(run, value)
    }
