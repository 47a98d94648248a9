"""Optimizers of copies: class, settings and groups of the user's own, at the rate of the test."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.core.copied_optimizer import Given, steppers_of
from gradscape.measure.lr_range.optimizer import RatedOptimizer

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def mean_square(output: Tensor) -> Tensor:
    return output.square().mean()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def losses(make_model: Any, optimizer: Any) -> np.ndarray:
    return gs.lr_range(make_model, X, mean_square, optimizer, rates=(1e-4, 0.1), steps=12, seeds=1).losses[0]


def rated(given: Given) -> RatedOptimizer:
    return RatedOptimizer(steppers_of(given, None)(network()))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.Adam, {"betas": (0.5, 0.6), "eps": 0.1, "amsgrad": True}),
        (torch.optim.AdamW, {"weight_decay": 0.3, "lr": torch.tensor(1e-3), "foreach": False}),
    ],
)
def test_an_optimizer_gives_the_same_losses_as_its_class_with_its_settings(kind: Any, settings: Any) -> None:
    model = network()
    by_function = losses(model, lambda parameters: kind(parameters, **{"lr": 0.5, **settings}))
    assert np.array_equal(losses(model, kind(model.parameters(), **{"lr": 0.5, **settings})), by_function)
    other = kind(network().parameters(), **{"lr": 7.0, **settings})  # of another network, for a factory
    assert np.array_equal(losses(network, other), losses(network, lambda p: kind(p, **settings)))
    assert not np.array_equal(losses(model, kind), by_function)


def test_its_state_is_not_taken_and_its_rate_is_the_tests() -> None:
    model = network()
    fresh = losses(model, torch.optim.Adam(model.parameters()))
    used = torch.optim.Adam(model.parameters(), lr=3.0)
    for parameter in model.parameters():
        used.state[parameter] = {
            "step": torch.tensor(50.0),
            "exp_avg": torch.ones_like(parameter),
            "exp_avg_sq": torch.ones_like(parameter),
        }
    assert np.array_equal(losses(model, used), fresh)


def test_groups_keep_the_ratio_of_their_rates_and_frozen_ones_stay() -> None:
    model = network()
    first, second = model[0].parameters(), model[2].parameters()
    optimizer = torch.optim.SGD([{"params": first, "lr": 0.2}, {"params": second, "lr": 0.05}])
    found = gs.lr_range(model, X, mean_square, optimizer, rates=(1e-4, 0.1), steps=12, seeds=1)
    assert "rates are those of the first group; groups keep their ratios to it, 1, 0.25" in found.notes
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05]
    twin = network()
    by_hand, rated = [], torch.optim.SGD([{"params": twin[0].parameters()}, {"params": twin[2].parameters()}])
    for rate in found.rates:
        rated.zero_grad()
        value = mean_square(twin(X))
        value.backward()
        rated.param_groups[0]["lr"], rated.param_groups[1]["lr"] = rate, 0.25 * rate
        rated.step()
        by_hand.append(value.item())
    assert np.allclose(found.losses[0], by_hand, rtol=1e-6)


def test_parameters_that_an_optimizer_does_not_hold_are_not_trained() -> None:
    model = network()
    part = losses(model, torch.optim.SGD(model[2].parameters(), lr=1.0))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    assert np.allclose(part, losses(model, torch.optim.SGD), rtol=1e-6)


def test_a_rate_that_is_a_tensor_is_not_written_to() -> None:
    rate = torch.tensor(0.5)
    stepper = rated(lambda parameters: torch.optim.Adam(parameters, lr=rate))
    stepper.step(0.125)
    assert rate.item() == 0.5
    assert float(stepper.steppers.groups[0]["lr"]) == 0.125


def test_a_description_has_momentum_and_weight_decay() -> None:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4)
    assert rated(sgd).described == "SGD (momentum 0.9, weight decay 0.0005)"
    assert rated(torch.optim.Adam).described == "Adam"


class Fails(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        raise RuntimeError("out of order")


def grouped() -> torch.optim.Optimizer:
    model = network()
    return torch.optim.SGD([{"params": part.parameters()} for part in (model[0], model[2])], lr=0.1)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda _: 3, "optimizer: it makes 3; give what makes one of parameters, as torch.optim.Adam"),
        (lambda _: 1 / 0, "optimizer: it fails (ZeroDivisionError: division by zero); give what makes one"),
        (Fails, "optimizer: Fails fails: RuntimeError: out of order; give another as optimizer="),
        (
            lambda p: torch.optim.SGD(p, lr=0.0),
            "optimizer: expected a learning rate above 0 in SGD's first group; got 0.0; give",
        ),
        (
            torch.optim.SGD(network().parameters(), lr=0.1),
            "optimizer: SGD trains no parameter of Sequential: give the optimizer of this very",
        ),
        ("adam", "optimizer: expected a function or Optimizer or a list; got 'adam'"),
    ],
)
def test_what_is_no_optimizer_of_the_model_is_one_line(optimizer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        losses(network(), optimizer)


def test_several_optimizers_keep_the_ratio_of_their_rates() -> None:
    model = network()
    both = [torch.optim.SGD(model[0].parameters(), lr=0.2), torch.optim.SGD(model[2].parameters(), lr=0.05)]
    one = torch.optim.SGD(
        [{"params": part.parameters(), "lr": lr} for part, lr in ((model[0], 0.2), (model[2], 0.05))]
    )
    assert np.array_equal(losses(model, both), losses(model, one))
    assert RatedOptimizer(steppers_of(both, model)(model)).described == "SGD and SGD"


def test_groups_of_another_network_cannot_be_those_of_a_factory_s() -> None:
    with pytest.raises(
        ConfigError, match="SGD has 2 groups of another module's parameters; give that module"
    ):
        losses(network, grouped())
