"""Sizes of layers beside what is computed by hand, and a training that the reader leaves as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.measure.coordinates.layer_sizes import OUTPUT, LayerSizes
from gradscape.measure.core.batch import Batch

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Shared(nn.Module):
    """One layer called twice, and an embedding's weight that makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.table = nn.Linear(8, 8), nn.Embedding(7, 8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.table(torch.arange(5).expand(6, 5))
        return self.inner(self.inner(x).relu_() + tokens) @ self.table.weight.T


def rnn() -> nn.Module:
    return nn.LSTM(8, 4, num_layers=2, dropout=0.5, batch_first=True)


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)


def normed() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Flatten(0, 1), nn.BatchNorm1d(8),
        nn.Dropout(0.5), nn.Linear(8, 3),
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {
    "rnn": rnn, "attention": attention, "normed": normed, "shared": Shared,
}  # fmt: skip


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().double()


def loss(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    first = output[0] if isinstance(output, tuple) else output
    return first.square().mean()


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss(model(X)).backward()
    optimizer.step()


def reader(model: nn.Module, batch: object = X) -> LayerSizes:
    return LayerSizes(model, Batch.of(batch, model, loss), loss, 3)


def test_sizes_of_a_linear_network_are_those_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 9), nn.ReLU(inplace=True), nn.Linear(9, 2)).double()
    before, read = copy.deepcopy(model), reader(model)
    first = read.read()
    assert list(first.sizes) == ["0", "2"]
    assert first.last == "2"
    assert first.sizes["0"] == (before[0](X).abs().mean().item(), 0.0, 0.0)
    stepped(model, torch.optim.SGD(model.parameters(), 0.3))
    found = read.read()
    with torch.no_grad():
        h0, h1 = before[:2](X), model[:2](X)
        size, change = model(X).abs().mean(), (model(X) - before(X)).abs().mean()
        weight = model[2].weight - before[2].weight
        effective = (h1 @ weight.T + model[2].bias - before[2].bias).abs().mean()
        assert found.sizes["2"] == pytest.approx((size.item(), change.item(), effective.item()), rel=1e-12)
        propagated = (h1 - h0) @ before[2].weight.T
        own = h1 @ weight.T + model[2].bias - before[2].bias
        assert torch.allclose(model(X) - before(X), own + propagated, rtol=0, atol=1e-14)
    assert found.sizes["0"][1] == pytest.approx(found.sizes["0"][2], rel=1e-12)  # its input is the batch
    assert found.loss == pytest.approx(loss(model(X)).item(), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_training_is_what_it_is_without_the_reader(name: str) -> None:
    alone, model = made(name), made(name)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    optimizers = [torch.optim.Adam(each.parameters(), 0.01) for each in (alone, model)]
    torch.manual_seed(7)
    for _ in range(3):
        stepped(alone, optimizers[0])
    torch.manual_seed(7)
    read = reader(model)
    for _ in range(3):
        read.read()
        stepped(model, optimizers[1])
    read.read()
    for one, other in zip(alone.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_nothing_changes_where_nothing_is_trained_though_dropout_is_on(name: str) -> None:
    model = made(name)
    read = reader(model)
    read.read()
    torch.manual_seed(5)
    again = read.read()
    assert again.sizes
    for size, change, effective in again.sizes.values():
        assert size > 0
        assert change == 0
        assert effective in (0, pytest.approx(float("nan"), nan_ok=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_effective_update_of_a_first_layer_is_its_change(name: str) -> None:
    """Its input is the batch: parameters alone make the change, whatever holds them."""
    model = made(name)
    read = reader(model)
    first = next(iter(read.read().sizes))
    stepped(model, torch.optim.SGD(model.parameters(), 0.1))
    _, change, effective = read.read().sizes[first]
    assert change > 0
    assert effective == pytest.approx(change, rel=1e-9)


def test_calls_are_counted_and_the_network_s_output_is_last() -> None:
    found = reader(made("shared")).read()
    assert list(found.sizes) == ["table", "inner", "inner (call 2)", OUTPUT]
    assert found.kinds["table"] == "embedding"
    assert (found.last, found.readout) == (OUTPUT, "")


def test_a_readout_that_is_scaled_is_told_and_a_loss_may_call_the_model() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x) / 4

    net = Scaled().double()
    x, y = X[:, 0], torch.arange(6) % 3

    def calling(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    found = LayerSizes(net, Batch.of((x, y), net, calling), calling, 0).read()
    assert (found.last, found.readout) == (OUTPUT, "head")
    assert found.sizes[OUTPUT][0] == pytest.approx(found.sizes["head"][0] / 4)
    assert found.loss == pytest.approx(cross_entropy(net(x), y).item())
