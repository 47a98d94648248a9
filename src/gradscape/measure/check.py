"""Check a network before it is trained: signal, some real steps, a verdict, and remedies that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from gradscape.arguments import typed
from gradscape.checked import EFFECTS, FELL, UNMOVED, CheckRecord, Trial
from gradscape.diagnosis import Evidence, Finding, gravest_first
from gradscape.errors import ConfigError, GradscapeError, brief, first_line
from gradscape.history import FlowHistory
from gradscape.measure.advice import options, without_contradiction
from gradscape.measure.as_found import AsFound, standing_in
from gradscape.measure.batches import Batch, Loss, main_tensor, unwrapped
from gradscape.measure.copying import copied
from gradscape.measure.diagnose import diagnose, place_among
from gradscape.measure.gradient_flow import parameters_and_kinds
from gradscape.measure.leaves import refuse_own, same_gradients, told_of_backward
from gradscape.measure.remedies import REMEDIES, Applied
from gradscape.measure.signal import made, signal
from gradscape.measure.signal_rules import signal_findings
from gradscape.measure.subjects import number
from gradscape.measure.tracing import Trace, layer_kind
from gradscape.measure.untouched import random_state
from gradscape.measure.watch import watch
from gradscape.records import WEIGHT_KINDS
from gradscape.signal import SignalRecord

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
STEPS = 10
ENOUGH = 30  # steps on one batch: a loss that has not moved by then is told as a fault
DRAWS = 3  # of the model as it is: how far the loss it ends at varies
SMALL_EPS = 1e-16  # a gradient of 1e-18 still has a square in float32, and nothing smaller has


@typed(seeds=1_000, confirm=1_000_000)
def check(
    make_model: nn.Module | Callable[[], nn.Module],
    batch: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer = torch.optim.Adam,
    seeds: int = 3,
    confirm: int = 0,
    remedies: bool = True,
) -> CheckRecord:
    """Say before training whether a network will train, and if not why, where, and what would help.

    The signal through the network is measured over seeds; a copy is trained for ten steps on the batch and
    watched; and each remedy is tried on a copy of its own likewise. The model, and all random numbers, are
    left as found.

    Args:
        make_model: a factory, called after `torch.manual_seed(0)`, 1, …, or a module.
        batch: (x, y), x, or a dict of the model's arguments.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; None for a model whose output has a `loss`.
        optimizer: makes the one that is to train it from its parameters.
        seeds: for the signal of a factory's networks.
        confirm: real steps that the model and every remedy are trained for, instead of ten.
        remedies: try them.

    Raises:
        ConfigError: a factory that raises, a batch that does not fit, a loss that fails, a model that cannot
            be copied.

    Example:
        >>> print(gs.check(make_model, (x, y), nn.functional.cross_entropy))
    """
    if confirm < 0:
        raise ConfigError(f"confirm: {confirm} is not a number of steps; give 0 or more")
    measured = signal(make_model, batch, loss, seeds)
    model = unwrapped(make_model) if isinstance(make_model, nn.Module) else first_made(make_model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"make_model: {type(model).__name__} has no parameter to train")
    given = Batch.of(batch, model, loss)
    own = Original(model) if isinstance(make_model, nn.Module) else None
    steps = Steps(given, loss, optimizer, confirm or STEPS, own)
    as_is, band = untreated(make_model, steps)
    tried: list[Trial] = []
    if remedies:
        tried = [attempt(name, model, given, steps) for name in REMEDIES] + [smaller_eps(model, steps)]
        tried = [replace(trial, effect=effect(trial, as_is, band)) for trial in tried]
    assert as_is.diagnosis is not None
    of_signal = signal_findings(measured, norm=any(layer_kind(m) == "norm" for m in model.modules()))
    found = [*(placed(finding, measured, model) for finding in of_signal), *as_is.diagnosis.findings]
    once = gravest_first([*found, *unlearnt(as_is, found)])
    findings = without_contradiction(by_trials(once, tried))
    return CheckRecord(
        signal=measured,
        diagnosis=replace(as_is.diagnosis, findings=findings, unseen=UNSEEN),
        as_is=as_is,
        remedies=tuple(sorted(tried, key=rank)),
        band=band,
    )


UNSEEN = ("the training loop: its data, schedule, clipping, modes",)


def first_made(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """What the factory makes of a seed, by default the first."""
    with random_state():
        torch.manual_seed(seed)
        return unwrapped(made(factory))


def untreated(make_model: nn.Module | Callable[[], nn.Module], steps: Steps) -> tuple[Trial, float]:
    """The steps of the model as it is, and how far the loss they end at varies.

    Over networks of as many seeds as `DRAWS` from a factory, over the random numbers of dropout of a module.
    """
    trials = []
    for seed in range(DRAWS):
        # A factory is asked again where a module has to be copied, which not every one can be.
        own = unwrapped(make_model) if isinstance(make_model, nn.Module) else None
        twin = first_made(make_model, seed) if own is None else copied(own)
        trials.append(steps.trial("", "as it is", twin, seed))
        if own is not None and not any(layer_kind(m) == "dropout" for m in twin.modules()):
            break  # every seed is the same
    ends = np.array([trial.losses[-1] for trial in trials])
    ends = ends[np.isfinite(ends)]
    spread = float(ends.max() - ends.min()) if len(ends) else 0.0
    first = abs(trials[0].losses[0])
    return trials[0], max(spread, FELL * first if math.isfinite(first) else 0.0)


def placed(finding: Finding, measured: SignalRecord, model: nn.Module) -> Finding:
    """With its layer's number among the weight layers."""
    weights = [name for name, kind, _ in parameters_and_kinds(model) if kind in WEIGHT_KINDS]
    if finding.layer not in measured.layers:
        return finding
    return replace(finding, place=place_among(finding.layer, measured.layers, weights))


