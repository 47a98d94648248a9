"""Real steps on one batch, of a model as it is and with each remedy, each on a copy of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError, GradscapeError, first_line
from gradscape.measure.check.remedies import REMEDIES, Applied
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.copied_optimizer import Steppers, SteppersOf
from gradscape.measure.core.copied_training import Original, go_backward, loss_of_copy
from gradscape.measure.core.copying import copied
from gradscape.measure.core.layer_trace import layer_kind
from gradscape.measure.core.parameters import number
from gradscape.measure.core.preserve import random_state, seed_generators
from gradscape.measure.diagnose.advice import effect
from gradscape.measure.diagnose.diagnose import diagnose_few
from gradscape.measure.signal.signal import call_factory
from gradscape.measure.watch.watch import watch
from gradscape.records.check import FELL, Trial
from gradscape.records.gradients import FlowHistory

DRAWS = 3  # of the model as it is: how far the loss it ends at varies
SMALLER_EPS = "smaller eps"
SMALL_EPS = 1e-16  # a gradient of 1e-18 still has a square in float32, and nothing smaller has


def first_made(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return the network that the factory makes of a seed.

    Args:
        factory: Maker of networks.
        seed: Seed that is set before the call.
    """
    with random_state():
        seed_generators(seed)
        return unwrapped(call_factory(factory))


@dataclass(frozen=True)
class Untreated:
    """Trial of the model as it is, and what chance makes of the loss that it ends at.

    Attributes:
        trial: Trial.
        band: Difference between the losses of several draws; a hundredth of the first loss at least.
        ratio: Ratio of the lowest to the highest of them; 0 where one is not above 0.
    """

    trial: Trial
    band: float
    ratio: float

    def with_effect(self, trial: Trial) -> Trial:
        """Return the trial of a remedy with its effect.

        Args:
            trial: Trial of as many steps.
        """
        return replace(trial, effect=effect(trial, self.trial, self.band, self.ratio))


def untreated(make_model: nn.Module | Callable[[], nn.Module], steps: Steps) -> Untreated:
    """Return the trial of the model as it is, and how far the loss that it ends at varies.

    The loss varies over the networks of `DRAWS` seeds from a factory, or over a module's dropout.

    Args:
        make_model: Factory or module.
        steps: Steps that are trained.
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
    ratio = float(ends.min() / ends.max()) if len(ends) and ends.min() > 0 else 0.0
    first = abs(trials[0].losses[0])
    return Untreated(trials[0], max(spread, FELL * first if math.isfinite(first) else 0.0), ratio)


@dataclass(frozen=True)
class Steps:
    """Real steps on one batch, the same for the model and for every remedy.

    Attributes:
        batch: Batch of every step.
        loss: Loss, as of `check`.
        optimizer: Function from a copy of the model to the optimizers of its parameters.
        count: Number of steps.
        own: The user's module; None for a factory.
        around: Context of every evaluation of the loss, such as one with another loss function.
    """

    batch: Batch
    loss: Loss | None
    optimizer: SteppersOf
    count: int
    own: Original | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext

    def trial(self, name: str, what: str, model: nn.Module, seed: int = 0) -> Trial:
        """Train a copy, watched.

        Args:
            name: Name of the remedy; empty for the model as it is.
            what: What the remedy changed, in words.
            model: Copy to train.
            seed: Seed of the random numbers within training.

        Raises:
            ConfigError: A step fails.
        """
        with random_state():
            seed_generators(seed)
            stepper = self.optimizer(model)
            losses = []
            with (
                watch(model, stepper.optimizers, every=1, capacity=max(self.count, 2)) as flow,
                torch.enable_grad(),
            ):
                for _ in range(self.count):
                    stepper.zero_grad()
                    losses.append(self.backward(model))
                    stepper.step()
        return Trial(name, what, diagnose_few(flow), _span(flow.history()), tuple(losses))

    def backward(self, model: nn.Module) -> float:
        """Return the loss of a copy, after a backward pass that makes the copy's gradients alone.

        Args:
            model: Copy that is trained.

        Raises:
            ConfigError: As `loss_of_copy`.
        """
        value = self.value(model)
        go_backward(value, model)
        return float(value.detach())

    def value(self, model: nn.Module) -> Tensor:
        """Return the loss of a copy on the batch, in the mode that the copy is in.

        Args:
            model: Copy that is trained.

        Raises:
            ConfigError: As `loss_of_copy`.
        """
        with self.around():
            return loss_of_copy(model, self.batch, self.loss, self.own)


def attempt(name: str, model: nn.Module, batch: Batch, steps: Steps) -> Trial:
    """Try a remedy on a copy.

    Args:
        name: Key of `REMEDIES`.
        model: Network, left as it is.
        batch: Batch that the remedy looks at.
        steps: Steps that the copy is trained for.

    Returns:
        Trial; one without a diagnosis where the remedy does not apply or its network does not train.
    """
    applied = REMEDIES[name](model, batch)
    if not isinstance(applied, Applied):
        return Trial(name, applied, None, math.nan, ())
    try:
        return steps.trial(name, applied.what, applied.model)
    except Exception as error:  # of any kind: what the remedy made does not train
        told = str(error) if isinstance(error, GradscapeError) else first_line(error)
        return Trial(name, told, None, math.nan, ())


def smaller_eps(model: nn.Module, steps: Steps) -> Trial:
    """Try an optimizer of Adam's kind with an ε that vanishing gradients are not small beside.

    Args:
        model: Network, left as it is.
        steps: Steps that a copy is trained for.
    """

    def make(twin: nn.Module) -> Steppers:
        made_one = steps.optimizer(twin)
        for group in made_one.groups:
            group["eps"] = SMALL_EPS
        return made_one

    try:
        twin, another = copied(model), copied(model)
    except ConfigError as error:
        return Trial(SMALLER_EPS, str(error), None, math.nan, ())
    # Not of the model itself, on which what makes an optimizer may leave hooks.
    groups = steps.optimizer(another).groups
    if not all(number(group.get("eps")) for group in groups):  # Adafactor's are two, and mean something else
        return Trial(SMALLER_EPS, "the optimizer has no eps", None, math.nan, ())
    return replace(steps, optimizer=make).trial(SMALLER_EPS, f"eps = {SMALL_EPS:g}", twin)


def _span(history: FlowHistory) -> float:
    """Orders of magnitude from ‖∂L/∂W‖ of the first weight layer to the last's, in the last row."""
    if not len(history.steps):
        return math.nan
    columns = history.weights
    norms = history.rms[-1, columns] * np.sqrt(np.array(history.sizes)[columns])
    if not (norms[0] > 0 and norms[-1] > 0):
        return math.nan
    return float(np.log10(norms[-1] / norms[0]))
