"""Advice: only what applies to the network at hand, and nothing that contradicts itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradscape.records.check import EFFECTS, FELL, MOVES, UNMOVED, Trial
from gradscape.records.diagnosis import CAUSES, Finding
from gradscape.records.gradients import WEIGHT_KINDS, FlowHistory

SQUASHING = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Hardsigmoid": "hardsigmoid", "Softsign": "softsign"}
# Classes of activations that do not saturate on both sides: a tanh beside them is a pooler's or a gate's.
OTHERS = re.compile("relu|gelu|silu|elu|swish|mish|softplus", re.IGNORECASE)
HE = 2.0  # the variance of weights times fan_in that keeps a signal through ReLUs (He et al. 2015, eq. 10)
NEAR = 0.8  # of it: closer than what a draw of small matrices may differ by
LOWER, HIGHER, ANOTHER = "a lower learning rate", "a higher learning rate", "another learning rate"
# Of transformers, whose first steps at the full rate may be too much (Xiong et al. 2020, §3).
WARM_UP = "warm-up: a learning rate that rises over the first hundred steps"
# What finds that rate: it needs a model, or its factory, and a batch, which a history does not have.
FIND_RATE = "gs.lr_range(model, (x, y), loss, optimizer) tells which learning rate"
FIND_RATE_OF_RUN = "gradscape lr-range FILE.py:FACTORY tells which learning rate"
RANGED = "lr of a range test"
# What a finding advises → the remedies that are that.
TRIED_BY = {
    "a norm": ("norm",),
    "skip connections": ("skip",),
    "He initialization": ("he", "glorot"),
    "biases of 0": ("he", "glorot", "orthogonal"),  # they set them so
    "ReLU in place": ("activation relu",),
    "a leaky activation": ("activation leaky_relu",),
    "a smaller eps": ("smaller eps",),
    LOWER: ("lr ÷ 10", RANGED),
    HIGHER: ("lr × 10", RANGED),
    ANOTHER: ("lr × 10", "lr ÷ 10", RANGED),
    FIND_RATE: (RANGED,),
    "bring the inputs to": ("standardized inputs",),
}
# Faults of the learning rate, or outside the network's own signals → the remedies that are a cure, alone.
CURES = {
    "output does not fit the loss": ("no last activation", "another loss"),
    "output cannot reach the targets": ("no last activation", "another loss"),
    "loss does not fit the targets": ("another loss",),
    "inputs out of scale": ("standardized inputs",),
    "learning rate too large": (RANGED, "lr ÷ 10"),
    "learning rate too small": (RANGED, "lr × 10"),
}
SHOWN = 3  # remedies that worked, in the advice of the verdict; the list of all has the others


@dataclass(frozen=True)
class Traits:
    """Traits of a network, as far as they are known.

    Attributes:
        norm: Whether it has normalization layers.
        squashing: Activations that saturate on both sides, in words; empty where it has none, or others too.
        modules: Whether its modules are known at all.
        scale: Median over weight layers of the variance of the first weights seen times fan_in; None where
            shapes are not known.
    """

    norm: bool
    squashing: str
    modules: bool
    scale: float | None

    @classmethod
    def of(cls, history: FlowHistory) -> Traits:
        """Return the traits that a history tells.

        Args:
            history: History of a watch or of a run.
        """
        return cls(
            "norm" in history.kinds, squashing(history.modules), bool(history.modules), _scale_of(history)
        )

    @property
    def signals(self) -> tuple[str, ...]:
        """Changes that keep signals and gradients at their size through depth."""
        return (
            *(() if self.norm else ("a norm after each layer",)),
            "skip connections where there are none",
            *self.initialization,
            *self.activation,
        )

    @property
    def initialization(self) -> tuple[str, ...]:
        """Another scale of the weights, where they are below what keeps a signal."""
        if self.scale is not None and self.scale >= NEAR * HE:
            return ()
        now = "" if self.scale is None else f" (variance × fan_in is {self.scale:.2g} where He's is {HE:g})"
        return (f"He initialization, or Glorot's for tanh{now}",)

    @property
    def activation(self) -> tuple[str, ...]:
        """ReLU, where something else is known to be there, or where nothing is known."""
        if self.squashing:
            return (f"ReLU in place of {self.squashing}",)
        return () if self.modules else ("ReLU, if the activations are sigmoids or tanh",)


def squashing(modules: Sequence[str]) -> str:
    """Name the activations that saturate on both sides; empty where there are none, or others beside them.

    Args:
        modules: Names of the classes of a network's modules.
    """
    if any(map(OTHERS.search, modules)):
        return ""
    return " and ".join(word for name, word in SQUASHING.items() if name in modules)


def _scale_of(history: FlowHistory) -> float | None:
    """Median over weight layers of ‖W‖²/outputs in the first row: variance × fan_in, whatever fan_in is."""
    if not history.shapes or not len(history.steps):
        return None
    found = [
        history.weight[0, place] ** 2 / shape[0]
        for place, (kind, shape) in enumerate(zip(history.kinds, history.shapes, strict=True))
        if kind in WEIGHT_KINDS and shape and np.isfinite(history.weight[0, place])
    ]
    return float(np.median(found)) if found else None


def find_rate(row: str) -> str:
    """Return the line to type that finds a learning rate.

    Args:
        row: Row of a history, `step` of a watch or `epoch` of a run.
    """
    return FIND_RATE if row == "step" else FIND_RATE_OF_RUN


def options(*words: str) -> str:
    """Return alternatives as one text.

    Args:
        words: Alternatives.
    """
    return "; ".join(words)


def with_warm_up(findings: Sequence[Finding], history: FlowHistory) -> list[Finding]:
    """Advise a warm-up beside another learning rate, where a network with attention began with the full one.

    Args:
        findings: Findings in any order.
        history: History of a watch or of a run.
    """
    rates = history.rates
    if rates is None or not len(rates) or not any("attention" in name.lower() for name in history.modules):
        return list(findings)
    if history.steps[0] > 0 or np.nanmax(rates[0], initial=0.0) < np.nanmax(rates, initial=0.0):
        return list(findings)  # the beginning is not known any more, or the rate rose
    return [
        replace(each, remedy=each.remedy.replace(ANOTHER, options(ANOTHER, WARM_UP)))
        if ANOTHER in each.remedy.split("; ")
        else each
        for each in findings
    ]


def _helps_with(graver: Finding) -> str:
    """Return the advice of a finding whose own is that of a graver one; texts order findings either way."""
    return f'what helps with "{graver.verdict}"'


def without_contradiction(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Strike from each finding's advice the opposite of what a graver one asks for.

    Args:
        findings: Findings, the gravest first.
    """
    found: list[Finding] = []
    asked: set[str] = set()
    for finding in findings:
        kept = [option for option in finding.remedy.split("; ") if not asked & _opposites(option)]
        asked |= {rate for rate in (LOWER, HIGHER) for option in kept if rate in option}
        found.append(replace(finding, remedy=options(*kept) or _helps_with(findings[0])))
    return tuple(found)


