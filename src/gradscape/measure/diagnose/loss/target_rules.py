"""Rules on the targets: whether the output can reach them, whether the loss is made for them, shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import (
    BINARY,
    CATEGORICAL,
    REGRESSION,
    ROUNDING,
    Bound,
    Sample,
    TermSeries,
)
from gradscape.records.diagnosis import Finding, Symptom

Rule = Callable[[TermSeries, LossLimits], list[Finding]]
FEWEST_CLASSES, MOST_CLASSES = 3, 30  # of whole-numbered targets that look like classes rather than counts
SQUASHES = ("softmax", "sigmoid")  # of outputs that a cross-entropy takes raw
UNIT = "binary cross-entropy takes 0 to 1"
INDICES = "each class index is the target of every output"
OTHERS = "every output is compared with the targets of other samples too"


def target_findings(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Return the faults of the targets beside the output and the loss.

    Args:
        series: Readings of one loss function.
        limits: Limits of the rules.
    """
    return [finding for rule in RULES for finding in rule(series, limits)]


def division_findings(curve: Curve) -> list[Finding]:
    """Return the finding that a loss divides by numbers of which some are near 0, as a percentage error may.

    Args:
        curve: Loss over steps, with its readings.
    """
    seen = [reading.divisor for reading in curve.history.readings if reading.divisor is not None]
    shares = [
        each.quantiles[0] / each.quantiles[2] for each in seen if each.quantiles and each.quantiles[2] > 0
    ]
    share = min(shares, default=math.inf)
    if not share < curve.limits.near_zero:
        return []
    return [
        Finding(
            verdict="unlikely loss function",
            layer="",
            cause="the loss divides by numbers some of which are next to 0, as a percentage error does by "
            "its targets: the samples that they are of outweigh all others",
            remedy=options(
                "mse_loss or l1_loss on standardized targets",
                "an error over the mean size of the targets, for all samples the same",
                "the logarithms of targets above 0",
            ),
            evidence=(
                curve.limits.evidence("near_zero", "least divisor over the median one", share, below=True),
            ),
        )
    ]


