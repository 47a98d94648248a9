"""From what a watch has seen to a verdict: what is wrong, where it begins, why, and what would help.

Every rule is a function that looks at the typical values of the last rows of a `FlowHistory`; the rules stand
in the order of their gravity. Limits are arguments, the source of each default beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradscape.activations import ActivationHistory
from gradscape.arrays import Values
from gradscape.diagnosis import Diagnosis, Evidence, Finding, gravest_first
from gradscape.errors import ConfigError
from gradscape.history import FlowHistory, OptimizerFacts
from gradscape.measure.recorded import divergence, recorded
from gradscape.measure.signal_rules import SignalLimits, activation_findings
from gradscape.measure.watch import Watch
from gradscape.records import RunRecord

Bools = NDArray[np.bool_]
TINY = 1e-30


@dataclass(frozen=True)
class Limits(SignalLimits):
    """Beyond what a number speaks for a verdict; those on activations are `SignalLimits`.

    Attributes:
        rows: the last so many are looked at.
        steep: ‖∂L/∂W‖/‖W‖, above which a gradient is large for any learning rate.
        span: ‖∂L/∂W‖ of one end of the network over that of the other.
        reach: RMS of ∂L/∂W over the sum of it and Adam's ε: the share of its normal step that a layer makes.
        still: ‖ΔW‖/‖W‖ of a step, below which a layer of SGD's stands still; so does one whose step is the
            span less than another layer's.
        small: the same of the layer that moves most.
        large: the same of a single step.
        shaken: the same of the layer that moves most, where gradients have nothing in common (see `noise`).
        gain: ‖∂L/∂W‖·‖ΔW‖ of the first layer, in units of the loss: the most by which its step can change
            the loss, to first order.
        noise: median cosine between the gradients of successive rows.
    """

    rows: int = 50
    steep: float = 1e3
    span: float = 1e3
    reach: float = 0.1
    still: float = 1e-6
    small: float = 1e-4
    large: float = 3.0
    shaken: float = 0.05
    gain: float = 3e-5
    noise: float = 0.05


SOURCES = {
    "steep": "a learning rate of 0.001 replaces the weights in one step",
    "span": "three orders of magnitude between layers that share a learning rate",
    "reach": "Kingma & Ba (2015), Algorithm 1: a step is lr · m / (√v + ε)",
    "still": "a thousandth of the healthy 1/1000 (Karpathy 2015, CS231n)",
    "small": "a tenth of the healthy 1/1000 (Karpathy 2015, CS231n)",
    "large": "a step three times the weights; healthy ones are near 1/1000 (Karpathy 2015, CS231n)",
    "shaken": "a twentieth of the weights replaced at each step, on gradients that have nothing in common",
    "gain": "by Cauchy and Schwarz |∂L/∂W · ΔW| is no more; 30,000 steps for a change of 1",
    "noise": "McCandlish et al. (2018), §2.2: |G|² a twentieth of |G|² + tr Σ",
}


@dataclass(frozen=True)
class View:
    """The weight layers' typical values in the last rows: medians over steps that were made, input to output.

    Attributes:
        layers: names of the weights.
        gradient: ‖∂L/∂W‖₂; NaN where there never was one.
        rms: of the elements of ∂L/∂W.
        update: ‖ΔW‖₂/‖W‖₂.
        largest_update: of any row.
        gain: ‖∂L/∂W‖₂·‖ΔW‖₂, in units of the loss.
        zero: whether neither it nor its layer's other parameters ever had a gradient but exact zeros.
        died: whether they have none any more, for more than half of the rows.
        steepness: ‖∂L/∂W‖₂/‖W‖₂.
        broken: whether it had a non-finite element in the first row in which any had.
        agreement: mean cosine between successive gradients.
        optimizers: of each layer.
        rows: of the history that are looked at: the last ones of steps that were made.
        row: what each is of, `step` or `epoch`.
        limits: what to hold them against.
    """

    layers: tuple[str, ...]
    gradient: Values
    rms: Values
    update: Values
    largest_update: Values
    gain: Values
    zero: Bools
    died: Bools
    steepness: Values
    broken: Bools
    agreement: Values
    optimizers: tuple[OptimizerFacts, ...]
    rows: NDArray[np.intp]
    row: str
    limits: Limits

    @classmethod
    def of(cls, history: FlowHistory, limits: Limits) -> View:
        columns = history.weights
        last = np.flatnonzero(~history.skipped)[-limits.rows :]
        if not len(last):
            raise ConfigError("no step has been watched yet: train a few steps, then diagnose")
        rows = np.ix_(last, columns)
        sizes = np.array(history.sizes, dtype=np.float64)[columns]
        owner = {place: facts for facts in history.optimizers for place in facts.members}
        rms = typical(history.rms[rows])
        return cls(
            layers=tuple(history.layers[column] for column in columns),
            gradient=rms * np.sqrt(sizes),
            rms=rms,
            update=typical(history.relative_update[rows]),
            largest_update=np.nan_to_num(history.relative_update[rows]).max(axis=0),
            gain=typical(history.rms[rows] * np.sqrt(sizes) * history.update[rows]),
            zero=without_gradient(history, last)[columns],
            died=without_gradient(history, last[(len(last) - 1) // 2 :])[columns],
            steepness=typical(history.rms[rows] * np.sqrt(sizes) / np.maximum(history.weight[rows], TINY)),
            broken=first_broken(history.nonfinite[~history.skipped])[columns],
            agreement=alike(history.agreement[rows]),
            optimizers=tuple(owner[column] for column in columns),
            rows=last,
            row=history.row,
            limits=limits,
        )

    @property
    def reaching(self) -> Bools:
        """Whether enough of a gradient is left in the step: beside Adam's ε, else beside the weights."""
        least = max(self.limits.still, float(np.nanmax(self.update)) / self.limits.span)
        return np.array(
            [
                not self.reach(place) < self.limits.reach
                if facts.eps
                else facts.lr == 0 or not self.update[place] < least
                for place, facts in enumerate(self.optimizers)
            ]
        )

    @property
    def alike(self) -> float:
        """Median over layers of the cosine between successive gradients; 1 where there is but one."""
        return float(np.median(self.agreement))

    def reach(self, place: int) -> float:
        """The share of its normal step that Adam's ε leaves a layer."""
        eps = self.optimizers[place].eps or 0.0
        return float(self.rms[place] / (self.rms[place] + eps))

    def why_nothing_moves(self, place: int) -> str:
        facts = self.optimizers[place]
        if facts.eps:
            return f"{facts.name} divides by √v + ε, and beside ε = {facts.eps:g} nothing is left in a step"
        return f"a step of {facts.name}, learning rate × gradient, is nothing beside the weights"

    def of_the_step(self, place: int) -> tuple[Evidence, ...]:
        """What a layer's gradient comes to in its step."""
        if self.optimizers[place].eps:
            what = f"share of its normal step that ε leaves {self.layers[place]}"
            return (self.evidence("reach", what, self.reach(place)),)
        what = f"‖ΔW‖/‖W‖ of a step of {self.layers[place]}"
        return (self.evidence("still", what, self.update[place]),)

    @property
    def unheard(self) -> Bools:
        """Whether neither a layer's steps nor those of any before it change the loss, while another's do."""
        beside_another = self.gain < float(np.nanmax(self.gain)) / self.limits.span
        found: Bools = np.logical_and.accumulate(self.idle & beside_another & self.reaching)
        return found

    @property
    def idle(self) -> Bools:
        """Whether a layer's steps change next to nothing of the loss.

        Adam's are left out: it takes steps of one size until a gradient grows.
        """
        plain = np.array([facts.eps is None for facts in self.optimizers])
        found: Bools = (self.gain < self.limits.gain) & plain
        return found

    def per_layer(self) -> float:
        """Orders of magnitude that the gradient grows by, a layer, towards the input (least squares)."""
        known = np.flatnonzero(self.gradient > 0)
        if len(known) < 2:
            return 0.0
        return -float(np.polyfit(known, np.log10(self.gradient[known]), 1)[0])

    def evidence(self, limit: str, what: str, value: float) -> Evidence:
        return Evidence(what, float(value), getattr(self.limits, limit), SOURCES[limit])


