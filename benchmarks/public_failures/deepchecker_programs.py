"""The programs that TheDeepChecker's faults are put into, and what these change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from public_failures.case import Training
from public_failures.plain import Loss, Measure, Split, balanced_accuracy, drawn, plain, r2
from public_failures.tasks import curve, digits

USUAL = partial(Adam, lr=3e-3)
Prepare = Callable[[Split, int], Split]


@dataclass(frozen=True)
class Program:
    """A program, in the parts that a fault may change."""

    data: Callable[[int], Split]
    net: Callable[[], nn.Sequential]
    loss: Loss
    measure: Measure
    prepare: Prepare
    optimizer: Callable[..., Optimizer] = USUAL
    start: Callable[[nn.Module], None] = lambda _: None


def train(program: Program, seed: int) -> Training:
    torch.manual_seed(seed)
    model = program.net()
    program.start(model)
    data = program.prepare(program.data(seed), seed)
    optimizer = program.optimizer(model.parameters())
    return plain(model, optimizer, data, program.loss, program.measure, seed, size=32)


def cnn(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        activation(),
        nn.Conv2d(8, 16, 3, padding=1),
        activation(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 32),
        activation(),
        nn.Linear(32, 10),
    )


def deep_cnn(norm: bool) -> nn.Sequential:
    """Fourteen convolutions, each normalized or none."""
    layers: list[nn.Module] = []
    for inputs in (1, *[8] * 13):
        layers += [
            nn.Conv2d(inputs, 8, 3, padding=1),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32, 10))


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 1))


class FlippedWhileTrained(nn.Module):
    """Augmentation that makes other digits of digits: upside down, or mirrored, or both."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        sides = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
        return x.flip(sides)


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 100 * x


class OwnSoftmax(nn.Module):
    """A softmax that divides by the sum over the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.exp() / x.exp().sum()).log()


def pixels(data: Split, scale: float, shift: float) -> Split:
    return replace(data, x=(data.x - shift) * scale, test_x=(data.test_x - shift) * scale)


def normalized(data: Split, _: int) -> Split:
    return pixels(data, 1 / 0.37, 0.31)


def raw(data: Split, _: int) -> Split:
    return pixels(data, 255.0, 0.0)


def twice(data: Split, _: int) -> Split:
    return pixels(data, 1 / 255**2, 0.0)


def unbalanced(data: Split, seed: int) -> Split:
    """All of the classes 0 and 1, and ten of each of the others."""
    data = normalized(data, seed)
    rare = torch.cat([(data.y == label).nonzero()[:10, 0] for label in range(2, 10)])
    kept = torch.cat([(data.y < 2).nonzero()[:, 0], rare])
    return replace(data, x=data.x[kept], y=data.y[kept])


def balanced(data: Split, seed: int) -> Split:
    """The same classes, of which the rare ones are repeated until they are as many."""
    data = unbalanced(data, seed)
    index = torch.cat([(data.y == label).nonzero()[:, 0].repeat(15)[:150] for label in range(10)])
    return replace(data, x=data.x[index], y=data.y[index])


def wrong_labels(data: Split, seed: int) -> Split:
    """Labels of nine tenths are drawn."""
    data = normalized(data, seed)
    drawn_y = torch.randint(0, 10, data.y.shape, generator=drawn(seed, 1))
    wrong = torch.rand(len(data.y), generator=drawn(seed, 2)) < 0.9
    return replace(data, y=torch.where(wrong, drawn_y, data.y))


def unscaled(data: Split, _: int) -> Split:
    """Columns of several units, up to 10,000, and targets in units of their own."""
    units = 10 ** torch.linspace(0, 4, 8)
    return Split(units * data.x, 100 * data.y + 500, units * data.test_x, 100 * data.test_y + 500)


def other_targets(data: Split, seed: int) -> Split:
    return replace(data, y=data.y[torch.randperm(len(data.y), generator=drawn(seed, 1))])


def as_drawn(data: Split, _: int) -> Split:
    return data


def constant(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)


def wide(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter)


def with_end(net: Callable[[], nn.Sequential], *end: nn.Module) -> Callable[[], nn.Sequential]:
    return lambda: nn.Sequential(*net(), *end)


CNN = Program(lambda _: digits(), cnn, F.cross_entropy, balanced_accuracy, normalized)
DEEP = replace(CNN, net=lambda: deep_cnn(norm=True))
MLP = Program(curve, mlp, F.mse_loss, r2, as_drawn)
