"""Rules on objectives that a constant, or one player of two, satisfies."""

from __future__ import annotations

import math

import numpy as np

from gradscape.measure.diagnose.advice import LOWER, options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, REGRESSION
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import LossTerm, StepReading

LATE = 3  # last readings that tell of outputs, and readings of each player
FEWEST_SAMPLES = 8
MOST = (0.1, 0.9)  # quantiles between which a loss stays where it is
REAL, MADE = 0.8, 0.2  # targets of real and of made samples, which may be smoothed


def collapse_findings(curve: Curve) -> list[Finding]:
    """Return the faults of an objective that a constant, or one player of two, satisfies.

    Args:
        curve: Loss over steps, with its readings.
    """
    return [*_one_point(curve), *_discriminator_wins(curve)]


def _one_point(curve: Curve) -> list[Finding]:
    """Embeddings that are the same for all samples, under a loss of distances that stays where it is."""
    readings = [each for each in curve.history.readings if each.output is not None and each.output_features]
    last = readings[-LATE:]
    named = {term.name for reading in last for term in reading.terms} & {*BINARY, *CATEGORICAL, *REGRESSION}
    if len(readings) <= LATE or named or len(curve.finite) <= curve.limits.constant or curve.breaks:
        return []
    shares = [_spread(reading) for reading in last]
    most = np.quantile(curve.quarters[-1], MOST)  # a step may fling the point about
    still = float(np.ptp(most)) <= curve.limits.one_point * abs(curve.last)
    alike = any(each.equal_samples > curve.limits.imbalance for each in last)
    if alike or not still or not max(shares) < curve.limits.one_point <= _spread(readings[0]):
        return []
    return [
        Finding(
            verdict="embeddings collapse",
            layer="",
            cause="the outputs are one point, the same for all samples, and the loss stays at "
            f"{curve.last:.3g}: that of distances that are all 0, such as a margin",
            remedy=options(LOWER, "semi-hard triplets in place of the hardest", "a larger batch"),
            evidence=(
                curve.limits.evidence(
                    "one_point", "spread of outputs over samples, beside their size", max(shares), below=True
                ),
            ),
        )
    ]


def _spread(reading: StepReading) -> float:
    """Largest standard deviation of an output feature over samples, beside the outputs' size."""
    output = reading.output
    if output is None or output.shape[0] < FEWEST_SAMPLES or output.nonfinite != 0:
        return math.inf
    size = math.hypot(output.mean, output.std)
    return reading.output_features[1] / size if size > 0 else 0.0


def _discriminator_wins(curve: Curve) -> list[Finding]:
    """A discriminator that is sure of real and of made samples, step after step."""
    limits = curve.limits
    seen = [
        (term.target.mean, logit)
        for reading in curve.history.readings
        if reading.step >= limits.enough
        for term in reading.terms
        if term.target is not None and (logit := _median_logit(term)) is not None
    ]
    made = [logit for target, logit in seen if target <= MADE]
    called_real = [logit for target, logit in seen if target >= REAL]
    sure = [each for each in called_real if each > limits.sure]
    refused = [each for each in called_real if each < -limits.sure]
    if min(len(made), len(sure), len(refused)) < LATE or 4 * min(len(sure), len(refused)) < len(called_real):
        return []
    if not float(np.median(made)) < -limits.sure:
        return []
    return [
        Finding(
            verdict="discriminator wins",
            layer="",
            cause="the discriminator is sure of both: the logit of real samples is "
            f"{np.median(sure):.2g}, of made ones {np.median(made):.2g}; a generator's gradient says little "
            "there",
            remedy=options(
                "one learning rate and one width for both", "label smoothing", "noise on the real samples",
                "a gradient penalty",
            ),
            evidence=(
                limits.evidence("sure", "logit against made samples, median", -float(np.median(made))),
                Symptom(
                    "batches that are called real and refused", len(refused), LATE - 1,
                    "they are the generator's; Arjovsky & Bottou (2017), §2.2",
                ),
            ),
        )
    ]  # fmt: skip


def _median_logit(term: LossTerm) -> float | None:
    """Median logit of outputs whose targets are all the same; None of other losses."""
    if term.name not in BINARY or term.output is None or term.target is None or not term.output.quantiles:
        return None
    if term.target.std > 1 - REAL:
        return None
    median = term.output.quantiles[2]
    if term.name == "binary_cross_entropy_with_logits":
        return median
    median = min(max(median, 1e-12), 1 - 1e-12)
    return math.log(median) - math.log1p(-median)
