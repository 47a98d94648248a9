"""Rules on the numbers that come in, inputs and targets: constant, equal, of a size nothing is made for."""

from __future__ import annotations

import math

import numpy as np

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import REGRESSION, Sample, TermSeries
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import StepReading, TensorSummary

FEWEST_READINGS, FEWEST_SAMPLES, FEWEST_NUMBERS = 2, 8, 8
STANDARDIZE = "standardize the inputs: (x − mean) / std of each feature over the training data"


def input_findings(curve: Curve, harmed: bool) -> list[Finding]:
    """Return the faults of the model's inputs; a fault of size is grave only where the training fails.

    Args:
        curve: Loss over steps, with its readings.
        harmed: Whether the training has come to nothing.
    """
    seen = [reading for reading in curve.history.readings if reading.inputs is not None]
    inputs = [reading.inputs for reading in seen if reading.inputs is not None]
    if not inputs:
        return []
    if constant := _constant(inputs):
        return constant
    if inputs[0].is_integer:
        return []
    return [*_copies(seen, curve.limits, harmed), *_out_of_scale(seen, inputs, curve.limits, harmed)]


def _constant(inputs: list[TensorSummary]) -> list[Finding]:
    """Inputs that are one number, the same in every batch."""
    low, high = min(each.low for each in inputs), max(each.high for each in inputs)
    if len(inputs) < FEWEST_READINGS or low != high or inputs[0].shape[:1] < (2,):
        return []
    return [
        Finding(
            verdict="constant inputs",
            layer="",
            cause=f"every number of the inputs is {low:.3g}, in all {len(inputs)} batches read",
            remedy=options(
                "look how samples are read and normalized (a division of integers gives 0, a rescaling "
                "applied twice next to 0)"
            ),
            evidence=(
                Symptom("batches without any difference between inputs", len(inputs), 1, "samples differ"),
            ),
        )
    ]


def _copies(seen: list[StepReading], limits: LossLimits, harmed: bool) -> list[Finding]:
    """Samples of real numbers that are all in their batch twice, in a training that fails."""
    share, shape = min(reading.equal_samples for reading in seen), _shape(seen[0])
    real = all(reading.inputs is None or reading.inputs.whole < limits.purity for reading in seen)
    if not harmed or not share > limits.copies or not real or len(seen) < FEWEST_READINGS:
        return []
    if shape[0] < FEWEST_SAMPLES or math.prod(shape[1:]) < FEWEST_NUMBERS:
        return []
    return [
        Finding(
            verdict="constant inputs",
            layer="",
            cause=f"{100 * share:.3g} % of the samples of a batch are equal to another one of it",
            remedy=options("look how batches are put together", "a seed of its own for each worker"),
            evidence=(limits.evidence("copies", "share of samples that are equal to another", share),),
        )
    ]


def _shape(reading: StepReading) -> tuple[int, ...]:
    return reading.inputs.shape if reading.inputs is not None and reading.inputs.shape else (0,)


def _out_of_scale(
    seen: list[StepReading], inputs: list[TensorSummary], limits: LossLimits, harmed: bool
) -> list[Finding]:
    """Inputs that are large, tiny, nearly the same, or whose features differ by orders of magnitude."""
    sample = Sample.of(inputs)
    largest = max(abs(sample.low), abs(sample.high))
    deviation = math.sqrt(sample.variance)
    numbers = f"inputs are {sample.low:.3g} … {sample.high:.3g}, of mean {sample.mean:.3g} and standard "
    numbers += f"deviation {deviation:.3g}"
    cures: tuple[str, ...] = (STANDARDIZE,)
    if sample.rms > limits.size:
        evidence = limits.evidence("size", "root mean square of the inputs", sample.rms)
        if sample.low >= 0 and 200 < sample.high <= 255:
            cures = ("pixels divided by 255", *cures)
    elif 0 < largest < limits.tiny:
        evidence = limits.evidence("tiny", "largest size of an input", largest, below=True)
    elif largest > 1 and deviation > 0 and abs(sample.mean) > limits.shifted * deviation:
        over = abs(sample.mean) / deviation
        evidence = limits.evidence("shifted", "mean of the inputs over their standard deviation", over)
    elif (ratio := _of_features(seen)) > limits.features:
        numbers = "features differ in size"
        evidence = limits.evidence("features", "standard deviation of the largest over the least", ratio)
    else:
        return []
    verdict, tail = _grade("inputs", harmed)
    return [Finding(verdict, "", numbers + tail, options(*cures), (evidence,))]


def _of_features(seen: list[StepReading]) -> float:
    """Median over batches of the largest feature's standard deviation over the least's; 0 if not known."""
    ratios = [
        reading.input_features[1] / reading.input_features[0]
        for reading in seen
        if len(reading.input_features) == 2 and reading.input_features[0] > 0
    ]
    return float(np.median(ratios)) if ratios else 0.0


def _grade(what: str, harmed: bool) -> tuple[str, str]:
    """Return the verdict, and what the cause ends in."""
    if harmed:
        return f"{what} out of scale", ", and the loss is no better than guessing"
    return f"unscaled {what}", ""


def target_scale_findings(series: TermSeries, limits: LossLimits, harmed: bool) -> list[Finding]:
    """Return the finding that a regression's targets are large numbers.

    Args:
        series: Readings of one loss function.
        limits: Limits of the rules.
        harmed: Whether the training has come to nothing.
    """
    target, output = series.target, series.first.output
    if series.name not in REGRESSION or target is None or not target.rms > limits.size:
        return []
    verdict, tail = _grade("targets", harmed)
    begins = ""
    if output is not None:
        begins = f"; outputs begin at {output.mean:.3g} ± {output.std:.3g}"
    return [
        Finding(
            verdict=verdict,
            layer="",
            cause=f"targets are {target.low:.3g} … {target.high:.3g}, of mean {target.mean:.3g} and standard "
            f"deviation {math.sqrt(target.variance):.3g}{begins}{tail}",
            remedy=options("standardize the targets, and undo it after predicting"),
            evidence=(limits.evidence("size", "root mean square of the targets", target.rms),),
        )
    ]
