"""Rule on axes: a softmax over the samples, or a mean over them, before the loss."""

from __future__ import annotations

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import CATEGORICAL, TermSeries, softmax_place
from gradscape.records.diagnosis import Finding, Symptom


def wrong_axis(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Return the finding that a softmax is over another axis than the classes', or a mean over samples.

    Args:
        series: Readings of one loss function.
    """
    return _softmax_axis(series) or _mean_of_batch(series)


def _softmax_axis(series: TermSeries) -> list[Finding]:
    term, place = series.first, softmax_place(series.first)
    operation = term.operations[place] if place >= 0 else None
    if operation is None or operation.dim is None or len(operation.shape) < 2:
        return []
    size = operation.shape[operation.dim]
    over_batch = operation.dim == 0 and size == series.batch > 1
    if series.name in CATEGORICAL and term.classes > 1:
        known = term.class_axes[place] if term.class_axes else None
        square = over_batch and len(operation.shape) == 2  # as many classes as samples
        if known == operation.dim or (known is None and size == term.classes and not square):
            return []
        wanted = f"the axis of the {term.classes} classes"
    elif over_batch and operation.shape[1] != size:  # pairs of samples are normalized over either
        wanted = "the axis of the outputs"
    else:
        return []
    over = "the batch" if over_batch else f"{size} numbers"
    return [
        Finding(
            verdict="wrong axis",
            layer="",
            cause=f"{operation.name} is over axis {operation.dim} of {operation.shape}, {over}, and not over "
            f"{wanted}",
            remedy=options(
                f"dim={len(operation.shape) - 1} or the axis of the classes in {operation.name}",
                "cross_entropy on the output itself",
            ),
            evidence=(Symptom("axes normalized in place of the classes'", 1, 0, "none is meant to be"),),
        )
    ]


def _mean_of_batch(series: TermSeries) -> list[Finding]:
    """A mean over axis 0 that leaves no batch, where the targets still have theirs."""
    inputs, target = series.readings[0].inputs, series.first.target
    if inputs is None or target is None or not inputs.shape or not target.shape:
        return []
    batch = inputs.shape[0]
    if batch != target.shape[0] or batch < 2:
        return []
    means = [
        each
        for each in series.first.operations
        if each.name == "mean" and each.dim == 0 and each.shape[:1] != (batch,)
    ]
    if not means:
        return []
    return [
        Finding(
            verdict="wrong axis",
            layer="",
            cause=f"a mean over axis 0, the {batch} samples of the batch, is taken before the loss: "
            f"{means[0].shape} is left for {batch} targets",
            remedy=options("a mean over another axis", "no mean before the loss"),
            evidence=(Symptom("samples that share one output", batch, 1, "each has a target of its own"),),
        )
    ]