def _opposites(option: str) -> set[str]:
    return {other for rate, other in ((LOWER, HIGHER), (HIGHER, LOWER)) if rate in option}


def effect(trial: Trial, as_is: Trial, band: float, ratio: float = 0.0) -> str:
    """Return the effect of a remedy on the loss that the steps end at.

    Args:
        trial: Trial of the remedy.
        as_is: Trial of the model as it is.
        band: Difference between losses that chance makes.
        ratio: Ratio of the lowest to the highest of these losses: where chance makes them differ by orders of
            magnitude, no loss lies below by the difference. 0 where it is not known.

    Returns:
        Key of `EFFECTS`; empty where the remedy was not trained.
    """
    if trial.diagnosis is None:
        return ""
    first, last, untreated_last = as_is.losses[0], trial.losses[-1], as_is.losses[-1]
    if not math.isfinite(last):
        return "raises" if math.isfinite(untreated_last) else "nothing"
    # Other weights may begin lower: what no step lowers from there is no remedy.
    trained = trial.fell and not last >= first
    if not math.isfinite(untreated_last):
        return "lowers" if trained else "nothing"
    far_below = 0 <= last < min(ratio * untreated_last, untreated_last - FELL * abs(first))
    if last < untreated_last - band or far_below:
        return "lowers" if trained else "raises"
    return "raises" if last > untreated_last + band else "nothing"


def rank(one: Trial) -> tuple[float, ...]:
    """Return a key to sort trials by, the best first.

    Remedies that lower or raise the loss are sorted by the loss, those that do nothing by their gradients.

    Args:
        one: Trial of a remedy.
    """
    place = list(EFFECTS).index(one.effect)
    if one.diagnosis is None:
        return (place,)
    last = one.losses[-1] if math.isfinite(one.losses[-1]) else math.inf
    if one.effect == "predicts":
        return (place, -one.right[1])
    if one.effect != "nothing":
        return (place, last)
    return (place, float(one.diagnosis.grade == "fail"), math.inf if math.isnan(one.span) else abs(one.span))


def by_trials(findings: Sequence[Finding], trials: Sequence[Trial]) -> list[Finding]:
    """Rewrite the advice as the trials bear it out: what failed is struck, what worked comes first.

    What worked is no cure of a fault in the loss, the batch or the loop, whose advice has its own trials.

    Args:
        findings: Findings, the gravest first.
        trials: Trials of the remedies, with their effects.
    """
    moved = sorted((trial for trial in trials if trial.effect in MOVES), key=rank)
    tried = {trial.remedy for trial in trials if trial.effect}
    found = []
    for place, finding in enumerate(findings):
        left = [option for option in finding.remedy.split("; ") if not _struck(option, tried)]
        cures = CURES.get(finding.verdict, () if finding.verdict in CAUSES else None)
        best = [trial for trial in moved if cures is None or trial.remedy in cures][:SHOWN]
        shown = [f"{_named(trial)} (tried: {trial.change}{trial.beside})" for trial in best if place == 0]
        if finding.grade == "fail" and trials:
            none = _helps_with(findings[0]) if best else UNMOVED
            finding = replace(finding, remedy=options(*shown, *left) or none)
        found.append(finding)
    return found


def _named(trial: Trial) -> str:
    """Return what to do, in words: a learning rate is told with its number."""
    return trial.what if trial.remedy.startswith("lr ") else trial.remedy


def _struck(option: str, tried: set[str]) -> bool:
    """Return True if an option's remedies were tried: in vain, or they are told with their numbers."""
    names = {name for words, names in TRIED_BY.items() if option.startswith(words) for name in names}
    return bool(names & tried)
