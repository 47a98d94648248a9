"""Rules on the modes of modules at training steps: eval mode, and BatchNorm without a batch."""

from __future__ import annotations

import numpy as np

from gradscape._text import count_noun
from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss_limits import LossLimits
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import LossHistory, StepReading

MOST = 0.5  # of the readings: what is so in fewer of them is not how the training is run


def mode_findings(history: LossHistory, limits: LossLimits) -> list[Finding]:
    """Return the faults of the modes that modules are in at training steps.

    Args:
        history: Loss and readings of a training.
        limits: Limits of the rules.
    """
    return [*_evaluating(history.readings, limits), *_one_sample(history.readings)]


def mode_notes(history: LossHistory) -> tuple[str, ...]:
    """Return notes on modules in eval mode at training steps, a fault only where their statistics are off.

    Args:
        history: Loss and readings of a training.
    """
    there = [reading for reading in history.readings if reading.evaluating]
    if not _most(len(there), history.readings):
        return ()
    names = there[-1].evaluating
    all_of = there[-1].modal and len(names) == there[-1].modal
    who = (
        "all dropout and normalization modules are"
        if all_of
        else f"{names[0]} is"
        if len(names) == 1
        else f"{names[0]} and {len(names) - 1} more are"
    )
    return (f"{who} in eval mode at training steps, as in fine-tuning with frozen statistics",)


def _evaluating(readings: tuple[StepReading, ...], limits: LossLimits) -> list[Finding]:
    """BatchNorm in eval mode, whose running statistics are not those of what comes in."""
    there = [reading for reading in readings if reading.evaluating and np.isfinite(reading.running_gap)]
    if not _most(len(there), readings):
        return []
    gap = float(np.median([reading.running_gap for reading in there]))
    if not gap > limits.apart:
        return []
    names = there[-1].evaluating
    return [
        Finding(
            verdict="evaluation mode",
            layer=names[0],
            cause=f"{count_noun(len(names), 'module')} in eval mode at training steps: BatchNorm uses its "
            f"running statistics, and the batches' means are {gap:.3g} deviations from them",
            remedy=options("model.train() before training and after each evaluation"),
            evidence=(
                limits.evidence("apart", "distance of batch means from running ones, in deviations", gap),
            ),
        )
    ]


def _one_sample(readings: tuple[StepReading, ...]) -> list[Finding]:
    """BatchNorm over one value a channel, which gives its bias whatever comes in."""
    there = [reading for reading in readings if reading.single_sample_norms]
    if not _most(len(there), readings):
        return []
    names = there[-1].single_sample_norms
    return [
        Finding(
            verdict="BatchNorm of one sample",
            layer=names[0],
            cause=f"{count_noun(len(names), 'BatchNorm module')} in train mode with one value a channel: it "
            "is its own mean, and the output is the bias",
            remedy=options("a larger batch", "GroupNorm or LayerNorm", "drop_last=True in the DataLoader"),
            evidence=(
                Symptom("steps at which it is so", len(there), 0, "a variance is of two values at least"),
            ),
        )
    ]


def _most(number: int, readings: tuple[StepReading, ...]) -> bool:
    return number > MOST * len(readings)
