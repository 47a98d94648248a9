"""Rules on the loop around the network: clearing, learning rates, penalties, who is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradscape._text import join_names
from gradscape.measure.diagnose.advice import HIGHER, LOWER, options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, REGRESSION
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.encoding import Values
from gradscape.records.gradients import WEIGHT_KINDS, FlowHistory, OptimizerFacts


@dataclass(frozen=True)
class LoopLimits:
    """Limits of the rules on the loop.

    Attributes:
        kept: Share of steps that add to the gradients of the step before.
        ended: Learning rate over the largest one, below which no step is made,
        ended_for: and the share of the steps that were watched for which it is so.
        halves: Number of steps in which a learning rate that falls at every step is halved.
        penalty: Weight decay's part of a step over the loss's, in the first steps.
        written: First loss over that of guessing, where a penalty is added to it.
        ulp: Step of a weight over the weight, as a multiple of half the distance to the next number.
    """

    kept: float = 0.5
    ended: float = 1e-3
    ended_for: float = 0.5
    halves: float = 30.0
    penalty: float = 1.0
    written: float = 3.0
    ulp: float = 0.5


LIMITS = LoopLimits()
FIRST = 10  # rows that tell how a training begins
ENOUGH = 20  # rows that a schedule is judged by
# Half the distance between a number and the next, beside the number: of 8 and of 11 bits.
HALF_ULP = {"bfloat16": 2.0**-9, "float16": 2.0**-12}


def loop_findings(history: FlowHistory, limits: LoopLimits = LIMITS) -> list[Finding]:
    """Return the faults of the loop around the network.

    Args:
        history: History of a watch.
        limits: Limits of the rules.
    """
    return [finding for rule in RULES for finding in rule(history, limits)]


def _kept(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """Steps that add to the gradients of the step before."""
    seen = history.clearings
    if seen is None or seen.steps < 3 or seen.kept <= limits.kept * seen.steps:
        return []
    what = f"share of {seen.steps} steps whose gradients were added to those of the step before"
    return [
        Finding(
            verdict="gradients not cleared",
            layer="",
            cause="nothing clears .grad between steps: each step uses the sum of all gradients so far",
            remedy="optimizer.zero_grad() before each backward pass, or once for each step with accumulation",
            evidence=(
                Symptom(
                    what, seen.kept / seen.steps, limits.kept, "a step uses the gradient of its own loss"
                ),
            ),
        )
    ]


def _maximized(history: FlowHistory, _: LoopLimits) -> list[Finding]:
    """An optimizer that climbs a loss which is meant to be low."""
    climbing = [facts for facts in history.optimizers if facts.maximize]
    readings = history.loss.readings if history.loss is not None else ()
    names = {term.name for reading in readings for term in reading.terms}
    if not climbing or not names or not names <= {*CATEGORICAL, *BINARY, *REGRESSION}:
        return []
    return [
        Finding(
            verdict="loss is maximized",
            layer="",
            cause=f"{climbing[0].name} has maximize=True, and the loss is {join_names(sorted(names))}",
            remedy=options("maximize=False", "nothing, if it is meant to grow, as for an adversary"),
            evidence=(Symptom("optimizers that climb the loss", len(climbing), 0, "a loss is to be low"),),
        )
    ]


def _left_out(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """Parameters that no optimizer trains: forgotten, or made after it."""
    left = history.untrained
    if left is None or not left.names:
        return []
    swapped = left.foreign > 0
    what = "share of the model's numbers that no optimizer has"
    return [
        Finding(
            verdict="parameters not trained" if swapped else "parameters outside the optimizer",
            layer=left.names[0],
            cause=f"{join_names(left.names)} require a gradient and belong to no optimizer"
            + (f", which has {left.foreign} tensors of another model: it was made before them" * swapped),
            remedy=options(
                "make the optimizer after the model is complete, from model.parameters()",
                "requires_grad_(False) for what is meant to stay",
            ),
            evidence=(Symptom(what, left.share, 0.0, "what requires a gradient is meant to be trained"),),
        )
    ]


def _outside(history: FlowHistory, _: LoopLimits) -> list[Finding]:
    """Parameters that the loss depends on, and that neither the model nor an optimizer knows."""
    readings = () if history.loss is None else history.loss.readings
    counts = [reading.outside for reading in readings if reading.terms][:3]
    if not counts or not min(counts):
        return []
    what = "parameter tensors in the loss's graph that neither the model nor an optimizer has"
    return [
        Finding(
            verdict="parameters not trained",
            layer="",
            cause=f"the loss depends on {counts[0]} parameter tensors that model.parameters() does not give: "
            "layers in a Python list or dict, or made in forward()",
            remedy=options(
                "nn.ModuleList or nn.ModuleDict in place of list or dict", "make layers in __init__"
            ),
            evidence=(Symptom(what, float(counts[0]), 0.0, "none is meant to be"),),
        )
    ]


def _parted(history: FlowHistory, _: LoopLimits) -> list[Finding]:
    """An embedding and an output layer that began as copies, and are trained apart."""
    if not history.parted:
        return []
    (embedding, layer), number = history.parted[0], len(history.parted)
    return [
        Finding(
            verdict="tied weights came apart",
            layer=layer,
            cause=f"{embedding} and {layer} began with the same numbers, and each has its own now: they are "
            "copies, not one parameter",
            remedy=options(
                f"{layer} = {embedding}, without clone() or deepcopy, before the optimizer is made",
                "nothing, if only their first values are meant to be the same",
            ),
            evidence=(
                Symptom(
                    "pairs of weights that began equal and differ", number, 0,
                    "tied weights are one tensor; Press & Wolf (2017)",
                ),
            ),
        )
    ]  # fmt: skip


def _own_target(history: FlowHistory, _: LoopLimits) -> list[Finding]:
    """A loss that grows without bound while each step calls the model once more, for a target of its own."""
    readings = () if history.loss is None else history.loss.readings
    shares = [reading.silent_calls / reading.calls for reading in readings if reading.calls]
    if history.loss is None or len(shares) < ENOUGH // 2 or not Curve(history.loss, LossLimits()).diverges:
        return []
    share = float(np.median(shares))
    if not 0 < share < 1:
        return []
    what = "share of the model's calls in a step whose output no gradient reaches"
    return [
        Finding(
            verdict="target is the network itself",
            layer="",
            cause="at each step the model is called for the loss and once more without a gradient, and the "
            "loss grows without bound: it runs after a target that moves with every step",
            remedy=options("a copy of the network for the targets, updated now and then", LOWER),
            evidence=(Symptom(what, share, 0.0, "Mnih et al. (2015), Methods: a separate target network"),),
        )
    ]


def _largest_rates(history: FlowHistory) -> Values:
    """(T,) Largest learning rate in each row of a step that was made; NaN where it is not known."""
    if history.rates is None:
        return np.zeros(0)
    rates = history.rates[~history.skipped]
    known = np.isfinite(rates).any(axis=1)
    return np.where(known, np.nan_to_num(rates, nan=-math.inf).max(axis=1, initial=-math.inf), np.nan)


def _ended(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """Learning rates that are 0, or were a thousand times as large for most of what was watched."""
    rates = _largest_rates(history)
    rates = rates[np.isfinite(rates)]
    if not len(rates):
        return []
    most = float(rates.max())
    if most == 0 and len(rates) >= 3:
        return [_at_zero("the learning rate is 0 at every step", 1.0, limits)]
    low = rates <= limits.ended * most
    if len(rates) < ENOUGH or not low[-1] or low.mean() <= limits.ended_for:
        return []
    since = int(history.steps[~history.skipped][np.flatnonzero(~low)[-1]]) + 1
    cause = f"since step {since} the learning rate is {rates[-1]:.2g}, and was {most:.2g}"
    return [_at_zero(f"{cause}: the schedule has come to its end", float(low.mean()), limits)]


def _at_zero(cause: str, share: float, limits: LoopLimits) -> Finding:
    return Finding(
        verdict="learning rate is 0",
        layer="",
        cause=cause,
        remedy=options(
            "step the schedule once for each epoch, if its numbers are epochs", "a longer schedule", HIGHER
        ),
        evidence=(
            Symptom(
                f"share of steps at less than {limits.ended:g} of the largest learning rate",
                share,
                limits.ended_for,
                "a schedule is meant to end with the training",
            ),
        ),
    )


def _falls_fast(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """A learning rate that falls by a factor at every step: a schedule of epochs, stepped per batch."""
    rates = _largest_rates(history)
    rates = rates[np.isfinite(rates) & (rates > 0)]
    if len(rates) < ENOUGH or history.row != "step":
        return []
    steps = np.diff(history.steps[~history.skipped][: len(rates)])
    falls = np.diff(np.log2(rates)) / np.maximum(steps, 1)[: len(rates) - 1]
    least, most = np.quantile(falls, (0.1, 0.9))
    if not (most < 0 and least > 1.1 * most):  # else it is no factor: a cosine falls faster and faster
        return []
    halves = -1 / float(np.median(falls))
    if halves >= limits.halves:
        return []
    return [
        Finding(
            verdict="schedule",
            layer="",
            cause=f"the learning rate falls at every step, and is halved within {halves:.0f} steps",
            remedy="step the schedule once for each epoch, if its factor is meant for epochs",
            evidence=(
                Symptom(
                    "steps in which the learning rate is halved", halves, limits.halves,
                    "exponential schedules are made for epochs", below=True,
                ),
            ),
        )
    ]  # fmt: skip


def _penalty(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """Weight decay that outweighs the loss from the first steps on."""
    found = [
        (facts, ratio) for facts in history.optimizers if (ratio := _of_decay(history, facts)) is not None
    ]
    if not found:
        return []
    facts, ratio = max(found, key=lambda each: each[1])
    if not ratio > limits.penalty:
        return []
    what = "lr · decay · ‖W‖ over ‖ΔW‖" if facts.decoupled else "decay · ‖W‖ over ‖∂L/∂W‖"
    return [
        Finding(
            verdict="penalty above the loss",
            layer="",
            cause=f"weight decay of {max(facts.decay):g} takes more of each step than the loss does: "
            "the weights go to 0",
            remedy=options(f"a weight decay of {max(facts.decay) / ratio / 100:.1g} or less", "none at all"),
            evidence=(
                Symptom(
                    f"{what}, median over weight layers in the first {FIRST} steps", ratio, limits.penalty,
                    "half of the step or more is the penalty's",
                ),
            ),
        )
    ]  # fmt: skip


def _written_penalty(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """A penalty in the loss itself that outweighs a cross-entropy in the beginning, while that stays high."""
    if history.loss is None or not history.loss.readings or not len(history.loss.values):
        return []
    terms = history.loss.readings[0].terms
    classes = max((term.classes for term in terms if term.name in CATEGORICAL), default=0)
    if classes < 2 or {term.name for term in terms} - {*CATEGORICAL, "penalty"} or len(terms) != 2:
        return []
    first, last = (float(value) / math.log(classes) for value in history.loss.values[[0, -1]])
    if history.loss.steps[0] != 0 or not first > limits.written or not last > LossLimits().learned:
        return []
    return [
        Finding(
            verdict="penalty above the loss",
            layer="",
            cause="a penalty of the parameters that is added to the loss outweighs it: of "
            f"{history.loss.values[0]:.3g} at first no more than {math.log(classes):.3g} is a guess's",
            remedy=options("a factor of the penalty that is ten times smaller", "none at all"),
            evidence=(
                Symptom(
                    "first loss over that of guessing", first, limits.written,
                    "two thirds of the loss are the penalty's",
                ),
            ),
        )
    ]  # fmt: skip


def _of_decay(history: FlowHistory, facts: OptimizerFacts) -> float:
    """Return the decay's part of the first steps over the loss's, of a typical and of the last weight layer.

    The smaller of the two: where gradients vanish, the penalty outweighs them in the first layers alone.
    Layers whose gradient is exactly 0 do not count: nothing else moves them, whatever the decay is.
    """
    made = np.flatnonzero(~history.skipped)[:FIRST]
    if not facts.decay or len(made) < 3 or history.row != "step" or history.steps[0] > 0:
        return 0.0
    decay = dict(zip(facts.members, facts.decay, strict=True))
    places = [place for place in facts.members if history.kinds[place] in WEIGHT_KINDS and decay[place]]
    if not places or (facts.decoupled and history.rates is None):
        return 0.0
    penalty = np.array([decay[place] for place in places]) * history.weight[made][:, places]
    if facts.decoupled and history.rates is not None:
        penalty = history.rates[made][:, places] * penalty
        other = np.sqrt(np.maximum(history.update[made][:, places] ** 2 - penalty**2, 0))
    else:
        other = history.rms[made][:, places] * np.sqrt([history.sizes[place] for place in places])
    moved = (other > 0) & (history.rms[made][:, places] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(moved, penalty / other, np.nan)
    ratio = np.array([np.median(known) for each in ratios.T if len(known := each[np.isfinite(each)])])
    return float(min(np.median(ratio), ratio[-1])) if len(ratio) else 0.0


def _rounded(history: FlowHistory, limits: LoopLimits) -> list[Finding]:
    """Steps of weights in half precision that are lost to rounding, or divided by an ε that is 0 there."""
    found = []
    for facts in history.optimizers:
        places = [p for p in facts.members if p < len(history.dtypes) and history.dtypes[p] in HALF_ULP]
        weights = [place for place in places if history.kinds[place] in WEIGHT_KINDS]
        if not weights or not facts.eps or history.rates is None:
            continue
        dtype = history.dtypes[weights[0]]
        if dtype == "float16" and facts.eps < 2.0**-25:
            found.append(_eps_is_zero(facts))
            continue
        made = np.flatnonzero(~history.skipped)[-FIRST:]
        sizes = np.sqrt([history.sizes[place] for place in weights])
        wanted = history.rates[made][:, weights] * sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            size = _median(wanted / history.weight[made][:, weights]) / HALF_ULP[dtype]
            moved = _median(history.update[made][:, weights] / wanted)
        if size < limits.ulp and moved < 0.5:
            found.append(_below_ulp(facts, dtype, size, limits))
    return found


def _median(values: Values) -> float:
    """Return the median of what is finite; infinite without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.inf