def _broadcast(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Shapes that differ, and make more pairs of outputs and targets than there are samples.

    Shapes of as many axes are broadcast on purpose (quantiles against quantiles), but for class indices; so
    are embeddings against each other, in a loss that has no targets.
    """
    term = series.first
    if not term.broadcast or len(term.shapes) != 2 or term.name == "unknown":
        return []
    output, target = term.shapes
    if not output or not target or 1 in (math.prod(output), math.prod(target)):
        return []
    try:
        result = np.broadcast_shapes(output, target)
    except ValueError:
        return []
    pairs, most = math.prod(result), max(math.prod(output), math.prod(target))
    indices = _are_indices(series, output, target)
    if (len(output) == len(target) or pairs == most) and not indices:
        return []
    cures = (
        ("cross_entropy, which takes class indices",)
        if indices
        else (
            f"targets in the shape of the output: target.reshape{output}",
            f"the output in that of the targets: output.reshape{target}",
        )
        if math.prod(output) == math.prod(target)
        else ("an output and targets of one shape",)
    )
    return [
        Finding(
            verdict="shapes broadcast",
            layer="",
            cause=f"output {output} against targets {target} is {result}: "
            + (INDICES if indices else OTHERS),
            remedy=options(*cures),
            evidence=(
                Symptom(
                    "numbers in the comparison over those of a target",
                    pairs / math.prod(target),
                    1.0,
                    "each output has one target",
                ),
            ),
        )
    ]


def _are_indices(series: TermSeries, output: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return True if the targets are one whole number a sample, below the number of outputs."""
    seen = series.target
    if seen is None or not seen.is_classes or len(output) != len(target) or target[-1] != 1:
        return False
    return output[:-1] == target[:-1] and output[-1] > 1 and 1 <= seen.high < output[-1]


def _out_of_reach(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Targets that the last activation cannot give."""
    bound, target = series.bound, series.target
    if series.name not in REGRESSION or bound is None or target is None or bound.is_constant:
        return []
    name = bound.operation.name
    beyond = target.beyond(bound.low, bound.high)
    if beyond > limits.out_of_reach:
        ends = f"targets are {target.low:.3g} … {target.high:.3g}, and the output, a {name}, {bound.words}"
        cures = _wider(bound, target)
    elif name == "softmax" and (beyond := _of_the_sum(series, bound, target)) > limits.out_of_reach:
        sum_of = target.mean * bound.operation.shape[bound.operation.dim or 0]
        ends = f"the targets of a sample sum to {sum_of:.3g} on average, and a softmax's outputs to 1"
        cures = ()
    else:
        return []
    return [
        Finding(
            verdict="output cannot reach the targets",
            layer="",
            cause=ends,
            remedy=options(f"remove the last {name}: the output of the last layer as it is", *cures),
            evidence=(limits.evidence("out_of_reach", "targets' variance out of reach", beyond),),
        )
    ]


def _wider(bound: Bound, target: Sample) -> tuple[str, ...]:
    """Cures beside no activation at all."""
    if math.isinf(bound.high):
        return ()
    within = f"targets scaled to {bound.low:.3g} … {bound.high:.3g}"
    binary = "targets of 0 and 1 with binary_cross_entropy_with_logits"
    return (within, binary) if target.is_signs else (within,)


def _of_the_sum(series: TermSeries, bound: Bound, target: Sample) -> float:
    """Share of the targets' variance that a softmax misses because its outputs have a mean of 1/C."""
    operation, seen = bound.operation, series.first.target
    if operation.dim is None or bound.pooled or seen is None or seen.shape != operation.shape:
        return 0.0
    missed = (target.mean - 1 / operation.shape[operation.dim]) ** 2
    return missed / target.variance if target.variance > 0 else 0.0


def _binary(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Targets of a binary cross-entropy beyond 0 … 1; classes beyond 1 with one output are another rule's."""
    target = series.target
    if series.name not in BINARY or target is None or (target.is_classes and series.units == 1):
        return []
    above, under = target.high - 1, -target.low
    if max(above, under) <= ROUNDING:
        return []
    return [
        Finding(
            verdict="loss does not fit the targets",
            layer="",
            cause=f"{series.name} takes targets from 0 to 1, and they are {target.low:.3g} … "
            f"{target.high:.3g}: the loss falls without bound",
            remedy=options("targets of 0 and 1: (target + 1) / 2")
            if target.is_signs
            else options(
                f"targets divided by {target.high:.3g}, if they are an image's or a mask's",
                "mse_loss or l1_loss for real numbers",
            ),
            evidence=(
                Symptom("largest target", target.high, 1.0, UNIT)
                if above > ROUNDING
                else Symptom("least target", target.low, 0.0, UNIT, below=True),
            ),
        )
    ]


def _several_labels(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Targets over classes that sum to more than 1, of a cross-entropy that takes one distribution."""
    seen = [term.target for term in series.terms if term.target is not None]
    classes = series.first.classes
    if series.name not in CATEGORICAL or not seen or classes < 2 or any(each.is_integer for each in seen):
        return []
    sum_of = float(np.mean([each.mean for each in seen])) * classes
    if not sum_of > limits.distribution:
        return []
    return [
        Finding(
            verdict="loss does not fit the targets",
            layer="",
            cause=f"the targets of a sample sum to {sum_of:.3g} on average, and {series.name} takes one "
            f"distribution over {classes} classes, which sums to 1",
            remedy=options(
                "binary_cross_entropy_with_logits, if a sample can be of several classes",
                "targets divided by their sum",
            ),
            evidence=(limits.evidence("distribution", "sum of a sample's targets, on average", sum_of),),
        )
    ]


def _counts(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Negative targets of a loss for counts."""
    target = series.target
    if series.name != "poisson_nll_loss" or target is None or not target.low < 0:
        return []
    return [
        Finding(
            verdict="loss does not fit the targets",
            layer="",
            cause=f"poisson_nll_loss takes counts, and targets are {target.low:.3g} … {target.high:.3g}: "
            "with a negative one the loss falls without bound",
            remedy=options("mse_loss or l1_loss for real numbers"),
            evidence=(Symptom("least target", target.low, 0.0, "a count is not negative", below=True),),
        )
    ]


def _unlikely(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Losses that train on such targets, and poorly: another is made for them."""
    classes = series.units
    one_hot = all(term.one_hot for term in series.terms) and classes > 1
    if one_hot and series.name in BINARY:
        cause = f"each target has a single 1 among {classes} classes, and {series.name} takes each by itself"
    elif one_hot and series.name in REGRESSION:
        cause = f"each target has a single 1 among {classes} classes, and {series.name} is for real numbers"
    elif _look_like_classes(series) and series.target is not None:
        cause = (
            f"targets are the whole numbers 0 … {series.target.high:.0f}, as class indices are, and "
            f"{series.name} takes class 2 for twice class 1"
        )
        classes = int(series.target.high) + 1
    elif series.stuck and _are_two_classes(series):
        cause = f"targets are 0 or 1, as of two classes, and {series.name} is for real numbers"
        classes = 2
    else:
        return []
    last = series.bound.operation.name if series.bound else ""
    raw = f"of the last layer, without the {last}" if last in SQUASHES else "as they are"
    return [
        Finding(
            verdict="unlikely loss function",
            layer="",
            cause=cause,
            remedy=options(
                "binary_cross_entropy_with_logits on the output of the last layer as it is"
                if series.units == 1 and classes == 2
                else f"cross_entropy on {classes} outputs {raw}",
                "nothing, if they are no classes",
            ),
            evidence=(Symptom("classes among the targets", classes, 1, "one number is none"),),
        )
    ]


def _look_like_classes(series: TermSeries) -> bool:
    """Return True if regression targets are few whole numbers from 0, each of them there."""
    target, counts = series.target, series.target_counts
    if series.name not in REGRESSION or target is None or not target.is_classes or series.units > 1:
        return False
    if series.first.target is None or not (series.first.target.is_integer or series.stuck):
        return False  # grades and counts are whole real numbers too
    number = int(target.high) + 1
    return FEWEST_CLASSES <= number <= MOST_CLASSES and bool((counts[:number] > 0).all())


def _are_two_classes(series: TermSeries) -> bool:
    """Return True if the targets of a regression of one output are 0 or 1, and both of them are there."""
    target = series.target
    if series.name not in REGRESSION or target is None or series.units > 1:
        return False
    return target.is_classes and (target.low, target.high) == (0, 1)


RULES: tuple[Rule, ...] = (_broadcast, _out_of_reach, _binary, _several_labels, _counts, _unlikely)
