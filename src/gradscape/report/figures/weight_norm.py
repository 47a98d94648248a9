"""How large weights are over training, and how far a step moves them.

Weights before a BatchNorm can be scaled without changing the loss: a step of SGD turns them by what the
learning rate is beside ‖w‖² (van Laarhoven 2017, §3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np

from gradscape.analysis.evidence import log10
from gradscape.analysis.run_status import ended, joined, members, seeds_in_words
from gradscape.records.run import EpochRecord, RunRecord, StudyRecord
from gradscape.report.figures.base import Figure, Series, draw_series, panel, round_ticks
from gradscape.report.figures.curves import not_done, titled
from gradscape.report.figures.smoothness import finish, labelled
from gradscape.report.figures.style import LOOKS, styled

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


def scale_figure(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], what: str
) -> Figure:
    """One of `VALUES` over the epochs, a line for each role."""
    ylabel, scale, value = VALUES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch", ylabel=ylabel)
        longest = 0
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            runs = [run for run in members(study, role).values() if run is not None and known(run, value)]
            curves = tuple(tuple(map(value, run.epochs)) for run in runs)
            cut = tuple(run.state in ("diverged", "stopped") for run in runs)
            longest = max([longest, *map(len, curves)])
            draw_series(axes, Series(labelled(study, role, label), curves, cut, look), max(longest // 6, 1))
        if longest:
            axes.set_xticks(round_ticks(longest))
        finish(drawing, axes, scale if longest else False, len(roles))
    counts = seeds_in_words([len(members(study, role)) for role in roles])
    caption = [
        "Geometric mean over the convolutions, each a mean over the epoch's mini-batches.",
        f"Mean over {counts}, band from the lowest to the highest.",
        not_done(study, roles),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


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
