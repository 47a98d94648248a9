"""A small net, its batches, and the gradients that plain autograd gives: the oracle of the integrations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BATCH = 5


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def examples(count: int = 8 * BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    x, y = examples()
    yield from zip(x.split(BATCH), y.split(BATCH), strict=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in batches():
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def norms(gradients: tuple[Tensor, ...]) -> list[float]:
    return [float(gradient.double().norm()) for gradient in gradients]


def read_norms(history) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(T, P) the L2 norms that a history holds: rms times the root of the number of elements."""
    return history.rms * np.sqrt(history.sizes)
