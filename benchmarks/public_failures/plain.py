"""The plain loop of most cases: shuffled batches, one loss, one optimizer, a score on held-out data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from public_failures.case import Training

Loss = Callable[[Any, Any], Tensor]
Measure = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Split:
    """Data to train on, and data held out."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, held_out: int) -> Split:
        return cls(x[:-held_out], y[:-held_out], x[-held_out:], y[-held_out:])


@dataclass(frozen=True)
class Batches:
    """Indices of each step's batch; every epoch is shuffled anew, from the seed alone."""

    count: int
    size: int
    seed: int

    def __call__(self, step: int) -> Tensor:
        epoch, place = divmod(step, max(1, self.count // self.size))
        order = torch.randperm(self.count, generator=drawn(self.seed, 1_000 + epoch))
        return order[place * self.size : (place + 1) * self.size]


def drawn(seed: int, stream: int = 0) -> Generator:
    """A generator that shares nothing with the one that draws the weights."""
    return Generator().manual_seed(1_000_003 * (seed + 1) + stream)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluate without a trace: modes, gradients and random numbers are afterwards what they were."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:  # not `eval()`: a model may do more in it than set the mode
        module.training = False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def plain(
    model: nn.Module,
    optimizer: Optimizer,
    data: Split,
    loss: Loss,
    measure: Measure,
    seed: int,
    size: int = 50,
) -> Training:
    """The loop of a tutorial."""
    batches = Batches(len(data.x), size, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        value = loss(model(data.x[at]), data.y[at])
        value.backward()
        optimizer.step()
        return value.detach()

    first = batches(0)
    return Training(
        model, optimizer, step, held_out(model, data, measure), (data.x[first], data.y[first]), loss
    )


def held_out(model: nn.Module, data: Split, measure: Measure) -> Callable[[], float]:
    """Score of the model in eval mode on the data it is not trained on."""

    def score() -> float:
        with untouched(model):
            return measure(model(data.test_x), data.test_y)

    return score


def accuracy(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(-1) == y).float().mean())


def binary_accuracy(output: Tensor, y: Tensor, threshold: float = 0.0) -> float:
    """Accuracy of logits (threshold 0) or of probabilities (0.5)."""
    return float(((output.reshape(-1) > threshold) == (y.reshape(-1) > 0.5)).float().mean())


def balanced_accuracy(logits: Tensor, y: Tensor) -> float:
    right = (logits.argmax(-1) == y).float()
    return sum(float(right[y == label].mean()) for label in y.unique()) / len(y.unique())


def r2(output: Tensor, y: Tensor) -> float:
    """R², −1 where it is lower or not a number, so that one divergence does not outweigh all other seeds."""
    return at_least(-1.0, 1 - float(F.mse_loss(output.reshape(y.shape), y) / y.var(correction=0)))


def at_least(worst: float, value: float) -> float:
    return worst if math.isnan(value) else max(worst, value)


def minus(loss: Loss, worst: float) -> Measure:
    """Negative loss as a measure, not below `worst`, nor a number that is none."""
    return lambda output, y: at_least(worst, -float(loss(output, y)))


def from_center(model: nn.Module, center: Tensor, seed: int, worst: float) -> float:
    """Negative distance of the mean of what a GAN's generator makes from the real one, not below `worst`."""
    with untouched(model):
        made = model.generator(torch.randn(1_000, 4, generator=drawn(seed)))  # type: ignore[operator]
        return at_least(worst, -float((made.mean(0) - center).norm()))
