"""A model with its loss and batch, and every public measure that takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import gradscape as gs


@dataclass(frozen=True)
class Case:
    """A model of one kind.

    Attributes:
        make: makes the model, the same one each time after `torch.manual_seed(0)`.
        batch: what it is measured on.
        loss: of it; None where the model's output has one.
        refused: of the measures that cannot be, what their one line must say.
        trained: whether it can be trained as it is, by SGD.
    """

    make: Callable[[], nn.Module]
    batch: Any
    loss: Callable[..., Any] | None
    refused: dict[str, str] = field(default_factory=dict)
    trained: bool = True

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make()


Measure = Callable[[nn.Module, Any, Any], Any]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3)


# A dict of callables: name → (model, loss, batch) to a record, each at the least cost.
MEASURES: dict[str, Measure] = {
    "smoothness": lambda m, loss, batch: gs.smoothness(m, loss, batch, lr=0.01, points=2),
    "smoothness of a step": lambda m, loss, batch: gs.smoothness(
        m, loss, batch, optimizer=sgd(m.parameters()), points=2, bn="running"
    ),
    "curvature": lambda m, loss, batch: gs.curvature(m, loss, batch, k=1, trace_products=0, tolerance=0.5),
    "landscape": lambda m, loss, batch: gs.landscape(m, loss, batch, dims=1, points=3, workers=1),
    "noise": lambda m, loss, batch: gs.noise(m, loss, [batch, batch]),
    "lr range": lambda m, loss, batch: gs.lr_range(m, [batch, batch], loss, sgd, steps=10, seeds=1),
    "check": lambda m, loss, batch: gs.check(m, batch, loss, optimizer=sgd, remedies=False, fit=3),
}


def step(model: nn.Module, loss: Any, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    """One training step as a user writes it."""
    from gradscape.measure.core.batch import Batch

    given = Batch.of(batch, model, loss)
    optimizer.zero_grad()
    given.loss(loss, given.output(model)).backward()
    optimizer.step()
