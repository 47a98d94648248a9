"""Rules on samples and axes that are mixed: batch and time exchanged, a view as transpose, crossed factors.

All rest on shapes alone. They are faults where the loss stays at guessing's, and else something to look at:
a layer may be meant to compute across samples.
"""

from __future__ import annotations

import math

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import SEARCHED, SequenceInput, StepReading


def mixing_findings(curve: Curve) -> list[Finding]:
    """Return the findings that layers take another axis for the samples, or that a reshape mixes axes.

    Args:
        curve: Loss over steps, with its readings.
    """
    readings = curve.history.readings[:SEARCHED]
    if not readings or curve.learns:
        return []
    return [*_exchanged(curve, readings), *_torn(curve, readings), *_crossed(curve, readings)]


def mixing_notes(curve: Curve) -> tuple[str, ...]:
    """Return a note on a reshape that mixes axes in a network that learns.

    Args:
        curve: Loss over steps, with its readings.
    """
    readings = curve.history.readings[:SEARCHED]
    if not readings or not curve.learns or not all(reading.torn_reshapes for reading in readings):
        return ()
    before, after = readings[0].torn_reshapes[0]
    return (f"a reshape of {before} to {after} mixes axes: no splitting and merging makes one of the other",)


def _exchanged(curve: Curve, readings: tuple[StepReading, ...]) -> list[Finding]:
    found = [[each for each in reading.sequences if _is_exchanged(each, reading)] for reading in readings]
    if not all(found):
        return []
    first = found[0][0]
    samples, places = first.shape[not first.batch_first], first.shape[first.batch_first]
    axis = int(first.batch_first)
    return [
        Finding(
            verdict="samples are mixed",
            layer=first.layer,
            cause=f"{first.kind} with batch_first={first.batch_first} reads axis {axis} of {first.shape} as "
            f"time, but its size is the number of samples: there are {places} targets",
            remedy=options(
                f"batch_first={not first.batch_first}", f"transpose(0, 1) before {first.layer or first.kind}"
            ),
            evidence=(
                Symptom(
                    "size of the axis that it takes for the samples, beside the number of targets",
                    samples, places, "each sample is computed by itself", below=samples < places,
                ),
            ),
            mild=not curve.stuck,
        )
    ]  # fmt: skip


def _is_exchanged(given: SequenceInput, reading: StepReading) -> bool:
    """Return True where there are as many targets as places, and the samples are neither theirs nor parts."""
    targets = [term.target.shape for term in reading.terms if term.target is not None]
    samples, places = given.shape[not given.batch_first], given.shape[given.batch_first]
    if len(targets) != 1 or not targets[0] or samples < 2 or places < 2 or samples % places == 0:
        return False
    shape = targets[0]
    one_each = math.prod(shape) == shape[0]
    axes = {samples, places}
    return shape[0] == places and (one_each or shape[1] not in axes)


def _crossed(curve: Curve, readings: tuple[StepReading, ...]) -> list[Finding]:
    if not all(reading.crossed for reading in readings):
        return []
    row, column = readings[0].crossed
    size = row[0]
    return [
        Finding(
            verdict="shapes broadcast",
            layer="",
            cause=f"{row} times {column} within the loss is ({size}, {size}): each sample's number is "
            "multiplied with every other sample's",
            remedy=options(f"factors of one shape: {column}.squeeze(1)", "nothing, if pairs are meant"),
            evidence=(
                Symptom(
                    "numbers in the product over those of a factor", size, 1, "each sample has one factor"
                ),
            ),
            mild=not curve.stuck,
        )
    ]


def _torn(curve: Curve, readings: tuple[StepReading, ...]) -> list[Finding]:
    if not all(reading.torn_reshapes for reading in readings):
        return []
    before, after = readings[0].torn_reshapes[0]
    return [
        Finding(
            verdict="reshape mixes axes",
            layer="",
            cause=f"a view or reshape makes {after} of {before}: its rows are pieces of several rows, since "
            "the elements keep their order",
            remedy=options("transpose or permute in place of view", "a view that splits or merges axes only"),
            evidence=(
                Symptom(
                    "reshapes that neither split nor merge axes", len(readings[0].torn_reshapes), 0,
                    "a reshape keeps the order of elements; torch.Tensor.view",
                ),
            ),
            mild=not curve.stuck,
        )
    ]  # fmt: skip
