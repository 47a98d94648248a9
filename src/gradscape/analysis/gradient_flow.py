"""Gradients of a study's runs, layer by layer over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gradscape.analysis.outcomes import (
    describe_status,
    ended,
    together,
    unfinished,
)
from gradscape.records.run import RunRecord, StudyRecord

Flows = NDArray[np.float64]  # epochs × weight layers, input to output: mean |∂L/∂W|


TINY = 2.0**-149  # smallest positive float32: the logarithm takes a gradient of exactly 0 as this


def flows(run: RunRecord) -> Flows:
    """Return mean |∂L/∂W| [epochs, weight layers], input to output.

    Args:
        run: Record of a run.
    """
    if run.flow is None:
        return np.array([])
    return np.ascontiguousarray(run.flow.mean_abs[:, run.flow.weights])


def ended_flows(study: StudyRecord, role: str) -> dict[int, tuple[Flows, list[bool]]]:
    """Return finite mean |∂L/∂W| [epochs, weight layers] per seed, and which of the layers are convolutions.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    by_seed = {}
    for seed, run in ended(study, role).items():
        flow = flows(run)
        if run.flow is not None and np.isfinite(flow).all():
            by_seed[seed] = flow, [run.flow.kinds[column] == "conv" for column in run.flow.weights]
    return by_seed


def lacking(study: StudyRecord, role: str) -> str:
    """Name runs of a role whose gradients cannot be judged: unfinished, diverged, without one, or not finite.

    The epoch in which a run diverged is not recorded: what it did there is not known.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    judged = ended_flows(study, role)
    words = ", ".join(
        f"seed {seed} has no finite gradients"
        if seed not in judged
        else f"seed {seed} {describe_status(run)}"
        for seed, run in ended(study, role).items()
        if seed not in judged or run.state == "diverged"
    )
    return together(unfinished(study, role), f"{role}: {words}" if words else "")


def first_conv(by_seed: Mapping[int, tuple[Flows, list[bool]]]) -> dict[int, float]:
    """Return log10 of the first convolution's gradient per seed, mean over epochs.

    Args:
        by_seed: Result of `ended_flows`.
    """
    return {seed: float(log10(flow.mean(axis=0)[conv])[0]) for seed, (flow, conv) in by_seed.items()}


def log10(values: Flows) -> Flows:
    """Return the base-10 logarithm, with 0 taken as the smallest positive float32.

    Args:
        values: Numbers that are 0 or more.
    """
    return np.log10(np.maximum(values, TINY))


def slope(values: Flows) -> float:
    """Return the least-squares slope against the index; exact sums make it 0 and not 1e-17 for equal values.

    Args:
        values: Numbers (n,), n at least 2.
    """
    index = np.arange(len(values)) - (len(values) - 1) / 2
    return math.fsum(index * values) / math.fsum(index**2)
