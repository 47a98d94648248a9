"""Rules on the loss over steps: not finite, diverging, not falling, too high at first, with spikes."""

from __future__ import annotations

import math

import numpy as np

from gradscape._text import count_noun, join_names
from gradscape.measure.diagnose.advice import ANOTHER, FIND_RATE, LOWER, options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.guessing import PER_CLASS
from gradscape.measure.diagnose.loss.label_rules import chi_squared_tail
from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, TermSeries
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.loss import StepReading, TensorSummary
from gradscape.records.spike_search import FEWEST, spikes_of
from gradscape.records.spikes import Spike

MANY = 8  # rows that are named: of as many there may be more
BATCHES = "look at the batches of these steps, and repeat one without its batch, by gs.replay"
OWN_TARGETS = "targets that do not come from the network that is trained"


def curve_findings(curve: Curve) -> list[Finding]:
    """Return the faults that the loss over steps shows.

    Args:
        curve: Loss over steps.
    """
    rules = (_not_finite, _diverges, _does_not_fall, _begins_high, _spikes)
    return [finding for rule in rules for finding in rule(curve)]


def _not_finite(curve: Curve) -> list[Finding]:
    """A loss that stops being a number, and the first of inputs, targets and outputs that was none."""
    if not curve.breaks:
        return []
    values, steps = curve.history.values, curve.history.steps
    first = int(np.argmax(~np.isfinite(values)))
    step = int(steps[first])
    source, where = _source_of(curve, step)
    if not source and (half := _in_half(curve.history.readings)):
        return [_beyond_half(curve, step, half)]
    cause = f"at step {step} the loss is not finite for the first time"
    cures = {
        "inputs": ("leave out or fill in what is missing in the inputs",),
        "targets": ("leave out or fill in what is missing in the targets",),
    }.get(source, ("a guarded logarithm, root or quotient in the loss", LOWER, "clip gradients"))
    before = np.abs(values[:first])
    if not source and first and before.max() > curve.limits.grown * before[0] > 0:
        cause = f"the loss had risen from {values[0]:.3g} to {before.max():.3g} before: {cause}"
        cures = (LOWER, "warm-up", "clip gradients")
    if source:
        cause = f"{source} have infinite values or NaN{where}: {cause}"
    elif where:
        cause = f"{cause}; outputs are not finite{where}, whose inputs are"
    return [
        Finding(
            verdict="non-finite",
            layer="",
            cause=cause,
            remedy=options(*cures),
            evidence=(
                Symptom("steps whose loss is not finite", float((~np.isfinite(values)).sum()), 0, "IEEE 754"),
            ),
        )
    ]


def _in_half(readings: tuple[StepReading, ...]) -> StepReading | None:
    """Return a reading in which the output, or the loss's, is in float16; None without any."""
    return next((reading for reading in readings if "float16" in _dtypes(reading)), None)


def _dtypes(reading: StepReading) -> set[str]:
    seen = (reading.output, *(term.output for term in reading.terms))
    return {each.dtype for each in seen if each is not None}


def _beyond_half(curve: Curve, step: int, reading: StepReading) -> Finding:
    """Report a loss that stops being a number in half precision, whose range is small."""
    logs = any(term.has("softmax") and term.has("log") for term in reading.terms)
    return Finding(
        verdict="half precision overflows",
        layer="",
        cause=f"at step {step} the loss is not finite for the first time, and its output is in float16, in "
        "which numbers above 65,504 are infinite and those below 6e-8 are 0",
        remedy=options(
            *(("log_softmax in place of the logarithm of a softmax",) if logs else ()),
            "the loss in float32: output.float()", "weights in float32 under autocast, with a GradScaler",
            "bfloat16, which has float32's range",
        ),
        evidence=(
            Symptom(
                "steps whose loss is not finite", float((~np.isfinite(curve.history.values)).sum()), 0,
                "IEEE 754: five bits of exponent",
            ),
        ),
    )  # fmt: skip


