"""Labels of a batch that teach nothing, or look shifted, and the loss that a network begins with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradscape.measure.check.loss_calls import OF_NUMBERS, LossCall
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom

FEWEST = 8  # labels: fewer may well be of one class
TOO_HIGH = 3.0  # × the loss of an output that says nothing
TOO_HIGH_OF_NUMBERS = 10.0
TOO_LOW = 0.5
SOURCES = {
    TOO_HIGH: "weights of torch's, He's, Glorot's or orthogonal initialization begin below 2.4 (n = 60)",
    TOO_HIGH_OF_NUMBERS: "the same begin below 3.2, an order of magnitude is beyond all (n = 20)",
}


def label_findings(calls: Sequence[LossCall]) -> list[Finding]:
    """Report labels that cannot be learnt from: all ignored, or all of one class.

    Args:
        calls: Calls of loss functions on the batch.
    """
    return [
        finding
        for call in calls
        if (labels := call.labels) is not None
        for finding in _of_labels(labels, call)
    ]


def _of_labels(labels: torch.Tensor, call: LossCall) -> list[Finding]:
    count = labels.numel()
    if call.target.numel() and not count:
        ignored = call.options.get("ignore_index", -100)
        return [
            _unusable(
                f"every label is {ignored}, which the loss leaves out",
                options("another ignore_index", "look how the labels are made"),
                Symptom("labels that count", 0.0, 1.0, "a mean over none is NaN", below=True),
            )
        ]
    kinds = len(torch.unique(labels))
    if count < FEWEST or kinds > 1 or call.classes < 2:
        return []
    return [
        _unusable(
            f"all {count} labels are {int(labels[0])}: a constant output is right",
            options("shuffle the data", "look how the labels are made"),
            Symptom(
                "classes among the labels", 1.0, 2.0, "of one class there is nothing to tell", below=True
            ),
        )
    ]


def _unusable(cause: str, remedy: str, evidence: Symptom) -> Finding:
    return Finding("unusable labels", "", cause, remedy, (evidence,))


def label_notes(calls: Sequence[LossCall]) -> list[str]:
    """Return remarks on labels that count from 1 where an output more than classes hides it.

    Args:
        calls: Calls of loss functions on the batch.
    """
    found = []
    for call in calls:
        labels = call.labels
        if labels is None or labels.numel() < FEWEST:
            continue
        present = torch.unique(labels)
        if len(present) == call.classes - 1 > 1 and int(present[0]) == 1:
            found.append(
                f"no label is 0, and every one of 1 … {call.classes - 1} is there: if labels count from 1, "
                "subtract 1 and leave out an output"
            )
    return found


def initial_findings(initial: float, call: LossCall) -> list[Finding]:
    """Report a loss that begins far above that of an output without an opinion.

    Args:
        initial: Loss before the first step.
        call: Call of the loss function that is the loss.
    """
    neutral = call.neutral
    limit = TOO_HIGH_OF_NUMBERS if call.name in OF_NUMBERS else TOO_HIGH
    if not (math.isfinite(initial) and neutral > 0 and initial > limit * neutral):
        return []
    what = f"loss before the first step, {initial:.3g}, over that of {_neutral_words(call)}, {neutral:.3g}"
    return [
        Finding(
            verdict="initial loss too high",
            layer="",
            cause="outputs are large before anything is learnt"
            if call.name not in OF_NUMBERS
            else "outputs are far from the targets before anything is learnt: one of them is out of scale",
            remedy=options(
                "smaller initial weights of the last layer",
                "bring the inputs to mean 0 and standard deviation 1",
                *(("bring the targets to that scale too",) if call.name in OF_NUMBERS else ()),
            ),
            evidence=(Symptom(what, initial / neutral, limit, SOURCES[limit]),),
        )
    ]


def initial_line(initial: float, call: LossCall) -> str:
    """Return the loss before the first step beside its expectation, in words.

    Args:
        initial: Loss before the first step.
        call: Call of the loss function that is the loss.
    """
    return f"initial loss {initial:.3g}; {call.neutral:.3g} for {_neutral_words(call)} ({call.name})"


def _neutral_words(call: LossCall) -> str:
    if call.classes:
        return f"{call.classes} classes alike"
    return "an output of 0" if call.name in OF_NUMBERS else "a probability of ½"


def initial_notes(initial: float, call: LossCall) -> list[str]:
    """Return a remark on a loss that begins far below what the best constant output costs.

    Args:
        initial: Loss before the first step.
        call: Call of the loss function that is the loss.
    """
    constant = call.constant
    if not initial < TOO_LOW * constant:
        return []
    return [
        f"the loss begins at {initial:.3g}, and the best constant output costs {constant:.3g}: the network "
        "has been trained before, or the loss is divided by something"
    ]
