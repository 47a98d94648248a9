"""Rules on modes at training steps: eval mode, BatchNorm without a batch or out of date, dropout."""

from __future__ import annotations

from itertools import takewhile

import numpy as np

from gradscape._text import count_noun
from gradscape.measure.diagnose.advice import LOWER, options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import LossHistory, StepReading

HASTY = 0.9  # momentum from which statistics are next to the last batch's
FEWEST = 3  # late readings that tell of a gap
LASTING = 2  # last readings in eval mode, which are 50 steps apart: more than a step that slipped in
MOST = 0.5  # of the readings: what is so in fewer of them is not how the training is run


def mode_findings(history: LossHistory, limits: LossLimits) -> list[Finding]:
    """Return the faults of the modes that modules are in at training steps.

    Args:
        history: Loss and readings of a training.
        limits: Limits of the rules.
    """
    return [
        *_evaluating(history.readings, limits),
        *_unnormalized(history.readings),
        *_one_sample(history.readings),
        *_running_apart(history.readings, limits),
    ]


def mode_notes(history: LossHistory) -> tuple[str, ...]:
    """Return notes on modules in eval mode at training steps, a fault only where their statistics are off.

    Args:
        history: Loss and readings of a training.
    """
    there = [reading for reading in history.readings if reading.evaluating]
    left = _left_in_eval(history.readings)
    if left is None and not _most(len(there), history.readings):
        return _hasty(history.readings)
    names = there[-1].evaluating
    all_of = there[-1].modal and len(names) == there[-1].modal
    who = (
        "all dropout and normalization modules are"
        if all_of
        else f"{names[0]} is"
        if len(names) == 1
        else f"{names[0]} and {len(names) - 1} more are"
    )
    if left is not None:
        return (
            f"{who} in eval mode at training steps from step {left.step} on, at the latest: call "
            "model.train() after each evaluation",
        )
    return (f"{who} in eval mode at training steps, as in fine-tuning with frozen statistics",)


def _left_in_eval(readings: tuple[StepReading, ...]) -> StepReading | None:
    """Return the first of the last readings that are all in eval mode, where the first one was not.

    So it is where an evaluation calls model.eval(), and nothing model.train() afterwards.
    """
    late = list(takewhile(lambda reading: reading.evaluating, reversed(readings)))
    return late[-1] if len(late) >= LASTING and not readings[0].evaluating else None


def _hasty(readings: tuple[StepReading, ...]) -> tuple[str, ...]:
    """Note on a momentum that is meant for another library, where it is the weight of what was before."""
    last = next((reading.running for reading in reversed(readings) if reading.running is not None), None)
    if last is None or last.momentum < HASTY:
        return ()
    return (
        f"{last.layer} has momentum {last.momentum:g}, which in PyTorch is the weight of the last batch: the "
        "statistics of eval mode are next to those of a single batch",
    )


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


def _unnormalized(readings: tuple[StepReading, ...]) -> list[Finding]:
    """Layers under spectral_norm in eval mode from the first step: they divide by no norm of theirs."""
    there = [reading for reading in readings if reading.still_norms]
    if not readings or readings[0].step or len(there) < len(readings):
        return []
    names = there[-1].still_norms
    return [
        Finding(
            verdict="evaluation mode",
            layer=names[0],
            cause=f"{count_noun(len(names), 'module')} under spectral_norm in eval mode from the first step: "
            "power iteration makes no step, and weights are divided by a random estimate of their norm",
            remedy=options("model.train() before training and after each evaluation"),
            evidence=(Symptom("steps at which it is so", len(there), 0, "Miyato et al. (2018), §2.1"),),
            mild=True,
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
            remedy=options(
                "a larger batch",
                "GroupNorm or LayerNorm in place of BatchNorm",
                "drop_last=True in the DataLoader",
            ),
            evidence=(
                Symptom("steps at which it is so", len(there), 0, "a variance is of two values at least"),
            ),
        )
    ]


def _running_apart(readings: tuple[StepReading, ...], limits: LossLimits) -> list[Finding]:
    """Running statistics that eval mode will use, and that are not those of the batches trained on."""
    known = [(reading.step, reading.running) for reading in readings if reading.running is not None]
    if not known:
        return []
    last, late = known[-1][1], [each.gap for step, each in known if step >= limits.enough]
    drifts = len(late) >= FEWEST and float(np.median(late)) > limits.apart
    gap = float(np.median(late)) if drifts else last.gap
    what = "difference between eval and train mode, in running deviations"
    where = f"the running statistics of {last.layer} are {gap:.2g} deviations from its batches'"
    if last.initial > limits.untracked and gap > limits.gap:
        evidence = [
            limits.evidence("untracked", f"share not of its {last.batches} batches", last.initial),
            limits.evidence("gap", what, gap),
        ]
        cause = f"{where}: at a momentum of {last.momentum:g} they hardly follow them"
        remedy = options("momentum=0.1, the weight of a new batch in PyTorch", "many more steps")
    elif drifts:
        evidence = [limits.evidence("apart", what, gap)]
        cause = f"{where}, which change faster than they can follow"
        remedy = options(
            LOWER, "one BatchNorm for each kind of input", "GroupNorm or LayerNorm in place of BatchNorm"
        )
    else:
        return []
    return [
        Finding(
            verdict="train and eval differ",
            layer=last.layer,
            cause=f"{cause}; eval mode will give other outputs than train mode",
            remedy=remedy,
            evidence=tuple(evidence),
        )
    ]


def dropout_findings(curve: Curve) -> list[Finding]:
    """Return the finding that strong dropouts leave little of a signal, and the loss stays near guessing.

    Args:
        curve: Loss over steps, with its readings.
    """
    readings, limits = curve.history.readings, curve.limits
    there = [reading for reading in readings if reading.kept <= limits.kept]
    early = len(curve.finite) <= limits.enough or curve.breaks or curve.diverges
    if early or not _most(len(there), readings) or not curve.over_guessing > limits.dropped:
        return []
    names, kept = there[-1].dropped, there[-1].kept
    return [
        Finding(
            verdict="dropout hides the signal",
            layer=names[-1],
            cause=f"dropout at {', '.join(names)} leaves {100 * kept:.2g} % of a signal, and the loss in "
            "train mode stays near guessing's",
            remedy=options("a dropout of 0.5 or less", "none behind the last layer", "wider layers"),
            evidence=(
                limits.evidence("kept", "share of a signal that is kept", kept, below=True),
                limits.evidence("dropped", "late losses over guessing's", curve.over_guessing),
            ),
        )
    ]


def _most(number: int, readings: tuple[StepReading, ...]) -> bool:
    return number > MOST * len(readings)
