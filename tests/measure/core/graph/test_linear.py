"""A network without anything nonlinear is told from its graph, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.measure.core.graph.linear import linear_widths

LABELS = torch.arange(8) % 3


class Two(nn.Module):
    """Two layers with something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(6, 6), nn.Linear(6, 3), between

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.between(self.first(x)))
        return out


def found(model: nn.Module, *shape: int) -> tuple[int, ...]:
    x = torch.randn(shape or (8, 6), generator=torch.Generator().manual_seed(0))
    matrices = {id(each) for each in model.parameters() if each.dim() > 1}
    return linear_widths(cross_entropy(model(x).reshape(8, 3), LABELS), matrices)


def convolutions(pool: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), pool, nn.Flatten(), nn.Linear(20, 3)
    )


@pytest.mark.parametrize(
    "between",
    [
        lambda h: h,
        lambda h: 0.5 * h / 2,
        lambda h: h + 2 * h,
        nn.Dropout(0.5),
        nn.BatchNorm1d(6),
        lambda h: h.reshape(2, 4, 6).transpose(0, 1).reshape(8, 6),
    ],
    ids=["nothing", "numbers", "a skip", "dropout", "BatchNorm", "views"],
)
def test_layers_with_nothing_nonlinear_between(between: Callable[[Tensor], Tensor]) -> None:
    assert found(Two(between)) == (6, 6, 3)


def test_convolutions_in_a_row() -> None:
    assert found(convolutions(nn.AvgPool2d(2)), 8, 1, 8, 8) == (1, 4, 5, 3)
    assert found(convolutions(nn.MaxPool2d(2)), 8, 1, 8, 8) == ()


def test_a_last_activation_and_a_penalty_are_no_part_of_the_network() -> None:
    model = Two(lambda h: h)
    x = torch.randn(8, 6)
    penalty = sum(each.square().sum() for each in model.parameters())
    loss = cross_entropy(model(x).softmax(1), LABELS) + penalty
    assert linear_widths(loss) == (6, 6, 3)


@pytest.mark.parametrize(
    "between",
    [
        torch.relu,
        lambda h: h * (h > 0),
        lambda h: h * h.detach().sigmoid(),
        lambda h: h * h,
        lambda h: h + (h.sign() - h).detach(),
        nn.LayerNorm(6),
        lambda h: h.softmax(1),
        lambda h: h / h.detach().norm(dim=1, keepdim=True),
        lambda h: h.sort().values,
        lambda h: 1 / h,
    ],
    ids=[
        "relu", "a mask", "a gate", "a square", "straight through", "LayerNorm", "softmax", "a norm", "sort",
        "an inverse",
    ],
)  # fmt: skip
def test_anything_nonlinear_ends_the_row(between: Callable[[Tensor], Tensor]) -> None:
    assert found(Two(between)) == ()


def test_a_matrix_that_is_no_layer_of_the_row_says_that_not_all_is_known() -> None:
    model = Two(lambda h: h)
    model.extra = nn.Linear(2, 2)
    assert found(model) == ()
    head = nn.Parameter(torch.randn(3, 3))
    told = torch.einsum("ij,nj->ni", head, Two(lambda h: h)(torch.randn(8, 6)).relu())
    assert linear_widths(cross_entropy(told, LABELS)) == ()


def test_frozen_layers_are_not_looked_through() -> None:
    model = Two(lambda h: h)
    model.first.requires_grad_(False)
    assert found(model) == ()


def test_a_transformer_and_an_lstm_are_not_linear() -> None:
    layer = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Linear(6, 3))
    assert found(layer, 1, 8, 6) == ()

    class Recurrent(nn.LSTM):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            out: Tensor = super().forward(x)[0]
            return out

    assert found(nn.Sequential(Recurrent(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)), 1, 8, 6) == ()


def test_no_graph_is_no_network() -> None:
    assert linear_widths(torch.zeros(())) == ()
    assert linear_widths(torch.zeros((), requires_grad=True).clone()) == ()
