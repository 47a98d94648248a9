"""Rules on a loss that is still high: whether it is early, what holds it there, or that it is at rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradscape._text import count_noun, join_names
from gradscape.measure.diagnose.activation_rules import SOURCES as SIGNAL_SOURCES
from gradscape.measure.diagnose.activation_rules import SignalLimits
from gradscape.measure.diagnose.advice import HIGHER, LOWER, Traits, options
from gradscape.measure.diagnose.limits import SOURCES as STEP_SOURCES
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.view import View
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.gradients import FlowHistory
from gradscape.records.signal import WEIGHT_KINDS, over_seeds


@dataclass(frozen=True)
class ProgressLimits:
    """Limits of the rules on a loss that is still high.

    Attributes:
        rest: Fall of the last quarter's loss below the one before it, over guessing's.
        crawl: The same, where successive gradients have nearly one direction.
        slow: ‖ΔW‖/‖W‖ of a step of the layer that moves most, typical of the last rows.
        fast: ‖ΔW‖/‖W‖, as `slow`, where the loss stays at guessing.
        deadly: ‖ΔW‖/‖W‖ of the largest step of any, where units have died since.
        alike: Cosine of successive gradients, above which a longer step in the same direction would do.
        passed: ‖∂L/∂W‖ of the first weight layer over the last's, behind sigmoids.
        held: The same, below which it is what holds the loss at guessing.
        alive: 1 − correlation of two samples at a hidden layer, where the loss stays at guessing.
    """

    rest: float = 0.05
    crawl: float = 0.01
    slow: float = 5e-4
    fast: float = 0.02
    deadly: float = 0.3
    alike: float = 0.9
    passed: float = 0.5
    held: float = 0.1
    alive: float = 1e-3


LIMITS = ProgressLimits()
MOVES = "‖ΔW‖/‖W‖ of a step of the layer that moves most"
SOURCES = {
    "rest": "a twentieth of guessing's in a quarter of the steps",
    "slow": "half of the healthy 1/1000 (Karpathy 2015, CS231n)",
    "fast": "twenty times the healthy 1/1000 (Karpathy 2015, CS231n)",
    "deadly": "a step of a third of the weights; healthy ones are near 1/1000 (Karpathy 2015, CS231n)",
    "alike": "the next mini-batches ask for the same again",
    "passed": "a sigmoid passes a quarter of a gradient at most (Glorot & Bengio 2010, §3)",
    "held": "a sigmoid passes a quarter of a gradient at most (Glorot & Bengio 2010, §3)",
    "alive": "samples that differ by a thirtieth; see Schoenholz et al. (2017), §3",
}
# What steps that replace the weights leave behind.
AFTERMATH = (
    "dead units", "frozen layer", "exploding", "vanishing", "saturated", "no signal from the input",
    "below the optimizer's reach", "learning rate too small", "overshooting", "noise-dominated", "converged",
    "stopped",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """Training whose loss the rules look at.

    Attributes:
        history: History of a watch.
        views: Last rows of each optimizer's weight layers.
        curve: Loss over steps.
    """

    history: FlowHistory
    views: Sequence[View]
    curve: Curve

    @property
    def steps(self) -> int:
        """Number of steps whose loss is a number."""
        return len(self.curve.finite)

    @property
    def moves(self) -> float:
        """‖ΔW‖/‖W‖ of a step of the layer that moves most, typical of the last rows."""
        return max(float(np.nan_to_num(view.update).max()) for view in self.views)

    @property
    def moved(self) -> float:
        """The same of the rows before the last ones; 0 if there are none."""
        return max(float(np.nan_to_num(view.earlier_update).max()) for view in self.views)

    @property
    def stays(self) -> bool:
        """True if the loss is where guessing is, and falls no more or has never fallen."""
        return self.curve.stuck or self.curve.never_fell

    @property
    def largest(self) -> tuple[float, str]:
        """Largest ‖ΔW‖/‖W‖ of any step, and the weight that it was of."""
        steps = [np.fmax(view.largest_update, view.earlier_largest) for view in self.views]
        most = max(range(len(steps)), key=lambda place: float(steps[place].max()))
        return float(steps[most].max()), self.views[most].layers[int(steps[most].argmax())]

    @property
    def alike(self) -> float:
        """Cosine of successive gradients, of the optimizer whose gradients have most in common."""
        return max(view.alike for view in self.views)

    @property
    def words(self) -> str:
        """Loss beside that of guessing, in words."""
        steps = count_noun(self.steps, "step")
        if self.curve.guessing is None:
            return f"after {steps} the loss is {self.curve.last:.3g}, and began at {self.curve.first:.3g}"
        of_one = f"one output for all samples gives {self.curve.guessing:.3g}"
        return f"after {steps} the loss is {self.curve.last:.3g}, and {of_one}"


def progress_findings(
    history: FlowHistory, views: Sequence[View], traits: Traits, curve: Curve, found: Sequence[Finding]
) -> list[Finding]:
    """Return what a loss that is still above half of guessing's speaks for.

    Args:
        history: History of a watch.
        views: Last rows of each optimizer's weight layers.
        traits: Traits of the network.
        curve: Loss over steps.
        found: Findings of the other rules.
    """
    if not curve.unlearned:
        return []
    training = Progress(history, views, curve)
    causes = [finding for rule in RULES for finding in rule(training, traits)]
    if causes or any(each.grade != "info" for each in found):
        return causes
    ended = any(each.verdict in ("stopped", "converged") for each in found)
    return _early(training) or ([] if ended else _at_rest(training))


def without_aftermath(findings: Sequence[Finding], curve: Curve) -> list[Finding]:
    """Return findings without what steps that replaced the weights have left behind.

    Args:
        findings: Findings in any order.
        curve: Loss over steps.
    """
    large = any(each.verdict == "learning rate too large" for each in findings)
    if not large or not curve.unlearned:
        return list(findings)
    return [each for each in findings if each.verdict not in AFTERMATH]


def _evidence(limit: str, what: str, value: float, below: bool = False) -> Symptom:
    return Symptom(what, float(value), float(getattr(LIMITS, limit)), SOURCES[limit], below)


def _replaced(training: Progress, _: Traits) -> list[Finding]:
    """A step that replaced the weights, at any time, of a training that has come to nothing since."""
    step, layer = training.largest
    large = training.views[0].limits.large
    if not training.curve.harmed or not step > large:
        return []
    return [
        Finding(
            verdict="learning rate too large",
            layer=layer,
            cause=f"steps have replaced the weights; {training.words}",
            remedy=options(LOWER, "warm-up", "clip gradients"),
            evidence=(
                Symptom(f"‖ΔW‖/‖W‖ of the largest step of {layer}", step, large, STEP_SOURCES["large"]),
            ),
        )
    ]


def _died(training: Progress, _: Traits) -> list[Finding]:
    """Units that answered in the beginning and have died since, after steps that were not small."""
    seen, (step, _layer) = training.history.activations, training.largest
    if seen is None or not len(seen.steps) or seen.steps[0] > 0 or not step > LIMITS.deadly:
        return []
    limit = SignalLimits().dead
    now = over_seeds(seen.dead[-training.views[0].limits.rows :])
    died = np.flatnonzero((seen.dead[0] < 1 - limit) & (now > limit))
    if not len(died):
        return []
    layer = seen.layers[int(died[0])]
    return [
        Finding(
            verdict="learning rate too large",
            layer=layer,
            cause=f"the units that {layer} is given have died in training; {training.words}",
            remedy=options(LOWER, "warm-up", "clip gradients"),
            evidence=(
                Symptom(f"share of {layer} that is dead", float(now[died[0]]), limit, SIGNAL_SOURCES["dead"]),
                _evidence("deadly", "‖ΔW‖/‖W‖ of the largest step", step),
            ),
        )
    ]


def _too_fast(training: Progress, _: Traits) -> list[Finding]:
    """Large steps of a loss that stays at guessing."""
    if not training.curve.stuck or not training.moves > LIMITS.fast:
        return []  # within fifty steps networks that learn move as much
    return [
        Finding(
            verdict="learning rate too large",
            layer="",
            cause=f"steps are large, and lead nowhere; {training.words}",
            remedy=options(LOWER, "warm-up"),
            evidence=(_evidence("fast", MOVES, training.moves),),
        )
    ]


def _too_slow(training: Progress, _: Traits) -> list[Finding]:
    """Small steps, or ones that all go the same way, while the loss hardly falls."""
    if training.steps < training.curve.limits.begun or not any(view.has_gradient for view in training.views):
        return []
    same_way = 0 < training.curve.fall < LIMITS.crawl and training.alike > LIMITS.alike
    if not 0 < training.moves < (10 * LIMITS.slow if same_way else LIMITS.slow):
        return []
    if not same_way and training.moved >= LIMITS.slow:
        return []  # steps were larger before: a schedule has come to its end, or the gradient has
    evidence = (
        _evidence("alike", "cosine between successive gradients", training.alike)
        if same_way
        else _evidence("slow", MOVES, training.moves, below=True)
    )
    why = "steps all go the same way, and hardly lower the loss" if same_way else "steps are small"
    return [
        Finding(
            verdict="learning rate too small",
            layer="",
            cause=f"{why}: {training.words}",
            remedy=options(HIGHER, "train for longer"),
            evidence=(evidence,),
            mild=not training.stays,
        )
    ]


def _frozen(training: Progress, _: Traits) -> list[Finding]:
    """Weights that require no gradient, of a model whose loss stays high."""
    left = training.history.untrained
    if left is None or not left.frozen or training.steps < training.curve.limits.enough:
        return []
    return [
        Finding(
            verdict="frozen parameters",
            layer=left.frozen[0],
            cause=f"{join_names(left.frozen)} require no gradient and stay what they are; {training.words}",
            remedy=options(
                "requires_grad_(True) for what is not trained yet",
                "nothing, if they hold what was learned before",
            ),
            evidence=(
                Symptom(
                    "share of the model's numbers that are frozen", left.frozen_share, 0.0,
                    "what is frozen is meant to be trained already",
                ),
            ),
        )
    ]  # fmt: skip


def _behind_sigmoids(training: Progress, traits: Traits) -> list[Finding]:
    """Sigmoids between layers, of which each takes three quarters of the gradient at least.

    Where little is left of it and the loss stays at guessing, they are the cause of that.
    """
    if traits.squashing != "sigmoid" or training.steps < training.curve.limits.enough:
        return []
    gradient = training.views[-1].gradient
    passed = float(gradient[0] / gradient[-1]) if gradient[-1] > 0 else math.nan
    if not _has_hidden_sigmoids(training) or not passed < LIMITS.passed:
        return []
    holds = training.curve.at_guessing and passed < LIMITS.held
    return [
        Finding(
            verdict="sigmoids between layers",
            layer=training.views[-1].layers[0],
            cause=f"gradients pass through sigmoids, whose derivative is 1/4 at most; {training.words}",
            remedy=options("ReLU in place of the sigmoids", "a norm after each layer", HIGHER),
            evidence=(
                _evidence(
                    "held" if holds else "passed",
                    "‖∂L/∂W‖ of the first weight layer over the last's", passed, below=True,
                ),
            ),
            mild=not holds,
        )
    ]  # fmt: skip


def _drowned(training: Progress, traits: Traits) -> list[Finding]:
    """Hidden layers at which two samples are next to the same, of a loss that stays at guessing."""
    seen = training.history.activations
    if seen is None or not training.curve.at_guessing:
        return []
    hidden = [
        place
        for place, (kind, width) in enumerate(zip(seen.kinds, seen.widths, strict=True))
        if kind in WEIGHT_KINDS and width > 1
    ][:-1]
    between = 1 - over_seeds(seen.correlation[-training.views[0].limits.rows :, hidden])
    low = np.flatnonzero(between < LIMITS.alive)
    if not len(low):
        return []
    least = float(between[low].min())
    return [
        Finding(
            verdict="no signal from the input",
            layer=seen.layers[hidden[int(low[0])]],
            cause=f"from here on any two samples of the batch are nearly the same; {training.words}",
            remedy=options(
                "skip connections where there are none",
                *(() if traits.norm else ("a norm after each layer",)),
                "fewer layers",
                "initial weights for the activation",
            ),
            evidence=(_evidence("alive", "least 1 − correlation of two samples", least, below=True),),
        )
    ]


def _has_hidden_sigmoids(training: Progress) -> bool:
    """Return True if a sigmoid is known to stand before the last layer."""
    readings = training.curve.history.readings
    of_loss = any(term.has("sigmoid", "logsigmoid") for reading in readings for term in reading.terms)
    seen = training.history.activations
    if seen is None:
        return not of_loss
    return int(np.isfinite(seen.saturated).any(axis=0).sum()) > of_loss


def _early(training: Progress) -> list[Finding]:
    """A loss that is still high after a few steps, or no better than guessing's and falling after more.

    Nothing else is wrong with the training; what falls no more is another rule's.
    """
    curve = training.curve
    few = training.steps < curve.limits.begun
    if not few and not curve.over_guessing > curve.limits.guessing:
        return []
    return [
        Finding(
            verdict="too early to tell",
            layer="",
            cause=f"{training.words}; gradients and steps are healthy so far",
            remedy="train for longer",
            evidence=(
                curve.limits.evidence("begun", "steps", training.steps, below=True)
                if few
                else curve.limits.evidence("guessing", "late losses over guessing's", curve.over_guessing),
            ),
        )
    ]


def _at_rest(training: Progress) -> list[Finding]:
    """A loss that has nearly ceased to fall and is still high, for no reason that was seen."""
    if (
        training.steps < training.curve.limits.enough
        or not training.curve.fall < LIMITS.rest
        or training.curve.stuck
    ):
        return []
    return [
        Finding(
            verdict="loss stays high",
            layer="",
            cause=f"{training.words}, and it hardly falls any more",
            remedy=options(
                "nothing, if the targets hold no more than that",
                "fit a single batch first, by gs.check",
                "look whether the network can see what the targets depend on",
                "another learning rate",
            ),
            evidence=(
                _evidence("rest", "fall over a quarter of the steps", training.curve.fall, below=True),
            ),
        )
    ]


Rule = Callable[[Progress, Traits], list[Finding]]
RULES: tuple[Rule, ...] = (_replaced, _died, _too_fast, _too_slow, _frozen, _behind_sigmoids, _drowned)
