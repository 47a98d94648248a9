"""Curve of a range test: one copy is trained, at a higher rate with every step, until its loss diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch, Loss
from gradscape.measure.core.copied_training import Original, backward
from gradscape.measure.core.layer_trace import Trace
from gradscape.measure.core.preserve import untouched
from gradscape.measure.lr_range.optimizer import RatedOptimizer
from gradscape.records.encoding import Values
from gradscape.records.lr_range import decay

FEWEST = 5  # losses before training, of which level and noise are taken; otherwise a tenth of the steps
# Times its lowest value at which a smoothed loss has diverged: LRFinder's, in fastai/callback/schedule.py.
RISE = 4


class Curve:
    """Losses of one seed.

    Args:
        untrained: Losses before the first step.
        count: Number of rates.

    Attributes:
        losses: Losses so far.
        smoothed: Means of these and the untrained, weighted by β^age.
        diverged: True from when the training has diverged.
    """

    def __init__(self, untrained: list[float], count: int) -> None:
        self.untrained, self.count, self.beta = untrained, count, decay(count)
        self.noise = float(np.std(untrained, ddof=1))
        self.sum = self.weight = 0.0
        for loss in untrained:
            self._mean_with(loss)
        self.best = self.sum / self.weight
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.diverged = False

    def _mean_with(self, loss: float) -> float:
        """Return the weighted mean of the losses so far and one more; the weights' sum corrects its bias."""
        self.sum = self.beta * self.sum + loss
        self.weight = self.beta * self.weight + 1
        return self.sum / self.weight

    def add(self, loss: float) -> None:
        """Append a loss, and decide whether the training has diverged.

        The limit is four times the lowest smoothed loss; more if that is near 0, for noise alone makes
        multiples of it.

        Args:
            loss: Loss before the step at the next rate.
        """
        self.losses.append(loss)
        self.smoothed.append(self._mean_with(loss))
        self.best = min(self.best, self.smoothed[-1])
        limit = self.best + (RISE - 1) * max(abs(self.best), self.noise)
        self.diverged = not math.isfinite(loss) or self.smoothed[-1] > limit

    def padded(self, values: list[float]) -> Values:
        """Return values (K,) of all rates, NaN where the curve was stopped before.

        Args:
            values: Values of the first rates.
        """
        return np.array(values + [math.nan] * (self.count - len(values)))


@dataclass(frozen=True)
class Losses:
    """Losses of a copy on one batch after another.

    Attributes:
        twin: Copy that is trained.
        batches: Batches, as many as are asked for.
        loss: Loss, as of `gradscape.lr_range`.
        original: The user's module; None for a factory.
    """

    twin: nn.Module
    batches: Iterator[Batch]
    loss: Loss | None
    original: Original | None

    def next(self) -> float:
        """Return the loss of the next batch, whose gradients are the copy's then.

        Raises:
            ConfigError: The batch does not fit, or the loss fails.
        """
        batch = next(self.batches)
        self.twin.zero_grad()
        try:
            return backward(self.twin, batch, self.loss, self.original)
        except ConfigError:
            model = self.twin if self.original is None else self.original.model
            with untouched(model), torch.no_grad(), Trace(model, lambda *_: None) as trace:
                trace.forward(batch)  # if the batch does not fit a layer, this names it
            raise


def trained(losses: Losses, stepper: RatedOptimizer, rates: Values) -> Curve:
    """Train a copy until the last rate or divergence.

    Args:
        losses: Losses of the copy.
        stepper: Optimizer of the copy.
        rates: (K,) Learning rates.

    Raises:
        ConfigError: A loss is not finite before the first step.
    """
    untrained = [losses.next() for _ in range(max(FEWEST, len(rates) // 10))]
    _require_finite(untrained)
    curve = Curve(untrained, len(rates))
    for rate in rates:
        value = losses.next()
        if not curve.losses:
            _require_finite([value])
        curve.add(value)
        if curve.diverged:
            break
        stepper.step(float(rate))
    return curve


def _require_finite(untrained: list[float]) -> None:
    """Refuse losses before the first step that are not finite."""
    if not all(map(math.isfinite, untrained)):
        first = min(untrained, key=math.isfinite)
        raise ConfigError(
            f"loss: got {first:g} before the first step, which no rate can lower; "
            "look at inputs, loss and initialization: gradscape.check says in which layer it begins"
        )
