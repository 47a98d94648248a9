"""What a role's runs came to, as evidence: whether they train, which does better, how gradients run.

Only runs that came to their end count; the others are named and leave a verdict open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from gradscape.records import WEIGHT_KINDS, StudyRecord
from gradscape.report.claims import Evidence, above, differences
from gradscape.report.figures import Flows
from gradscape.report.panels import flows
from gradscape.report.runs import ended, final, guessing, together, unfinished, window

TINY = 2.0**-149  # smallest positive float32: what a gradient of exactly 0 counts as under a logarithm


def trains(
    study: StudyRecord,
    role: str,
    label: str,
    rule: Callable[[str, Mapping[int, float], float, str], Evidence] = above,
) -> Evidence:
    """Whether a role's final train accuracy is above (or below) twice that of guessing."""
    threshold = 2 * guessing(study)
    return rule(
        f"{label}: train accuracy, {window(study, [role])} (twice guessing is {threshold:g})",
        finals(study, role, "train"),
        threshold,
        unfinished(study, role),
    )


def beats(study: StudyRecord, role: str, other: str, split: str, label: str) -> Evidence:
    """Whether one role's final accuracy is above another's, paired by seed."""
    name = {"train": "train", "valid": "validation"}[split]
    return above(
        f"{name} accuracy, {label}, {window(study, [role, other])}, paired by seed",
        differences(finals(study, role, split), finals(study, other, split)),
        0.0,
        together(unfinished(study, role), unfinished(study, other)),
    )


def finals(study: StudyRecord, role: str, split: str) -> dict[int, float]:
    """Seed → final accuracy of the runs that came to an end; a diverged one counts as guessing."""
    return {
        seed: guessing(study) if run.state == "diverged" else final(run, f"{split}_accuracy").mean
        for seed, run in ended(study, role).items()
    }


def ended_flows(study: StudyRecord, role: str) -> dict[int, tuple[Flows, list[bool]]]:
    """Seed → finite mean |∂L/∂W| [epochs, weight layers] and which of the layers are convolutions."""
    found = {}
    for seed, run in ended(study, role).items():
        flow = flows(run)
        if flow.size and np.isfinite(flow).all():
            kinds = run.epochs[0].flow.kinds
            found[seed] = flow, [kind == "conv" for kind in kinds if kind in WEIGHT_KINDS]
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