def _source_of(curve: Curve, step: int) -> tuple[str, str]:
    """Name of what was read not finite up to a step, inputs or targets, and rows of the batch, in words.

    Without a name the rows are those whose outputs are not finite at the step itself, if they are not all.
    """
    for reading in curve.history.readings:
        if reading.step > step:
            break
        targets = [term.target for term in reading.terms if term.target is not None]
        for name, seen in (("inputs", reading.inputs), *(("targets", each) for each in targets)):
            if seen is not None and (seen.nonfinite or seen.broken):
                return name, _rows_of(seen) + (f" at step {reading.step}" if reading.step < step else "")
        outputs = (reading.output, *(term.output for term in reading.terms))
        for seen in outputs if reading.step == step else ():
            if seen is not None and seen.broken and len(seen.broken) < min(MANY, seen.shape[0]):
                return "", _rows_of(seen)
    return "", ""


def _rows_of(seen: TensorSummary) -> str:
    """Name the rows of a batch that are not finite; empty where they are not known."""
    if not seen.broken:
        return ""
    more = " and more" if len(seen.broken) == MANY else ""
    rows = ", ".join(map(str, seen.broken))
    return f" in {'row' if len(seen.broken) == 1 else 'rows'} {rows}{more} of {seen.shape[0]}"


def _diverges(curve: Curve) -> list[Finding]:
    if curve.breaks or not curve.diverges:
        return []
    limits, steps = curve.limits, count_noun(len(curve.finite), "step")
    if curve.guessing is not None:
        above = max(curve.first, curve.highest_guess)
        cause = (
            f"after {steps} the loss is {curve.last:.3g}: it began at {curve.first:.3g}, and guessing's is "
        )
        cause += f"{curve.guessing:.3g}"
        evidence = limits.evidence("diverged", "last loss over the first or guessing's", curve.last / above)
    else:
        way = "risen" if curve.last > 0 else "fallen"
        cause = f"after {steps} the loss has {way} to {curve.last:.3g} from {curve.first:.3g} without bound"
        grown = abs(curve.last) / curve.reference
        evidence = limits.evidence("grown", "last loss over the largest of the first quarter", grown)
    falls = curve.last < 0
    cures = (
        ("look at the loss's sign and at what bounds it",)
        if falls
        else (LOWER, FIND_RATE, "warm-up", "clip gradients", OWN_TARGETS)
    )
    return [Finding("loss diverges", "", cause, options(*cures), (evidence,))]


def _does_not_fall(curve: Curve) -> list[Finding]:
    """A loss that is one number, or where the best constant output would have it, and stays there."""
    if curve.breaks or curve.diverges or not curve.stuck:
        return []
    number, random = len(curve.finite), not curve.constant and _tokens_are_random(curve)
    if curve.constant:
        cause = f"the loss is {curve.last:.6g} at all {number} steps: it does not depend on the weights"
        evidence = [curve.limits.evidence("constant", "steps of one loss", number)]
    else:
        assert curve.guessing is not None
        cause = (
            f"after {number} steps the loss is {curve.last:.3g}, and one output for all samples would give "
        )
        cause += f"{curve.guessing:.3g}"
        evidence = [
            curve.limits.evidence("guessing", "late losses over guessing's", curve.over_guessing),
            curve.limits.evidence("enough", "steps", number),
        ]
        if random:
            cause += "; all tokens come equally often: targets that are drawn at random cannot be predicted"
        if (same := _says_one_class(curve.history.readings[-1])) is not None:
            label, share, samples = same
            cause += f"; it says class {label} of all {samples} samples"
            what = "share of samples that are given to one class, where labels are of several"
            evidence.append(Symptom(what, 1.0, share, "share of the largest class among the labels"))
    return [
        Finding(
            verdict="loss does not fall",
            layer="",
            cause=cause,
            remedy=options(
                "look whether targets belong to their inputs",
                "fit a single batch first, by gs.check",
                ANOTHER,
                FIND_RATE,
            ),
            evidence=tuple(evidence),
            mild=random,
        )
    ]


def _tokens_are_random(curve: Curve) -> bool:
    """True if targets are tokens that are alike often, as drawn by chance: nothing may be there to learn."""
    series = curve.only
    if series is None or series.name not in CATEGORICAL or series.first.target is None:
        return False
    inputs, counts, classes = series.readings[0].inputs, series.target_counts, series.first.classes
    if inputs is None or not inputs.is_integer or inputs.low < 0 or inputs.high >= classes:
        return False
    if math.prod(inputs.shape) != math.prod(series.first.target.shape):
        return False
    expected = counts.sum() / classes
    if len(counts) < classes or expected < PER_CLASS:
        return False
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return chi_squared_tail(classes - 1, statistic) > curve.limits.random


