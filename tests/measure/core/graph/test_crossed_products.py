"""A row times a column within a loss is found, and no product that is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradscape.measure.core.graph.crossed_products import crossed_product

N = 6


def numbers() -> Tensor:
    """One number a sample, of a model."""
    return nn.Linear(3, 1)(torch.randn(N, 3)).squeeze(1)


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda p: -(p * torch.randn(N, 1)).mean(), True),
        (lambda p: (p[:, None] * torch.randn(N)).mean(), True),
        (lambda p: torch.min(p.exp() * torch.randn(N, 1), p).mean(), True),
        (lambda p: (p / torch.rand(N, 1)).sum(), True),
        (lambda p: -(p * torch.randn(N)).mean(), False),
        (lambda p: (p[:, None] * torch.randn(N, 1)).mean(), False),
        (lambda p: (p * torch.ones(N, N).triu()).mean(), False),  # a mask of pairs
        (lambda p: (p[:, None] * p[None]).mean(), False),  # pairs, on purpose
        (lambda p: (p * 2.0).mean(), False),
        (lambda p: ((p[:, None] - p[None]) ** 2).mean(), False),
    ],
)
def test_in_a_loss(loss: Callable[[Tensor], Tensor], found: bool) -> None:
    factors = crossed_product(loss(numbers()))
    assert factors == (((N,), (N, 1)) if found else None)
