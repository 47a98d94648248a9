"""A recipe of a training: network, loss, optimizer, data and batches in short; and the training of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, NAdam, Optimizer, RMSprop

from public_failures.case import Training
from public_failures.data import Data, Draw
from public_failures.keras import Network, network
from public_failures.losses import LOSSES, Loss

EPSILON, RMSPROP_DECAY = 1e-7, 0.9  # Keras' defaults
LEARNING_RATES = {"sgd": 0.01, "adam": 1e-3, "nadam": 1e-3, "rmsprop": 1e-3}
WORST = -1.0  # R² has no lower end; below this, one is as useless as another


@dataclass(frozen=True)
class Recipe:
    """A training in short.

    Attributes:
        net: Layers in the notation of `keras`.
        loss: Name of a loss.
        optimizer: Name, learning rate unless it is Keras' own, and Nesterov's momentum where it has one:
            "adam", "sgd 0.1 0.9".
        data: Data of a seed.
        batch: Number of samples a step.
        steps: Number of steps.
        scale: Which are standardized by the training samples' mean and deviation: "", "x", "y" or "xy".
    """

    net: str
    loss: str
    optimizer: str
    data: Draw
    batch: int
    steps: int
    scale: str = ""


def training(recipe: Recipe, seed: int) -> Training:
    """Begin the training of a recipe."""
    data = recipe.data(seed)
    loss = LOSSES[recipe.loss]
    inputs = standardized(data.x)[0] if "x" in recipe.scale else same
    outputs, restored = standardized(data.y) if "y" in recipe.scale else (same, same)
    x, y = inputs(data.x), formed(outputs(data.y), data.classes, loss.form)
    torch.manual_seed(seed)
    built = network(recipe.net, tuple(x.shape[1:]), x.dtype)
    optimizer = optimizer_of(recipe.optimizer, built)
    rows = batches(len(x), recipe.batch, seed)

    def step(number: int) -> Tensor:
        chosen = rows(number)
        optimizer.zero_grad()
        value = loss.function(built.model(x[chosen]), y[chosen]) + penalty(built)
        value.backward()
        optimizer.step()
        return value.detach()

    def score() -> float:
        return scored(restored(outputs_of(built.model, inputs(data.x_test))), data, loss)

    first = rows(0)
    return Training(built.model, optimizer, step, score, (x[first], y[first]), loss.function)


def same(x: Tensor) -> Tensor:
    return x


def standardized(x: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the map to mean 0 and deviation 1 of each feature, and its inverse."""
    mean, deviation = x.mean(0), x.std(0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return (lambda raw: (raw - mean) / deviation), (lambda scaled: scaled * deviation + mean)


def formed(y: Tensor, classes: int, form: str) -> Tensor:
    """Give targets the form that a loss takes; real ones have it."""
    if not classes or form == "index":
        return y
    return F.one_hot(y, classes).float() if form == "one-hot" else y.float()[..., None]


def batches(count: int, size: int, seed: int) -> Callable[[int], Tensor]:
    """Return rows of each step's batch: an order of its own for each epoch, the last batch what is left."""
    each = -(-count // size)

    def rows(number: int) -> Tensor:
        epoch, place = divmod(number, each)
        order = torch.randperm(count, generator=Generator().manual_seed(1_000_003 * seed + epoch))
        return order[place * size : (place + 1) * size]

    return rows


def optimizer_of(text: str, built: Network) -> Optimizer:
    """Make the optimizer of a recipe; a penalty λw² on a kernel is a weight decay of 2λ."""
    name, *numbers = text.split()
    lr = float(numbers[0]) if numbers else LEARNING_RATES[name]
    weights = dict(built.model.named_parameters())
    groups = [{"params": [w for key, w in weights.items() if key not in built.l2 and w.requires_grad]}]
    groups += [{"params": [weights[key]], "weight_decay": 2 * built.l2[key]} for key in built.l2]
    if name == "sgd":
        momentum = float(numbers[1]) if len(numbers) > 1 else 0.0
        return SGD(groups, lr, momentum=momentum, nesterov=momentum > 0)
    if name == "rmsprop":
        return RMSprop(groups, lr, alpha=RMSPROP_DECAY, eps=EPSILON)
    return {"adam": Adam, "nadam": NAdam}[name](groups, lr, eps=EPSILON)


def penalty(built: Network) -> Tensor | float:
    """Return λ·Σ|w| of the kernels with an L1 penalty."""
    return sum(
        (
            built.l1[name] * weight.abs().sum()
            for name, weight in built.model.named_parameters()
            if name in built.l1
        ),
        start=0.0,
    )


def outputs_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return outputs in eval mode, leaving each layer in the mode it is in."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    with torch.no_grad():
        out: Tensor = model(x)
    for layer, mode in modes:
        layer.training = mode
    return out


def scored(out: Tensor, data: Data, loss: Loss) -> float:
    """Return accuracy, or R² = 1 − MSE/Var of real targets in their own units, but no lower than `WORST`."""
    if data.classes:
        labels = (out[..., 0] > (0 if loss.logit else 0.5)).long() if out.shape[-1] == 1 else out.argmax(-1)
        return float((labels == data.y_test).float().mean())
    error = (out - data.y_test).square().mean()
    r2 = float(1 - error / (data.y_test - data.y_test.mean(0)).square().mean())
    return max(r2, WORST) if r2 == r2 else WORST