def _says_one_class(reading: StepReading) -> tuple[int, float, int] | None:
    """Class that all samples are given, largest share among labels, samples; None if there are several."""
    for term in reading.terms:
        told, labels = np.array(term.predicted_counts), np.array(term.target_counts)
        if len(told) and told.sum() > 1 and told.max() == told.sum() and (labels > 0).sum() > 1:
            return int(told.argmax()), float(labels.max() / labels.sum()), int(told.sum())
    return None


def _begins_high(curve: Curve) -> list[Finding]:
    """A first loss far above that of an output without an opinion: outputs begin too large."""
    series = curve.only
    if series is None or not len(curve.finite) or curve.history.steps[0] != 0:
        return []
    none = _without_opinion(series)
    if none is None or not math.isfinite(curve.history.values[0]):
        return []
    limit = "initial" if series.name in (*BINARY, *CATEGORICAL) else "initial_real"
    first = float(curve.history.values[0])
    if not first > getattr(curve.limits, limit) * none:
        return []
    spread = series.first.output
    wide = "" if spread is None else f": outputs begin with a standard deviation of {spread.std:.3g}"
    return [
        Finding(
            verdict="initial loss too high",
            layer="",
            cause=f"the loss begins at {first:.3g}, and an output without an opinion gives {none:.3g}{wide}",
            remedy=options(
                "smaller initial weights in the last layer (an embedding tied to it: N(0, 0.02))",
                "inputs of mean 0 and variance 1",
            ),
            evidence=(curve.limits.evidence(limit, "first loss over that", first / none),),
        )
    ]


def _without_opinion(series: TermSeries) -> float | None:
    """Loss of outputs that are all 0; None where it is not known."""
    term, target = series.first, series.target
    if term.reduction != "mean" or any(each.weighted for each in series.terms):
        return None
    if series.name in CATEGORICAL:
        return math.log(term.classes) if term.classes > 1 else None
    if series.name in BINARY:
        return math.log(2)
    if series.name != "mse_loss" or target is None or not target.rms > 0:
        return None
    return target.rms**2


def _spikes(curve: Curve) -> list[Finding]:
    """Steps whose loss is far above that of the steps before, beyond the noise of its logarithm, and back."""
    history = curve.history
    if curve.only is None or curve.breaks or len(history.values) < FEWEST:
        return []
    known = {each.first: each for each in history.spikes}
    found = [known.get(each.first, each) for each in spikes_of(history.steps, history.values, history.small)]
    found = [each for each in found if each.back is not None and each.factor > curve.limits.spike]
    broken = int((~np.isfinite(history.values)).sum())
    if not found and not broken:
        return []
    if found:
        highest = max(found, key=lambda each: each.factor)
        steps = join_names([str(each.first) for each in found], 3)
        several = "" if len(found) == 1 else f"{len(found)} spikes, at steps {steps}; the highest: "
        cause, looks = several + _told(highest), _looks(highest)
        evidence = curve.limits.evidence("spike", "loss over the median of the steps before", highest.factor)
    if broken:
        evidence = Symptom("steps whose loss is not finite", broken, 0, "IEEE 754")
    if not found:
        cause, looks = f"the loss is not finite at {count_noun(broken, 'step')}", (BATCHES,)
    return [Finding("loss spikes", "", cause, options("clip gradients", LOWER, *looks), (evidence,))]


def _told(spike: Spike) -> str:
    """Describe a spike in a clause: its height, its batch, and what moved first."""
    parts = [spike.heading]
    if spike.batch is not None:
        parts.append(f"batch: {spike.batch}")
    if spike.moves:
        parts.append(f"first moved the {spike.moves[0]}")
    return "; ".join(parts)


def _looks(spike: Spike) -> tuple[str, ...]:
    """Name what to look at: the batch, and a second moment that is behind where updates grew before."""
    first = spike.moves[0] if spike.moves else None
    behind = first is not None and first.quantity == "update" and first.ahead > 0
    return (*(("a lower β₂ of Adam (Wortsman et al. 2023, §3.4)",) if behind else ()), BATCHES)