def _eps_is_zero(facts: OptimizerFacts) -> Finding:
    return Finding(
        verdict="precision loses the steps",
        layer="",
        cause=f"{facts.name}'s ε = {facts.eps:g} is 0 in float16: steps divide by 0 where a gradient is 0",
        remedy=options("weights in float32 under autocast", "an eps of 1e-4", "bfloat16"),
        evidence=(
            Symptom("ε", float(facts.eps or 0.0), 2.0**-25, "half of float16's smallest number", below=True),
        ),
    )


def _below_ulp(facts: OptimizerFacts, dtype: str, size: float, limits: LoopLimits) -> Finding:
    return Finding(
        verdict="precision loses the steps",
        layer="",
        cause=f"weights in {dtype} round most of a step of {facts.name} away",
        remedy=options(
            "weights in float32 under autocast", "stochastic rounding", HIGHER, "a Kahan summation of steps"
        ),
        evidence=(
            Symptom(
                f"step of a weight over half the distance to the next number in {dtype}", size, limits.ulp,
                "IEEE 754: what is less than half is rounded to nothing", below=True,
            ),
        ),
    )  # fmt: skip


Rule = Callable[[FlowHistory, LoopLimits], list[Finding]]
RULES: tuple[Rule, ...] = (
    _kept,
    _maximized,
    _left_out,
    _outside,
    _parted,
    _own_target,
    _ended,
    _falls_fast,
    _penalty,
    _written_penalty,
    _rounded,
)
