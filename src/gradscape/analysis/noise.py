"""Gradient noise after training, by batch size and step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradscape.analysis.outcomes import ended, together, unfinished
from gradscape.records.noise import RunNoise
from gradscape.records.run import RunRecord, StudyRecord


def noises(study: StudyRecord, role: str) -> dict[int, RunNoise]:
    """Return the noise per seed of the runs that came to an end and measured it.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    return {seed: run.noise for seed, run in ended(study, role).items() if run.noise is not None}


def step_noise(run: RunRecord) -> float:
    """Return lr √tr Σ_B: deviation of a step of plain SGD, in units of the parameters; NaN without a measure.

    Args:
        run: Record of a run.
    """
    return (
        float(run.config["optim"]["lr"]) * math.sqrt(run.noise.record.batch_trace) if run.noise else math.nan
    )


def unmeasured(study: StudyRecord, role: str) -> str:
    """Name runs of a role without a measure of noise at several batch sizes; empty if all have one.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    measured = slopes(study, role)
    words = ", ".join(f"seed {seed} has no noise" for seed in ended(study, role) if seed not in measured)
    return together(unfinished(study, role), f"{role}: {words}" if words else "")


def slopes(study: StudyRecord, role: str) -> dict[int, float]:
    """Return the least-squares slope of log tr Σ_B over log B per seed, at the weights of that one run.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    return {
        seed: _slope(noise.traces)
        for seed, noise in noises(study, role).items()
        if len(noise.traces) > 1 and all(trace > 0 for _, trace in noise.traces)
    }


def _slope(traces: Sequence[tuple[int, float]]) -> float:
    x, y = np.log(np.array(traces)).T
    x = x - x.mean()
    return float(x @ y / (x @ x))
