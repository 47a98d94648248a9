"""Check a network before it is trained: signal, some real steps, a verdict, and remedies that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from gradscape.arguments import typed
from gradscape.checked import CheckRecord, Trial
from gradscape.diagnosis import gravest_first
from gradscape.errors import ConfigError, brief, first_line
from gradscape.history import FlowHistory
from gradscape.measure.batches import Batch, Loss, main_tensor, unwrapped
from gradscape.measure.diagnose import diagnose
from gradscape.measure.remedies import REMEDIES, Applied, copied
from gradscape.measure.signal import made, signal
from gradscape.measure.signal_rules import signal_findings
from gradscape.measure.tracing import Trace
from gradscape.measure.untouched import random_state
from gradscape.measure.watch import watch

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
STEPS = 10
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
        loss: loss(output, y), loss(output), or loss(output, dict) in turn; None for a model whose output has
            a `loss`.
        optimizer: makes the one that is to train it from its parameters.
        seeds: for the signal of a factory's networks.
        confirm: real steps that the model and every remedy are trained for, instead of ten, and ranked by.
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
    steps = Steps(Batch.of(batch), loss, optimizer, confirm or STEPS)
    # A factory is asked again where a module has to be copied, which not every one can be.
    twin = copied(model) if isinstance(make_model, nn.Module) else first_made(make_model)
    as_is = steps.trial("", "as it is", twin)
    assert as_is.diagnosis is not None
    findings = gravest_first([*signal_findings(measured), *as_is.diagnosis.findings])
    tried: list[Trial] = []
    if remedies:
        tried = [attempt(name, model, batch, steps) for name in REMEDIES] + [smaller_eps(model, steps)]
    return CheckRecord(
        signal=measured,
        diagnosis=replace(as_is.diagnosis, findings=findings),
        as_is=as_is,
        remedies=tuple(sorted(tried, key=lambda one: rank(one, as_is.losses[0], confirmed=confirm > 0))),
    )


def first_made(factory: Callable[[], nn.Module]) -> nn.Module:
    """What the factory makes of the first seed."""
    with random_state():
        torch.manual_seed(0)
        return unwrapped(made(factory))


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
    """Real steps on one batch, the same for the model and for every remedy."""

    batch: Batch
    loss: Loss | None
    optimizer: MakeOptimizer
    count: int

    def trial(self, name: str, what: str, model: nn.Module) -> Trial:
        """Train a copy, watched."""
        with random_state():
            torch.manual_seed(0)
            stepper = made_by(self.optimizer, model)
            losses = []
            with watch(model, stepper, every=1, capacity=max(self.count, 2)) as flow, torch.enable_grad():
                for _ in range(self.count):
                    stepper.zero_grad()
                    value = self.batch.loss(self.loss, self.batch.output(model))
                    value.backward()  # type: ignore[no-untyped-call]
                    stepper.step()
                    losses.append(float(value.detach()))
        history = flow.history()
        return Trial(name, what, diagnose(history), span(history), tuple(losses))


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


def attempt(name: str, model: nn.Module, batch: Any, steps: Steps) -> Trial:
    applied = REMEDIES[name](model, batch)
    if not isinstance(applied, Applied):
        return Trial(name, applied, None, math.nan, ())
    return steps.trial(name, applied.what, applied.model)


def smaller_eps(model: nn.Module, steps: Steps) -> Trial:
    """Adam's kind with an ε that vanishing gradients are not small beside."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        made_one = steps.optimizer(parameters)
        for group in made_one.param_groups:
            group["eps"] = SMALL_EPS
        return made_one

    if not all(group.get("eps") for group in steps.optimizer(model.parameters()).param_groups):
        return Trial("smaller eps", "the optimiser has no eps", None, math.nan, ())
    try:
        twin = copied(model)
    except ConfigError as error:
        return Trial("smaller eps", str(error), None, math.nan, ())
    return replace(steps, optimizer=make).trial("smaller eps", f"eps = {SMALL_EPS:g}", twin)


def span(history: FlowHistory) -> float:
    """Orders of magnitude from ‖∂L/∂W‖ of the first weight layer to the last's, in the last row."""
    columns = history.weights
    norms = history.rms[-1, columns] * np.sqrt(np.array(history.sizes)[columns])
    if not (norms[0] > 0 and norms[-1] > 0):
        return math.nan
    return float(np.log10(norms[-1] / norms[0]))


def rank(one: Trial, start: float, confirmed: bool) -> tuple[float, ...]:
    """Smaller is better; what ends above the loss that the model begins with is no remedy yet."""
    if one.diagnosis is None:
        return (2, 0, 0, 0)
    ill = float(one.verdict != "healthy")
    last = one.losses[-1] if math.isfinite(one.losses[-1]) else math.inf
    apart = math.inf if math.isnan(one.span) else abs(one.span)
    above = float(last > start)
    return (ill, above, last, apart) if confirmed else (ill, above, apart, last)
