"""Rules on the output and the loss: whether the one gives what the other takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.axis_rules import wrong_axis
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import (
    BINARY,
    CATEGORICAL,
    CLAMPS,
    CUTS,
    MOVES,
    REGRESSION,
    ROUNDING,
    SOFTMAX,
    Bound,
    TermSeries,
    last_place,
)
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import LossTerm, Operation

Rule = Callable[[TermSeries, LossLimits], list[Finding]]
MISFIT = "output does not fit the loss"
APPLIES = {"cross_entropy": "softmax", "binary_cross_entropy_with_logits": "sigmoid"}
ONE_SIDED = ("relu", "relu6", "softplus", "threshold")
SQUASHING = ("sigmoid", "hardsigmoid", "tanh", "softsign")
DIVIDED = {"div", "softsign"}  # by a sum, as Keras does, which makes no probabilities of what can be below 0
LOGARITHMS = ("log", "log_softmax", "logsigmoid", "logsumexp")


def output_findings(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Return the first fault of an output beside the loss that it is given to.

    Args:
        series: Readings of one loss function.
        limits: Limits of the rules.
    """
    return next((found for rule in RULES if (found := rule(series, limits))), [])


def _over_one_unit(term: LossTerm) -> Operation | None:
    """Return the last softmax of one unit, after which nothing mixes values, as an attention does."""
    for operation in reversed(term.operations):
        if operation.name in SOFTMAX:
            dim = operation.dim
            return operation if dim is not None and operation.shape[dim] == 1 else None
        if operation.name not in MOVES | CLAMPS | {"div", "log"}:
            break
    return None


def _one_unit(series: TermSeries, _: LossLimits) -> list[Finding]:
    """A softmax over one unit, which is 1 whatever comes in, or a cross-entropy of one class, which is 0."""
    operation = _over_one_unit(series.first)
    if operation is not None:
        gives = 1 if operation.name == "softmax" else 0
        verdict = MISFIT
        if series.name in REGRESSION and series.target is not None and not series.target.is_classes:
            verdict = "output cannot reach the targets"
        cause = f"{operation.name} is over a single unit: it gives {gives} for every input, and no gradient"
    elif series.name in CATEGORICAL and series.first.classes == 1:
        verdict = MISFIT
        cause = f"{series.name} is over a single output: a probability of one class alone is always 1"
    else:
        return []
    raw = "the output of the last layer as it is"
    cures = (
        (
            f"binary_cross_entropy_with_logits on {raw}",
            "a sigmoid in place of the softmax",
            "an output for each class",
        )
        if verdict == MISFIT
        else (f"no softmax: {raw}",)
    )
    return [
        _misfit(
            cause,
            options(*cures),
            Symptom("units that the softmax is over", 1, 2, "a softmax of one number is 1", below=True),
            verdict,
        )
    ]


def _bounded(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """A bounded output where logits are wanted: the loss cannot fall below what its range allows."""
    bound = series.bound
    if series.name not in APPLIES or bound is None:
        return []
    least, guessing = _reachable(series, bound)
    if not least > limits.floor * guessing:
        return []
    name = bound.operation.name
    twice = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy_with_logits"}.get(
        name
    ) == series.name
    why = f"{series.name} applies {name} itself: it is applied twice" if twice else "logits are not bounded"
    return [
        _misfit(
            f"{name} comes before {series.name}: an output that {bound.words} keeps the loss above "
            f"{least:.3g}, where guessing's is {guessing:.3g}; {why}",
            options(f"remove the {name}: {series.name} takes the output of the last layer as it is"),
            limits.evidence("floor", "least loss in reach over guessing's", least / guessing),
        )
    ]