def unlearnt(as_is: Trial, found: Sequence[Finding]) -> list[Finding]:
    """That the loss has not moved in as many steps on one batch as a network needs, for no other reason."""
    first, last = as_is.losses[0], as_is.losses[-1]
    if any(finding.grade == "fail" for finding in found):
        return []
    if as_is.fell or len(as_is.losses) < ENOUGH or not (math.isfinite(last) and first):
        return []
    what = f"share by which the loss fell in {len(as_is.losses)} steps on one batch"
    source = "a network that learns fits one batch"
    return [
        Finding(
            verdict="does not learn",
            layer="",
            cause=f"the loss on one batch does not fall: {as_is.change}",
            remedy=options("another learning rate", "look at the loss, the last layer, inputs and labels"),
            evidence=(Evidence(what, (first - last) / abs(first), FELL, source, below=True),),
        )
    ]


def check_on_noise(make_model: Callable[[], nn.Module], shape: Sequence[int], **options: Any) -> CheckRecord:
    """`check` a classifier on standard normal noise and labels that are drawn from as many as it has outputs.

    Args:
        make_model: makes a module from samples (N, …) to (N, classes).
        shape: (N, …) of the batch.
        options: of `check`.

    Raises:
        ConfigError: as `check`, and a module with another output.
    """
    with random_state(), torch.no_grad():
        torch.manual_seed(0)
        x = torch.randn(tuple(shape))
        with Trace(made(make_model), lambda *_: None) as trace:
            output = main_tensor(trace.forward(Batch.of(x)))
        if output is None or output.dim() != 2 or len(output) != len(x):
            got = None if output is None else tuple(output.shape)
            raise ConfigError(
                f"make_model: its output is {got}, not (N, classes); use gradscape.check with a loss"
            )
        if output.shape[1] < 2:
            raise ConfigError(
                "make_model: its one output is no classifier's; use gradscape.check with a loss"
            )
        y = torch.randint(0, output.shape[1], (len(x),))
    return check(make_model, (x, y), nn.functional.cross_entropy, **options)


@dataclass(frozen=True)
class Steps:
    """Real steps on one batch, the same for the model and for every remedy.

    Attributes:
        own: the user's module, where one was given.
    """

    batch: Batch
    loss: Loss | None
    optimizer: MakeOptimizer
    count: int
    own: Original | None = None

    def trial(self, name: str, what: str, model: nn.Module, seed: int = 0) -> Trial:
        """Train a copy, watched.

        Raises:
            ConfigError: a step fails.
        """
        with random_state():
            torch.manual_seed(seed)
            stepper = made_by(self.optimizer, model)
            losses = []
            with watch(model, stepper, every=1, capacity=max(self.count, 2)) as flow, torch.enable_grad():
                for _ in range(self.count):
                    stepper.zero_grad()
                    losses.append(self.backward(model))
                    try:
                        stepper.step()
                    except Exception as error:  # of any kind: it is the user's choice
                        made = type(stepper).__name__
                        raise ConfigError(
                            f"optimizer: {made} fails: {first_line(error)}; give another as optimizer="
                        ) from error
        return Trial(name, what, diagnose(flow), span(flow.history()), tuple(losses))

    def backward(self, model: nn.Module) -> float:
        """The loss of a copy, whose gradients alone are made.

        Raises:
            ConfigError: it reaches the original's parameters from elsewhere than the original.
        """
        try:
            output = self.batch.output(model)
        except GradscapeError:
            raise
        except Exception as error:  # of any kind: hooks may miss what a copy has not
            made = type(model).__name__
            raise ConfigError(f"{made}: the copy that is trained fails: {first_line(error)}") from error
        if self.own is None:
            value = self.batch.loss(self.loss, output)
        else:
            with self.own.standing_at(model):
                value = self.batch.loss(self.loss, output)
            refuse_own(value, self.own.names)
        with same_gradients(value, model), told_of_backward():
            value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())


def made_by(make: MakeOptimizer, model: nn.Module) -> Optimizer:
    """The optimiser of a model's parameters.

    Raises:
        ConfigError: it cannot be made, or something else is.
    """
    cure = "give what makes one of parameters, as torch.optim.Adam"
    try:
        made = make(model.parameters())
    except Exception as error:  # of any kind: it is the caller's code
        raise ConfigError(f"optimizer: it fails ({first_line(error)}); {cure}") from error
    if not isinstance(made, Optimizer):
        raise ConfigError(f"optimizer: it makes {brief(made)}; {cure}")
    return made