def alike(agreement: Values) -> Values:
    """Mean over rows that have one before them; 1 where none has."""
    known = np.isfinite(agreement)
    counted = np.maximum(known.sum(axis=0), 1)
    found: Values = np.where(known.any(axis=0), np.where(known, agreement, 0.0).sum(axis=0) / counted, 1.0)
    return found


def first_broken(nonfinite: Values) -> Bools:
    """(P,) of the first row in which any gradient is not finite; later ones follow from it."""
    rows = np.flatnonzero((nonfinite == 1).any(axis=1))
    found: Bools = nonfinite[rows[0]] == 1 if len(rows) else np.zeros(nonfinite.shape[1], dtype=np.bool_)
    return found


def without_gradient(history: FlowHistory, rows: NDArray[np.intp]) -> Bools:
    """(P,) whether no parameter of the tensor's layer had a gradient other than exact zeros, in no row."""
    still = (np.nan_to_num(history.zeros[rows], nan=1.0) == 1).all(axis=0)
    layers = [name.rpartition(".")[0] for name in history.layers]
    alive = {layer for layer, quiet in zip(layers, still, strict=True) if not quiet}
    return np.array([layer not in alive for layer in layers])


def typical(values: Values) -> Values:
    """Median of each column's finite values; NaN where there is none."""
    found = np.full(values.shape[1], np.nan)
    for column, series in enumerate(values.T):
        finite = series[np.isfinite(series)]
        if len(finite):
            found[column] = np.median(finite)
    return found


