"""Raise the learning rate step by step and look at the loss: which rates train, and which diverge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.batches import fixed_batches
from gradscape.measure.core.copied_optimizer import (
    OPTIMIZERS,
    MakeOptimizer,
    notes_on_state,
    steppers_of,
)
from gradscape.measure.core.copied_training import Original, require_trainable
from gradscape.measure.core.copying import copied
from gradscape.measure.core.layer_trace import layer_kind, unwatched
from gradscape.measure.core.preserve import leaves_loss, random_state, refuse, seed_generators
from gradscape.measure.lr_range.curve import Curve, Losses, trained
from gradscape.measure.lr_range.optimizer import RatedOptimizer
from gradscape.measure.signal.noise_batch import noise_batch
from gradscape.measure.signal.signal import call_factory
from gradscape.records.encoding import Values
from gradscape.records.lr_range import LrRange

FEWEST_STEPS = 10


@typed(seeds=1_000, steps=10_000)
@leaves_loss
def lr_range(
    make_model: nn.Module | Callable[[], nn.Module],
    batches: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | torch.optim.Optimizer | Sequence[torch.optim.Optimizer] = torch.optim.SGD,
    *,
    rates: tuple[float, float] = (1e-7, 10.0),
    steps: int = 100,
    seeds: int = 3,
) -> LrRange:
    """Find the learning rate at which the loss falls fastest, and the one from which training diverges.

    A copy is trained while the rate rises by the same factor from step to step, for each seed anew. This
    takes a training step per rate and seed, and a tenth more for the noise of the loss before training. The
    model, its optimizer and all random numbers are left as found. Clipping, schedules and what else a loop
    does are not part of it.

    Args:
        make_model: Factory, called after `torch.manual_seed(0)`, 1, …, or a module, trained in its mode.
        batches: One batch, (x, y), x or a dict of the model's arguments, or several: a list, or a DataLoader
            for one pass. A seed draws their order, anew after each pass.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; None for a model whose output has a `loss`.
        optimizer: Function from parameters to the optimizer that is to train them, as a class is, or from the
            model, if its first parameter is named `model`; or one or several optimizers of the module, of
            which class, settings and groups are taken, without the state. Groups keep the ratio of their
            rates. Beside a factory, an optimizer of one group gives its class and settings.
        rates: First and last learning rate, of the optimizer's first group.
        steps: Number of rates, evenly spaced on a log axis.
        seeds: Number of seeds: of a factory's networks, of the order of the batches, and of dropout.

    Raises:
        ConfigError: Rates or steps are out of range, the loss is not finite before the first step, a batch
            does not fit, the optimizer cannot be made or fails, or the model cannot be copied.

    Source: Smith (2017), Cyclical Learning Rates for Training Neural Networks, §3.3; Smith & Topin (2019);
        first and last rate, number of steps and the rise that counts as divergence: fastai's LRFinder.

    Example:
        >>> print(gs.lr_range(make_model, batches, loss, optimizer=torch.optim.Adam))
    """
    grid = _grid(rates, steps)
    if seeds < 1:
        raise ConfigError(f"seeds: expected 1 or more; got {seeds}")
    own = unwrapped(make_model) if isinstance(make_model, nn.Module) else None
    if own is not None:
        refuse(own)
    original = None if own is None else Original(own)
    steppers_for = steppers_of(optimizer, own)
    fixed, notes = fixed_batches(batches, steps)
    curves: list[Curve] = []
    for seed in range(seeds):
        with random_state(), unwatched(), torch.enable_grad():
            seed_generators(seed)
            # A factory is asked again where a module has to be copied, which not every one can be.
            twin = copied(own) if own is not None else unwrapped(call_factory(make_model))
            require_trainable(twin)
            given = [Batch.of(batch, twin, loss) for batch in fixed]
            stepper = RatedOptimizer(steppers_for(twin))
            ordered = (given[place] for place in _order(len(given), seed))
            curves.append(trained(Losses(twin, ordered, loss, original), stepper, grid))
    return LrRange(
        optimizer=stepper.described,
        rates=grid,
        untrained=np.array([curve.untrained for curve in curves]),
        losses=np.array([curve.padded(curve.losses) for curve in curves]),
        smoothed=np.array([curve.padded(curve.smoothed) for curve in curves]),
        divergence=np.array([grid[len(c.losses) - 1] if c.diverged else math.nan for c in curves]),
        batches=len(given),
        samples=sum(batch.size for batch in given),
        notes=(*notes, *stepper.note, *notes_on_state(optimizer), *_notes(twin, curves)),
    )


def lr_range_on_noise(
    make_model: Callable[[], nn.Module],
    shape: Sequence[int],
    *,
    optimizer: str,
    momentum: float = 0.0,
    **options: Any,
) -> LrRange:
    """Call `lr_range` for a classifier, on one batch of standard normal noise with labels drawn at random.

    Args:
        make_model: Factory of a module from samples (N, …) to (N, classes).
        shape: Shape of the batch, (N, …).
        optimizer: Key of `OPTIMIZERS`.
        momentum: Momentum of SGD.
        options: Further arguments of `lr_range`.

    Raises:
        ConfigError: As `lr_range`, and a module with another output.
    """
    batch = noise_batch(make_model, shape, "gradscape.lr_range with a loss")
    kind = OPTIMIZERS[optimizer]
    make = partial(kind, momentum=momentum) if kind is torch.optim.SGD else kind
    return lr_range(make_model, batch, nn.functional.cross_entropy, make, **options)


def _order(count: int, seed: int) -> Iterator[int]:
    """Yield the places of the batches without an end, in a new order for each pass."""
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.permutation(count).tolist()


def _grid(rates: Any, steps: int) -> Values:
    """Return the rates (K,), evenly spaced on a log axis.

    Raises:
        ConfigError: They are not two increasing numbers above 0, or the steps are too few.
    """
    paired = isinstance(rates, tuple | list) and len(rates) == 2 and all(isinstance(r, Real) for r in rates)
    if not paired or not 0 < rates[0] < rates[1] <= 1e300:
        raise ConfigError(
            f"rates: expected two increasing numbers above 0 such as (1e-7, 10); got {brief(rates)}"
        )
    if steps < FEWEST_STEPS:
        raise ConfigError(f"steps: expected {FEWEST_STEPS} or more, such as 100; got {steps}")
    return np.geomspace(float(rates[0]), float(rates[1]), steps)


def _notes(model: nn.Module, curves: Sequence[Curve]) -> list[str]:
    """Return remarks on the mode of a model, and on seeds that are all the same."""
    notes = []
    if not model.training:
        notes.append(
            "trained in eval mode, as the model was found: call model.train() before, as a loop does"
        )
    if any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        notes.append("BatchNorm takes each batch's statistics; running ones change in the copies alone")
    if any(layer_kind(module) == "dropout" and module.training for module in model.modules()):
        notes.append("dropout is on, and part of the noise")
    if len(curves) > 1 and all(curve.losses == curves[0].losses for curve in curves):
        notes.append("every seed is the same: there is one batch, and nothing is drawn")
    return notes