def _reachable(series: TermSeries, bound: Bound) -> tuple[float, float]:
    """Least loss of logits within a range, and the loss of guessing."""
    if series.name == "cross_entropy":
        classes = max(series.units, 2)
        return math.log1p((classes - 1) * math.exp(bound.low - bound.high)), math.log(classes)
    ones = series.target.mean if series.target is not None else 0.5
    ones = min(max(ones, 0.0), 1.0)
    least = (1 - ones) * math.log1p(math.exp(bound.low)) + ones * math.log1p(math.exp(-bound.high))
    return least, math.log(2)


def _one_sided(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """An activation without negative values before a cross-entropy of classes.

    Before a pool it is in networks that train (SqueezeNet's last layer is): there the loss must say so too.
    """
    bound = series.bound
    if series.name != "cross_entropy" or bound is None or not bound.low > limits.least_logit:
        return []
    if bound.operation.name not in ONE_SIDED or (bound.pooled and not series.stuck):
        return []
    name = bound.operation.name
    return [
        _misfit(
            f"{name} comes before cross_entropy: an output that {bound.words} cannot speak against a class, "
            "and a unit that is 0 on all samples learns no more",
            options(f"remove the last {name}: cross_entropy takes the output of the last layer as it is"),
            limits.evidence("least_logit", "least value that an output can have", bound.low),
        )
    ]


def _not_log(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Outputs that are no log-probabilities where the loss takes them: above 0, or made by no logarithm."""
    output, term = series.output, series.first
    if series.name not in ("nll_loss", "kl_div") or term.has(*LOGARITHMS):
        return []
    place = last_place(term)
    name = term.operations[place].name if place >= 0 else ""
    if name not in ("softmax", *SQUASHING[:2]) and (output is None or not output.high > ROUNDING):
        return []
    high = 1.0 if output is None else output.high
    what = f"the output of {name}, probabilities" if name else "raw outputs"
    log = "log_softmax in place of softmax" if name == "softmax" else "log_softmax before it"
    return [
        _misfit(
            f"{series.name} takes log-probabilities, and is given {what}",
            options(log, "cross_entropy on the output of the last layer as it is")
            if series.name == "nll_loss"
            else options(log),
            Symptom("largest output", high, 0.0, "the logarithm of a probability is not above 0"),
        )
    ]


def _no_probability(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Raw outputs that are cut to 0 … 1 in place of a sigmoid or softmax: no gradient where they are cut."""
    names = [each.name for each in series.first.operations]
    if "log" in names:
        names = names[: names.index("log")]
    elif series.name != "binary_cross_entropy":
        return []
    cut = [name for name in names if name in CLAMPS or name in ("hardtanh", "relu6")]
    if not cut or not (CUTS | DIVIDED).issuperset(names):
        return []
    if series.name not in (*BINARY, *CATEGORICAL) and not _within_one(series):
        return []
    by = f"after {names[names.index(cut[-1]) - 1]} " if names.index(cut[-1]) else ""
    return [
        _misfit(
            f"the loss takes probabilities, and is given raw outputs {by}that {cut[-1]} cuts to 0 … 1: where "
            "they are cut no gradient passes",
            options(
                "a loss that takes logits: binary_cross_entropy_with_logits, or cross_entropy for classes",
                "a sigmoid (of classes a softmax) in place of the cut",
            ),
            Symptom("operations that make probabilities", 0, 1, "one is meant to be", below=True),
        )
    ]


def _within_one(series: TermSeries) -> bool:
    """Return True if the outputs read are all between 0 and 1, at least one of them at an end of the cut."""
    output = series.output
    return output is not None and output.low >= 0 and output.high <= 1


def _one_output(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Class indices beyond 1 where a single output can say but no or yes."""
    target = series.target
    if series.name not in BINARY or target is None or not target.is_classes:
        return []
    if series.units != 1 or not target.high > 1:
        return []
    if len(np.flatnonzero(series.target_counts)) == 2 or target.is_at_ends:
        what = f"{target.low:.0f} and {target.high:.0f}"
        cures = [f"targets of 0 and 1: (target == {target.high:.0f}).float()"]
    else:
        what = f"the whole numbers {target.low:.0f} … {target.high:.0f}"
        cures = [f"{target.high + 1:.0f} outputs and cross_entropy", "mse_loss, if they are no classes"]
    return [
        _misfit(
            f"targets are {what}, and {series.name} has one output, which can tell 0 from 1 alone: the loss "
            "falls without bound",
            options(*cures),
            Symptom("largest target", target.high, 1.0, "binary cross-entropy takes 0 to 1"),
        )
    ]


def _one_sample(series: TermSeries, _: LossLimits) -> list[Finding]:
    """A loss of the first or last sample of a batch alone, of features or images."""
    inputs, output = series.readings[0].inputs, series.first.shapes[:1]
    if inputs is None or len(inputs.shape) not in (2, 4) or not output or not output[0]:
        return []
    taken = [each for each in series.first.operations if each.name in ("slice", "select") and each.dim == 0]
    if not taken or inputs.shape[0] < 2 or output[0][0] != 1:
        return []
    return [
        Finding(
            verdict="loss of one sample",
            layer="",
            cause=f"{taken[-1].name} takes one of the batch's {inputs.shape[0]} samples before "
            f"{series.name}: the others are not learned from",
            remedy=options("look at the index of the output: its first axis is the batch"),
            evidence=(Symptom("samples in a batch", inputs.shape[0], 1, "a loss is of all of a batch"),),
        )
    ]


def _maximized(series: TermSeries, _: LossLimits) -> list[Finding]:
    """A cross-entropy or distance below 0 at every reading: its sign is turned."""
    values = [value for value in series.values if math.isfinite(value)]
    if series.name not in ("cross_entropy", *REGRESSION) or not series.alone or not values:
        return []
    if not max(values) < 0:
        return []
    return [
        _misfit(
            f"the loss is {series.name} with its sign turned: {values[0]:.3g}, and {values[-1]:.3g} in the "
            "end, where 0 is the least that it can be",
            options("minimize it as it is", "nothing, if it is meant to grow, as for an adversary"),
            Symptom("largest loss read", max(values), 0.0, "no distance is below 0", below=True),
            "loss is maximized",
        )
    ]


def _independent(series: TermSeries, _: LossLimits) -> list[Finding]:
    """Sigmoids of each class where the loss takes one distribution over all."""
    operations = [each for each in series.first.operations if each.name not in MOVES | CLAMPS]
    names = [each.name for each in operations]
    place = next((at for at, name in enumerate(names) if name in ("sigmoid", "logsigmoid")), None)
    if place is None or any(name in names for name in SOFTMAX):
        return []
    shape = operations[place].shape
    units = shape[-1] if len(shape) > 1 else series.units
    after = names[place:]
    if units < 2:
        return []
    if "div" in after and "log" in after[after.index("div") :]:
        return [_of_sigmoids("sigmoids that are divided by their sum", units)]
    if series.name == "nll_loss" and after in (["sigmoid", "log"], ["logsigmoid"]):
        return [_of_sigmoids("logarithms of sigmoids, and nothing lowers those of other classes", units)]
    return []


def _of_sigmoids(what: str, units: int) -> Finding:
    return _misfit(
        f"the loss takes one distribution over {units} classes, and is given {what}",
        options(
            "cross_entropy on the output of the last layer as it is",
            "binary_cross_entropy_with_logits, if a sample can be of several classes",
        ),
        Symptom("sigmoids in place of one softmax", units, 1, "classes that exclude each other share one"),
    )


def _misfit(cause: str, remedy: str, evidence: Symptom, verdict: str = MISFIT) -> Finding:
    return Finding(verdict, "", cause, remedy, (evidence,))


RULES: tuple[Rule, ...] = (
    _maximized,
    _one_unit,
    wrong_axis,
    _bounded,
    _one_sided,
    _not_log,
    _no_probability,
    _one_output,
    _independent,
    _one_sample,
)
