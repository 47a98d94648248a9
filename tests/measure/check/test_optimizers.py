"""An optimizer that the user has: class, defaults, groups and their order on every copy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.check.optimizers import optimizer_of, outside
from gradscape.measure.check.remedies import REMEDIES, Applied
from gradscape.measure.core.copying import copied

torch.manual_seed(0)
X, Y = torch.randn(12, 6), torch.arange(12) % 3


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def grouped(net: nn.Sequential) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": net[4].parameters(), "lr": 0.1, "tag": "head"},
            {"params": net[0].parameters(), "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.8, 0.9),
    )


def settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def test_groups_settings_and_order_are_those_of_the_original() -> None:
    net = model()
    own, twin = grouped(net), copied(net)
    made = optimizer_of(own, net)(twin)
    assert type(made) is torch.optim.AdamW
    assert settings(made) == settings(own)
    assert made.defaults == own.defaults
    names = {id(p): name for name, p in twin.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in made.param_groups] == [
        ["4.weight", "4.bias"], ["0.weight", "0.bias"],
    ]  # fmt: skip


def test_what_a_remedy_adds_is_trained_too() -> None:
    net = model()
    applied = REMEDIES["norm"](net, (X, Y))
    assert isinstance(applied, Applied)
    made = optimizer_of(torch.optim.SGD(net.parameters(), lr=0.1), net)(applied.model)
    held = {id(p) for group in made.param_groups for p in group["params"]}
    assert held == {id(p) for p in applied.model.parameters()}
    some = optimizer_of(grouped(net), net)(applied.model)
    held = {id(p) for group in some.param_groups for p in group["params"]}
    assert {name for name, p in applied.model.named_parameters() if id(p) not in held} == {
        "2.inner.weight", "2.inner.bias",
    }  # fmt: skip


def test_parameters_outside_the_optimizer_are_told_and_frozen_ones_are_not() -> None:
    net = model()
    (found,) = outside(grouped(net), net)
    assert (found.verdict, found.layer) == ("parameters outside the optimizer", "2.weight")
    assert "2 parameters will never get a step" in found.cause
    for parameter in net[2].parameters():
        parameter.requires_grad_(False)
    assert not outside(grouped(net), net)
    assert not outside(torch.optim.Adam, net)


def test_a_check_trains_with_the_optimizer_and_leaves_it_as_it_is() -> None:
    net = model()
    own = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    cross_entropy(net(X), Y).backward()
    own.step()
    state = {key: value["momentum_buffer"].clone() for key, value in own.state.items()}
    record = gs.check(net, (X, Y), cross_entropy, optimizer=own, fit=5)
    by_factory = gs.check(
        net, (X, Y), cross_entropy, optimizer=lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9), fit=5
    )
    assert record.as_is.losses == by_factory.as_is.losses
    assert record.fit == by_factory.fit
    assert all(torch.equal(own.state[key]["momentum_buffer"], value) for key, value in state.items())


def test_an_optimizer_that_cannot_be_carried_over_says_what_to_give() -> None:
    net = model()
    own = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="SGD has none of the parameters of Sequential: make it of"):
        gs.check(model(), (X, Y), cross_entropy, optimizer=own)
    with pytest.raises(ConfigError, match="optimizer: SGD is of a model that was made before"):
        gs.check(model, (X, Y), cross_entropy, optimizer=own)

    class Named(torch.optim.SGD):
        def __init__(self, parameters: Any, name: str) -> None:
            super().__init__(parameters, lr=0.1)

    with pytest.raises(ConfigError, match=r"optimizer: another Named cannot be made .*; give what makes one"):
        gs.check(net, (X, Y), cross_entropy, optimizer=Named(net.parameters(), "mine"))
