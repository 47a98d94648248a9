"""What a loss divides by is found in its graph, before any layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from gradscape.measure.core.graph.divisors import divisor_of

TARGET = torch.linspace(-2, 2, 8).unsqueeze(1)


def output() -> Tensor:
    torch.manual_seed(0)
    found: Tensor = nn.Linear(3, 1)(torch.randn(8, 3))
    return found


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: ((o - TARGET) / TARGET).abs().mean(),
        lambda o: 100 * ((TARGET - o).abs() / TARGET.abs()).mean(),
        lambda o: (o / TARGET - 1).square().mean(),
    ],
)
def test_a_percentage_error_divides_by_its_targets(loss: Callable[[Tensor], Tensor]) -> None:
    found = divisor_of(loss(output()))
    assert found is not None
    assert torch.equal(found, TARGET.abs())


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: mse_loss(o, TARGET) / 4,
        lambda o: (o - TARGET).square().sum() / torch.tensor(8.0),
        lambda o: mse_loss(normalize(o, dim=0), TARGET),
        lambda o: mse_loss(nn.Linear(1, 1)(o / TARGET), TARGET),  # within the network
        lambda o: torch.zeros(()),
    ],
)
def test_numbers_and_norms_are_none(loss: Callable[[Tensor], Tensor]) -> None:
    assert divisor_of(loss(output())) is None
