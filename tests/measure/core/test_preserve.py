"""Whatever is done to a model within `untouched`, it is as found afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError
from gradscape.measure.core.as_found import AsFound, standing_in
from gradscape.measure.core.preserve import random_state, untouched


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_parameters_keep_their_values_and_identity(model: nn.Sequential) -> None:
    before, parameters = state(model), list(model.parameters())
    storage = [p.data_ptr() for p in parameters]
    with untouched(model):
        with torch.no_grad():
            model[0].weight.add_(1)
        model[0].bias.data = torch.ones(4)
        model[4].weight.data.mul_(2)
        model[4].bias = nn.Parameter(torch.ones(2))
        model[1].extra = nn.Parameter(torch.ones(1))
    assert same(state(model), before)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert [p.data_ptr() for p in parameters] == storage


def test_buffers_are_kept(model: nn.Sequential) -> None:
    before = state(model)
    with untouched(model):
        model(torch.randn(5, 3))
        assert not same(state(model), before)
        model.register_buffer("extra", torch.ones(1))
    assert same(state(model), before)


def test_gradients_are_kept_and_begin_as_none(model: nn.Sequential) -> None:
    model(torch.randn(5, 3)).sum().backward()
    model[0].bias.grad = None
    held = [p.grad for p in model.parameters()]
    values = [None if g is None else g.clone() for g in held]
    with untouched(model):
        assert all(p.grad is None for p in model.parameters())
        model(torch.randn(5, 3)).sum().backward()
    for parameter, gradient, value in zip(model.parameters(), held, values, strict=True):
        assert parameter.grad is gradient
        assert gradient is None or torch.equal(gradient, value)


def test_the_mode_of_every_submodule_is_kept(model: nn.Sequential) -> None:
    model[1].eval()
    before = [m.training for m in model.modules()]
    for change in (model.train, model.eval):
        with untouched(model):
            change()
        assert [m.training for m in model.modules()] == before


def test_requires_grad_is_kept(model: nn.Sequential) -> None:
    model[0].requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    with untouched(model):
        model[0].requires_grad_(True)
        model[4].requires_grad_(False)
    assert [p.requires_grad for p in model.parameters()] == before


def test_random_numbers_to_come_are_the_same(model: nn.Sequential) -> None:
    def drawn() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.random()), random.random()

    with random_state():
        expected = drawn()
    with untouched(model):
        drawn()
        torch.manual_seed(7)
    assert drawn() == expected


@pytest.mark.gpu
def test_random_numbers_of_cuda_are_the_same(model: nn.Sequential) -> None:
    torch.rand((), device="cuda")
    with random_state():
        expected = torch.rand((), device="cuda").item()
    with untouched(model.cuda()):
        torch.rand(10, device="cuda")
    assert torch.rand((), device="cuda").item() == expected


def test_hooks_added_within_are_removed_and_others_stay(model: nn.Sequential) -> None:
    calls: list[str] = []
    mine = model[0].register_forward_hook(lambda *_: calls.append("mine"))
    model[0].weight.register_hook(lambda _: calls.append("tensor"))
    with untouched(model):
        model[0].register_forward_hook(lambda *_: calls.append("forward"))
        model[2].register_full_backward_hook(lambda *_: calls.append("backward"))
        model[4].register_forward_pre_hook(lambda *_: calls.append("before"))
        model[4].weight.register_hook(lambda _: calls.append("other tensor"))
        model[4].weight.register_post_accumulate_grad_hook(lambda _: calls.append("after"))
        model(torch.randn(5, 3)).sum().backward()
    assert set(calls) == {"mine", "forward", "before", "backward", "other tensor", "after"}  # silent: tensor
    calls.clear()
    model(torch.randn(5, 3)).sum().backward()
    assert calls == ["mine", "tensor"]
    mine.remove()
    calls.clear()
    model(torch.randn(5, 3))
    assert calls == []


def test_a_graph_held_by_the_caller_stays_usable(model: nn.Sequential) -> None:
    out = model(torch.randn(5, 3)).sum()
    with untouched(model), torch.no_grad():
        model.eval()(torch.randn(5, 3))
    out.backward()
    assert model[0].weight.grad is not None


def test_arrays_are_kept(model: nn.Sequential) -> None:
    counts, beside = np.zeros(3), np.array([np.nan, 1.0])
    model.counts, model[0].held = counts, {"beside": beside}
    with untouched(model):
        counts += 1
        model[0].held["beside"] *= 2
    assert model.counts is counts
    assert counts.tolist() == [0, 0, 0]
    assert beside[1] == 1


def test_an_error_within_leaves_the_model_as_found_too(model: nn.Sequential) -> None:
    def broken() -> None:
        with untouched(model):
            model.eval()
            nn.init.zeros_(model[0].weight)
            raise ZeroDivisionError

    before = state(model)
    with pytest.raises(ZeroDivisionError):
        broken()
    assert same(state(model), before)
    assert model.training


def test_shared_and_not_finite_parameters_are_kept(model: nn.Sequential) -> None:
    model[4].weight.data.fill_(float("nan"))
    model.add_module("again", model[0])
    with untouched(model):
        nn.init.ones_(model[0].weight)
        nn.init.ones_(model[4].weight)
    assert model[4].weight.isnan().all()
    assert model.again is model[0]
    assert not (model[0].weight == 1).any()


def test_a_model_without_shapes_yet_is_refused() -> None:
    message = "weight of LazyLinear has no shape yet: call the model on a batch once"
    with pytest.raises(ConfigError, match=message), untouched(nn.LazyLinear(3)):
        pass


def test_what_cannot_be_put_back_keeps_nothing_else_from_it(model: nn.Sequential) -> None:
    found, mine = AsFound(model), list(model.parameters())

    def broken() -> None:
        raise RuntimeError("cannot be written")

    found.undo.insert(0, broken)
    with (
        pytest.raises(RuntimeError, match="cannot be written"),
        standing_in(model, {name: torch.zeros_like(p) for name, p in model.named_parameters()}, found),
    ):
        assert not any(a is b for a, b in zip(model.parameters(), mine, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), mine, strict=True))
