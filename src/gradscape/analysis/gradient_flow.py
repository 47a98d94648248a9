"""Gradients of a study's runs, layer by layer over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gradscape.analysis.run_status import (
    ended,
    together,
    unfinished,
)
from gradscape.records.run import RunRecord, StudyRecord

Flows = NDArray[np.float64]  # epochs × weight layers, input to output: mean |∂L/∂W|


TINY = 2.0**-149  # smallest positive float32: what a gradient of exactly 0 counts as under a logarithm


def flows(run: RunRecord) -> Flows:
    """Mean |∂L/∂W| [epochs, weight layers], input to output."""
    if run.flow is None:
        return np.array([])
    return np.ascontiguousarray(run.flow.mean_abs[:, run.flow.weights])


def ended_flows(study: StudyRecord, role: str) -> dict[int, tuple[Flows, list[bool]]]:
    """Seed → finite mean |∂L/∂W| [epochs, weight layers] and which of the layers are convolutions."""
    found = {}
    for seed, run in ended(study, role).items():
        flow = flows(run)
        if run.flow is not None and np.isfinite(flow).all():
            found[seed] = flow, [run.flow.kinds[column] == "conv" for column in run.flow.weights]
    return found


def lacking(study: StudyRecord, role: str) -> str:
    """Runs of a role whose gradients cannot be judged: unfinished, without an epoch, or not finite."""
    judged = ended_flows(study, role)
    words = ", ".join(
        f"seed {seed} has no finite gradients" for seed in ended(study, role) if seed not in judged
    )
    return together(unfinished(study, role), f"{role}: {words}" if words else "")


def first_conv(found: Mapping[int, tuple[Flows, list[bool]]]) -> dict[int, float]:
    """Seed → log10 of the first convolution's gradient, mean over epochs."""
    return {seed: float(log10(flow.mean(axis=0)[conv])[0]) for seed, (flow, conv) in found.items()}


def log10(values: Flows) -> Flows:
    return np.log10(np.maximum(values, TINY))


def slope(values: Flows) -> float:
    """Least-squares slope against the index; exact sums, so that equal values give 0 and not 1e-17."""
    index = np.arange(len(values)) - (len(values) - 1) / 2
    return math.fsum(index * values) / math.fsum(index**2)