def diagnose(watched: Watch | FlowHistory | RunRecord, limits: Limits | None = None) -> Diagnosis:
    """What is wrong with a training, the gravest first; `healthy` if nothing is found.

    A recorded run is judged by the means of its epochs: a single step that is too large, and gradients that
    have nothing in common, do not show in them. One that diverged is `non-finite`, whatever else is found.

    Args:
        watched: a watch, the history it has given, or the record of a run.
        limits: beyond what a number speaks for a verdict; of a run, `rows` are epochs.

    Raises:
        ConfigError: no step has been watched, a run without an epoch or read without its gradient
            statistics, or something else was given.

    Example:
        >>> print(gs.diagnose(flow))
        >>> gs.diagnose(gs.RunFolder(Path("runs/first")).record()).verdict
    """
    history = watched.history() if isinstance(watched, Watch) else watched
    history = recorded(history) if isinstance(history, RunRecord) else history
    if not isinstance(history, FlowHistory):
        raise ConfigError(
            f"watched: got {type(history).__name__}; give what gs.watch returned, or a run's record"
        )
    limits = limits or Limits()
    view = View.of(history, limits)
    # Where no layer's step is a number sizes cannot be compared.
    rules = RULES if np.isfinite(view.update).any() else RULES[:2]
    findings = [finding for rule in rules for finding in rule(view)]
    if history.activations is not None:
        of_outputs = activation_findings(history.activations, view.rows, limits)
        # Of two that are non-finite the earlier is the cause: broken gradients break later outputs.
        first = backward_first(history, history.activations)
        findings = [*findings, *of_outputs] if first else [*of_outputs, *findings]
    if isinstance(watched, RunRecord):
        findings += divergence(watched)
    told = [
        after_large_steps(each, history, limits)
        for each in gravest_first(findings or died(view) or [healthy(view)])
    ]
    return Diagnosis(tuple(told), history.seen, history.notes)


def after_large_steps(finding: Finding, history: FlowHistory, limits: Limits) -> Finding:
    """What is not finite because steps had replaced the weights before says so."""
    if finding.verdict != "non-finite":
        return finding
    broken = broken_rows(history)
    if history.activations is not None:
        broken |= history.activations.nonfinite.any(axis=1)
    steps = np.nan_to_num(history.relative_update[: int(np.argmax(broken)), history.weights])
    if not steps.size or steps.max() <= limits.large:
        return finding
    what = "‖ΔW‖/‖W‖ of the largest step before that"
    return replace(
        finding,
        cause=f"steps had replaced the weights before: {finding.cause}",
        remedy="a lower learning rate, warm-up, gradients clipped",
        evidence=(Evidence(what, float(steps.max()), limits.large, SOURCES["large"]), *finding.evidence),
    )


def backward_first(history: FlowHistory, outputs: ActivationHistory) -> bool:
    """Whether a gradient was not finite in a row before any output was."""
    broken = np.flatnonzero(broken_rows(history))
    return len(broken) > 0 and (outputs.origin is None or broken[0] < outputs.origin[0])


def broken_rows(history: FlowHistory) -> Bools:
    """(T,) whether a step was made with a gradient that is not finite."""
    found: Bools = (history.nonfinite == 1).any(axis=1) & ~history.skipped
    return found


def non_finite(view: View) -> list[Finding]:
    """Non-finite numbers spread backwards: they begin at the layer nearest to the output."""
    if not view.broken.any():
        return []
    last = int(np.flatnonzero(view.broken)[-1])
    at_the_end = last == len(view.layers) - 1
    return [
        Finding(
            verdict="non-finite",
            layer=view.layers[last],
            cause="the loss or what enters the last layer is infinite or NaN"
            if at_the_end
            else "an operation after this layer and before the next gave an infinite or NaN gradient",
            remedy="check inputs and labels for NaN, lower the learning rate, clip gradients; under float16 "
            "use a GradScaler or bfloat16",
            evidence=(
                Evidence(
                    "weight layers with a non-finite gradient", float(view.broken.sum()), 0.0, "IEEE 754"
                ),
            ),
        )
    ]


