"""Rule on axes: a softmax over the samples, or a mean over them, before the loss."""

from __future__ import annotations

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss_limits import LossLimits
from gradscape.measure.diagnose.loss_terms import CATEGORICAL, TermSeries, last_softmax
from gradscape.records.diagnosis import Finding, Symptom


def wrong_axis(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Return the finding that a softmax is over another axis than the classes', or a mean over samples.

    Args:
        series: Readings of one loss function.
    """
    return _softmax_axis(series) or _mean_of_batch(series)


def _softmax_axis(series: TermSeries) -> list[Finding]:
    term, operation = series.first, last_softmax(series.first)
    if operation is None or operation.dim is None or len(operation.shape) < 2:
        return []
    size = operation.shape[operation.dim]
    over_batch = operation.dim == 0 and size == series.batch > 1
    if series.name in CATEGORICAL and term.classes > 1:
        square = over_batch and len(operation.shape) == 2  # as many classes as samples
        if size == term.classes and not square:
            return []
        wanted = f"the axis of the {term.classes} classes"
    elif over_batch:
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
            evidence=(
                Symptom(
                    f"size of the axis that {operation.name} is over", size, 1, "it is meant to be another"
                )
                if size > 1
                else Symptom("axis that is normalized", 1, 0, "it is meant to be another"),
            ),
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
