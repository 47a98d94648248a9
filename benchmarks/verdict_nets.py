"""The networks of `verdicts.py`'s draws, on the embedded digits, and what every case is described by."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import gradscape as gs

CLASSES = 10

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
OPTIMIZERS = {
    "sgd": lambda p, scale: torch.optim.SGD(p, lr=0.05 * scale, momentum=0.9),
    "adam": lambda p, scale: torch.optim.Adam(p, lr=0.001 * scale),
}
LR_SCALES = (1.0, 1.0, 1.0, 1.0, 0.003, 30.0)
INITS = ("torch", "he", "glorot", "small", "large")


@dataclass(frozen=True)
class Case:
    kind: str
    depth: int
    width: int
    init: str
    norm: str
    skip: bool
    activation: str
    optimizer: str
    lr_scale: float
    seed: int

    @property
    def family(self) -> str:
        return f"{self.kind} {self.activation} {self.norm}{' skip' if self.skip else ''}"


class Block(nn.Module):
    """A linear map, a norm, an activation; its input added if asked for."""

    def __init__(self, inner: nn.Module, skip: bool) -> None:
        super().__init__()
        self.inner, self.skip = inner, skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out + x if self.skip and out.shape == x.shape else out


def linear(case: Case, inputs: int) -> nn.Module:
    if case.kind == "mlp":
        return nn.Linear(inputs, case.width)
    return nn.Conv2d(inputs, case.width, 3, padding=1)


def norm(case: Case) -> nn.Module:
    if case.norm == "batch":
        return nn.BatchNorm1d(case.width) if case.kind == "mlp" else nn.BatchNorm2d(case.width)
    if case.norm == "layer":
        return nn.LayerNorm(case.width) if case.kind == "mlp" else nn.GroupNorm(1, case.width)
    return nn.Identity()


def initialize(model: nn.Module, init: str) -> None:
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d) or init == "torch":
            continue
        if init == "glorot":
            nn.init.xavier_normal_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= {"he": 1.0, "small": 0.5, "large": 2.0}[init]
        nn.init.zeros_(module.bias)


def build(case: Case) -> nn.Module:
    torch.manual_seed(case.seed)
    inputs = 64 if case.kind == "mlp" else 1
    layers: list[nn.Module] = [nn.Flatten()] if case.kind == "mlp" else []
    for _ in range(case.depth - 1):
        inner = nn.Sequential(linear(case, inputs), norm(case), ACTIVATIONS[case.activation]())
        layers.append(Block(inner, case.skip))
        inputs = case.width
    if case.kind == "conv":
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        inputs *= 4
    model = nn.Sequential(*layers, nn.Linear(inputs, CLASSES))
    initialize(model, case.init)
    return model


def cases(count: int, seed: int) -> list[Case]:
    """A sample of all combinations, as many of each family."""
    draw = random.Random(seed)
    families = list(
        itertools.product(("mlp", "conv"), ACTIVATIONS, ("none", "batch", "layer"), (False, True))
    )
    found = []
    for number in range(count):
        kind, activation, norm_, skip = families[number % len(families)]
        found.append(
            Case(
                kind, draw.choice((3, 6, 12, 24, 36)), draw.choice((16, 32)), draw.choice(INITS), norm_, skip,
                activation, draw.choice(tuple(OPTIMIZERS)), draw.choice(LR_SCALES), draw.randrange(1_000),
            )
        )  # fmt: skip
    return found


def data() -> tuple[Tensor, Tensor]:
    """The embedded digits, 8×8, as standardized numbers."""
    images = gs.load_images("digits")
    x = torch.from_numpy(np.array(images.train_images[:, ::2, ::2, 0])).float()
    return (x - x.mean()).div(x.std()).unsqueeze(1), torch.from_numpy(np.array(images.train_labels)).long()