def frozen(view: View) -> list[Finding]:
    """Layers without a gradient, or with one of exact zeros, while others have theirs."""
    none, alive = view.zero, np.flatnonzero(~view.zero)
    if not none.any():
        return []
    cut = int(alive[0]) if len(alive) else len(view.layers)
    if none[:cut].all() and cut:
        if len(alive) and 0 < view.rms[cut] < np.finfo(np.float32).tiny / np.finfo(np.float32).eps:
            return []  # underflow: the end of a gradient that vanishes
        where, cause = (
            cut - 1,
            "nothing comes back through what follows this layer: dead units, or a detach()",
        )
    else:
        where, cause = (
            int(np.flatnonzero(none)[-1]),
            "it takes no part in the loss, is detached, or all its units are dead",
        )
    return [frozen_at(view, where, cause, none)]


def died(view: View) -> list[Finding]:
    """All layers up to one have lost their gradient on the way, though nothing else was found."""
    if not view.died[0]:
        return []
    where = int(np.argmin([*view.died, False])) - 1
    cause = "nothing has come back through what follows this layer for most of it: its units have died"
    return [frozen_at(view, where, cause, view.died)]


def frozen_at(view: View, where: int, cause: str, none: Bools) -> Finding:
    """That a layer is frozen, one of those in `none`."""
    return Finding(
        verdict="frozen layer",
        layer=view.layers[where],
        cause=cause,
        remedy="look whether its output is used; for dead ReLUs: a leaky activation, He initialisation, "
        "a norm before the activation, a lower learning rate",
        evidence=(
            Evidence("weight layers without a gradient", float(none.sum()), 0.0, "none is meant to be"),
        ),
    )


def exploding(view: View) -> list[Finding]:
    """Gradients that grow towards the input by orders of magnitude, or are large beside the weights.

    Where signals grow forward as they do backward, gradients are as large in every layer.
    """
    growth = view.gradient / view.gradient[-1] if view.gradient[-1] > 0 else np.zeros(len(view.layers))
    beyond = np.flatnonzero((growth > view.limits.span) | (view.steepness > view.limits.steep))
    if not len(beyond):
        return []
    return [
        Finding(
            verdict="exploding",
            layer=view.layers[beyond[-1]],
            cause=f"what comes back grows by {view.per_layer():+.2f} orders of magnitude a layer"
            if growth[0] > view.limits.span
            else "gradients are large beside the weights in every layer: signals grow on their way forward",
            remedy="He initialisation (Glorot for tanh), a norm after each layer, skip connections; "
            "clipping bounds the step and leaves the cause",
            evidence=(
                view.evidence("span", "‖∂L/∂W‖ of the first weight layer over the last's", growth[0]),
                view.evidence("steep", "largest ‖∂L/∂W‖/‖W‖", float(np.nanmax(view.steepness))),
            ),
        )
    ]


def vanishing(view: View) -> list[Finding]:
    """Gradients that shrink towards the input until nothing of them is left in a step, or in the loss."""
    shrunk = view.gradient < view.gradient[-1] / view.limits.span
    # An exact zero is of another cause, unless what is left of a gradient before it is next to nothing.
    lost = np.flatnonzero(shrunk & ~view.reaching & (view.gradient > 0))
    if not len(lost):
        return unheard(view)
    return [
        Finding(
            verdict="vanishing",
            layer=view.layers[lost[-1]],
            cause=f"what comes back changes by {view.per_layer():+.2f} orders of magnitude a layer; "
            + view.why_nothing_moves(int(lost[0])),
            remedy="a norm after each layer, skip connections, He initialisation; ReLU in place of sigmoid",
            evidence=(
                view.evidence(
                    "span",
                    "‖∂L/∂W‖ of the last weight layer over the smallest",
                    view.gradient[-1] / view.gradient[view.gradient > 0].min(),
                ),
                *view.of_the_step(int(lost[0])),
            ),
        )
    ]


def unheard(view: View) -> list[Finding]:
    """Steps of the first layers that are of their size, and change next to nothing of the loss."""
    if not view.unheard[0]:
        return []
    last = int(np.flatnonzero(view.unheard)[-1])
    share = view.gain[0] / np.nanmax(view.gain)
    return [
        Finding(
            verdict="vanishing",
            layer=view.layers[last],
            cause="up to here the steps change next to nothing of the loss; what comes back changes by "
            f"{view.per_layer():+.2f} orders of magnitude a layer",
            remedy="a norm before each activation, skip connections, He initialisation; ReLU in place of "
            "sigmoid; a lower learning rate where the last layers' steps are large",
            evidence=(
                view.evidence("gain", f"‖∂L/∂W‖·‖ΔW‖ of a step of {view.layers[0]}", view.gain[0]),
                Evidence(
                    "the same beside the layer's that has most", share, 1 / view.limits.span, SOURCES["span"]
                ),
            ),
        )
    ]


