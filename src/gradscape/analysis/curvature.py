"""Ends of the Hessian's spectrum before and after training, and which of two networks is flatter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.outcomes import (
    ended,
    guesses,
    members,
    together,
    unfinished,
)
from gradscape.analysis.weight_norm import scales
from gradscape.records.curvature import CurvatureRecord
from gradscape.records.run import StudyRecord

MOMENTS = {"start": "before training", "end": "after training"}


def farthest(study: StudyRecord, roles: Mapping[str, str]) -> float:
    """Return the largest modulus of an eigenvalue of any role, before or after training; 0 without any.

    Args:
        study: Record of a study.
        roles: Label per role.
    """
    spectra = [c for role in roles for moment in MOMENTS for c in curvatures(study, role, moment).values()]
    return max((abs(end) for c in spectra for end in (c.largest, c.smallest)), default=0.0)


def counted_beyond(seeds: Sequence[CurvatureRecord], sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of eigenvalues at least as far from 0 as each node of one sign.

    Args:
        seeds: Curvatures, one per seed, with the nodes and weights of their quadratures.
        sign: 1 for positive eigenvalues, -1 for negative ones.

    Returns:
        Moduli of the nodes, falling, and the number of eigenvalues as far or farther; the first number is 0.
    """
    spectra = [each.spectrum for each in seeds if each.spectrum is not None]
    rows = [row for each in spectra for row in each.nodes]
    nodes = sign * np.concatenate([*rows, np.zeros(0)])  # seeds may have different numbers of them
    weights = np.concatenate([*(row for each in spectra for row in each.weights), np.zeros(0)])
    order = np.argsort(-nodes, kind="stable")[: int((nodes > 0).sum())]
    shares = np.cumsum(weights[order]) / max(len(rows), 1)
    counts = shares * max((each.parameters for each in seeds), default=0)
    return np.concatenate([nodes[order][:1], nodes[order]]), np.concatenate([0 * counts[:1], counts])


def curvatures(study: StudyRecord, role: str, moment: str) -> dict[int, CurvatureRecord]:
    """Return the curvature per seed, of the runs that came to an end.

    Args:
        study: Record of a study.
        role: Name of the role.
        moment: Key of `MOMENTS`.
    """
    spectra = {seed: run.curvature.get(moment) for seed, run in ended(study, role).items()}
    return {seed: spectrum for seed, spectrum in spectra.items() if spectrum is not None}


def sharpness(study: StudyRecord, role: str, scaled: bool = False) -> dict[int, float]:
    """Return log10 of the largest eigenvalue after training per seed, where it is above 0.

    Args:
        study: Record of a study.
        role: Name of the role.
        scaled: Multiply it by ‖w‖², of the geometric mean over the convolutions in the last epoch. Where a
            norm follows each, a scale that they have in common changes the one as the other's inverse.
    """
    norms = scales(study, role, "norm") if scaled else dict.fromkeys(ended(study, role), 1.0)
    spectra = curvatures(study, role, "end").items()
    return {
        seed: math.log10(c.largest * norms[seed] ** 2)
        for seed, c in spectra
        if c.largest > 0 and norms.get(seed, 0.0) > 0
    }


def _without(study: StudyRecord, *roles: str, scaled: bool = False) -> str:
    """Name runs of these roles that are done and were to measure `sharpness`, but have none."""
    neither = f"eigenvalue above 0{' or no ‖w‖' * scaled}"
    lacking = {
        role: [
            f"seed {seed} has no {neither if 'end' in run.curvature else 'curvature'} after training"
            for seed, run in ended(study, role).items()
            if run.state == "done"
            and run.config.get("curvature_images")
            and seed not in sharpness(study, role, scaled)
        ]
        for role in roles
    }
    return together(*(f"{role}: {', '.join(words)}" for role, words in lacking.items() if words))


def flatter(study: StudyRecord, roles: Mapping[str, str]) -> tuple[Evidence, ...]:
    """Judge if training leaves the first of two roles where the Hessian's largest eigenvalue is smaller.

    Args:
        study: Record of a study.
        roles: Labels of the two roles.

    Returns:
        The evidence; none where curvature is not measured, as in presets of a single seed.
    """
    (role, label), (other, other_label) = roles.items()
    runs = [run for name in roles for run in members(study, name).values() if run is not None]
    if not any(run.config.get("curvature_images") for run in runs):
        return ()
    pairs = differences(sharpness(study, role), sharpness(study, other))
    there = pairs or not (ended(study, role) and ended(study, other))
    evidence = below(
        f"log10 of the Hessian's largest eigenvalue after training, {label} over {other_label}",
        pairs,
        0.0,
        together(
            unfinished(study, role),
            unfinished(study, other),
            _without(study, role, other) if there else "curvature not measured",
        ),
        guesses(study, role, other),
    )
    return (evidence,)


def flatter_on_average(
    study: StudyRecord, pairs: Sequence[tuple[str, str]], label: str, scaled: bool = False
) -> Evidence:
    """Judge the mean over several pairs of each seed's log ratios of the largest eigenvalue.

    Args:
        study: Record of a study.
        pairs: Pairs of roles, the flatter one first.
        label: Name of the pairs in words.
        scaled: Multiply the eigenvalue by ‖w‖², see `sharpness`.
    """
    logs = [[sharpness(study, role, scaled) for role in pair] for pair in pairs]
    ratios = [differences(*each) for each in logs]
    some = together(*(_without(study, *pair, scaled=scaled) for pair in pairs))
    unknown = some if all(ratios) else f"curvature{' or ‖w‖' * scaled} not measured"
    return below(
        f"log10 of the Hessian's largest eigenvalue{' times ‖w‖²' * scaled} after training, {label}",
        averaged(ratios),
        0.0,
        together(*(open_runs(study, *pair) for pair in pairs), unknown),
        together(*(guesses(study, *pair) for pair in pairs)),
    )