class Original:
    """The user's module, whose copies are trained: a loss that reads its parameters is to read a copy's."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.found = model, AsFound(model)
        self.names = {id(p): name for name, p in model.named_parameters()}

    def standing_at(self, model: nn.Module) -> AbstractContextManager[None]:
        """Have the parameters and buffers of a copy in the place of its own, where names and shapes agree."""
        theirs, mine = (
            {**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, self.model)
        )
        alike = {n: t for n, t in theirs.items() if n in mine and mine[n].shape == t.shape}
        return standing_in(self.model, alike, self.found)


def attempt(name: str, model: nn.Module, batch: Batch, steps: Steps) -> Trial:
    applied = REMEDIES[name](model, batch)
    if not isinstance(applied, Applied):
        return Trial(name, applied, None, math.nan, ())
    try:
        return steps.trial(name, applied.what, applied.model)
    except Exception as error:  # of any kind: what the remedy made does not train
        told = str(error) if isinstance(error, GradscapeError) else first_line(error)
        return Trial(name, told, None, math.nan, ())


def smaller_eps(model: nn.Module, steps: Steps) -> Trial:
    """Adam's kind with an ε that vanishing gradients are not small beside."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        made_one = steps.optimizer(parameters)
        for group in made_one.param_groups:
            group["eps"] = SMALL_EPS
        return made_one

    groups = steps.optimizer(model.parameters()).param_groups
    if not all(number(group.get("eps")) for group in groups):  # Adafactor's are two, and mean something else
        return Trial("smaller eps", "the optimiser has no eps", None, math.nan, ())
    try:
        twin = copied(model)
    except ConfigError as error:
        return Trial("smaller eps", str(error), None, math.nan, ())
    return replace(steps, optimizer=make).trial("smaller eps", f"eps = {SMALL_EPS:g}", twin)


def span(history: FlowHistory) -> float:
    """Orders of magnitude from ‖∂L/∂W‖ of the first weight layer to the last's, in the last row."""
    if not len(history.steps):
        return math.nan
    columns = history.weights
    norms = history.rms[-1, columns] * np.sqrt(np.array(history.sizes)[columns])
    if not (norms[0] > 0 and norms[-1] > 0):
        return math.nan
    return float(np.log10(norms[-1] / norms[0]))


def effect(trial: Trial, as_is: Trial, band: float) -> str:
    """What a remedy does to the loss that the steps end at, a key of `EFFECTS`."""
    if trial.diagnosis is None:
        return ""
    first, last, untreated_last = as_is.losses[0], trial.losses[-1], as_is.losses[-1]
    if not math.isfinite(last):
        return "raises" if math.isfinite(untreated_last) else "nothing"
    if not math.isfinite(untreated_last):
        return "lowers" if last < first else "nothing"
    if last < untreated_last - band:
        return "lowers" if last < first else "raises"
    return "raises" if last > untreated_last + band else "nothing"


def rank(one: Trial) -> tuple[float, ...]:
    """Smaller is better: what lowers the loss by how low, what does nothing by what it does to gradients."""
    place = list(EFFECTS).index(one.effect)
    if one.diagnosis is None:
        return (place,)
    last = one.losses[-1] if math.isfinite(one.losses[-1]) else math.inf
    if one.effect != "nothing":
        return (place, last)
    return (place, float(one.diagnosis.grade == "fail"), math.inf if math.isnan(one.span) else abs(one.span))


# What a finding advises → the remedies that are that.
TRIED_BY = {
    "a norm": ("norm",),
    "skip connections": ("skip",),
    "He initialization": ("he", "glorot"),
    "ReLU in place": ("activation relu",),
    "a leaky activation": ("activation leaky_relu",),
    "a smaller eps": ("smaller eps",),
}
SHOWN = 3  # remedies that worked, in the advice of the verdict; the list below has all


def by_trials(findings: Sequence[Finding], trials: Sequence[Trial]) -> list[Finding]:
    """Advice as the trials bear it out: what was tried in vain is struck, what worked comes first."""
    best = sorted((trial for trial in trials if trial.effect == "lowers"), key=rank)[:SHOWN]
    vain = {trial.remedy for trial in trials if trial.effect in ("nothing", "raises")}
    proved = {trial.remedy for trial in trials if trial.effect == "lowers"}
    found = []
    for place, finding in enumerate(findings):
        left = [option for option in finding.remedy.split("; ") if not struck(option, vain, proved)]
        shown = [f"{trial.remedy} (tried: {trial.change})" for trial in best] if place == 0 else []
        if finding.grade == "fail" and trials:
            finding = replace(finding, remedy=options(*shown, *left) or UNMOVED)
        found.append(finding)
    return found


def struck(option: str, vain: set[str], proved: set[str]) -> bool:
    """Whether all of an option's remedies that were tried failed, or it is told with its numbers already."""
    names = {name for words, names in TRIED_BY.items() if option.startswith(words) for name in names}
    return bool(names & (vain | proved))