def below_reach(view: View) -> list[Finding]:
    """Gradients that are not smaller than others, and too small for the optimiser all the same."""
    lost = np.flatnonzero(~view.reaching & (view.gradient > 0))
    if not len(lost) or vanishing(view):
        return []
    return [
        Finding(
            verdict="below the optimiser's reach",
            layer=view.layers[lost[-1]] if len(lost) < len(view.layers) else "",
            cause=view.why_nothing_moves(int(lost[0])),
            remedy="scale the loss up, a smaller eps, or look why the loss is so flat"
            if view.optimizers[lost[0]].eps
            else "a higher learning rate; scale the loss up, or look why it is so flat",
            evidence=view.of_the_step(int(lost[0])),
        )
    ]


def learning_rate(view: View) -> list[Finding]:
    """Steps that are too large or too small beside the weights."""
    return too_large(view) or too_small(view)


def too_large(view: View) -> list[Finding]:
    """One step that replaces the weights, or many that take much of them where noise says."""
    largest, most = int(np.argmax(view.largest_update)), int(np.nanargmax(view.update))
    step, typical_step = view.largest_update[largest], view.update[most]
    if step > view.limits.large:
        what = f"‖ΔW‖/‖W‖ of the largest step of {view.layers[largest]}"
        layer, evidence = view.layers[largest], [view.evidence("large", what, step)]
    elif typical_step > view.limits.shaken and view.alike < view.limits.noise:
        what = f"‖ΔW‖/‖W‖ of a step of {view.layers[most]}"
        layer, evidence = view.layers[most], [view.evidence("shaken", what, typical_step), of_noise(view)]
    else:
        return []
    cause, remedy = "steps replace the weights", "a lower learning rate, or warm-up"
    return [Finding("learning rate too large", layer, cause, remedy, tuple(evidence))]


def too_small(view: View) -> list[Finding]:
    """Steps that are small beside the weights, or change next to nothing of the loss, in every layer."""
    most = int(np.nanargmax(view.update))
    if not view.reaching.all() and view.optimizers[most].lr != 0:
        return []
    if view.update[most] < view.limits.small:
        what = f"‖ΔW‖/‖W‖ of a step of {view.layers[most]}, the layer that moves most"
        evidence = view.evidence("small", what, view.update[most])
    elif view.idle[0]:
        evidence = view.evidence("gain", f"‖∂L/∂W‖·‖ΔW‖ of a step of {view.layers[0]}", view.gain[0])
    else:
        return []
    cause = "steps are small in every layer, or the training has converged"
    remedy = "a higher learning rate, if the loss is not yet what it should be"
    return [Finding("learning rate too small", "", cause, remedy, (evidence,))]


def of_noise(view: View) -> Evidence:
    return view.evidence("noise", "cosine between successive gradients", view.alike)


def noise(view: View) -> list[Finding]:
    """Successive gradients that have nothing in common: slow, and not a failure by itself."""
    if not view.alike < view.limits.noise:
        return []
    return [
        Finding(
            verdict="noise-dominated",
            layer="",
            cause="what one mini-batch asks for, the next one does not: the gradient is nearly all noise",
            remedy="larger mini-batches or accumulation, a lower learning rate; "
            "check that labels fit the inputs",
            evidence=(of_noise(view),),
        )
    ]


def healthy(view: View) -> Finding:
    known = view.gradient[view.gradient > 0]  # a layer that is skipped at random has none in most rows
    what = "‖∂L/∂W‖ of the last weight layer over the first's"
    span = [view.evidence("span", what, known[-1] / known[0])] if len(known) else []
    large = view.evidence("large", "largest ‖ΔW‖/‖W‖ of a step", float(np.nan_to_num(view.update).max()))
    return Finding(
        verdict="healthy",
        layer="",
        cause="every weight layer gets a gradient and a step of its size, in the "
        + (f"{len(view.rows)} {view.row}s" if len(view.rows) > 1 else f"one {view.row}")
        + " looked at",
        remedy="nothing",
        evidence=(*span, large),
    )


RULES: tuple[Callable[[View], list[Finding]], ...] = (
    non_finite,
    frozen,
    exploding,
    vanishing,
    below_reach,
    learning_rate,
    noise,
)
