"""An optimizer that the user has: class, defaults, groups and their order on every copy."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.check.optimizers import outside

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


def test_parameters_outside_the_optimizer_are_told_and_frozen_ones_are_not() -> None:
    net = model()
    (found,) = outside(grouped(net), net)
    assert (found.verdict, found.layer) == ("parameters outside the optimizer", "2.weight")
    assert "2 parameters will never get a step" in found.cause
    for parameter in net[2].parameters():
        parameter.requires_grad_(False)
    assert not outside(grouped(net), net)
    assert not outside(torch.optim.Adam, net)


@pytest.mark.slow
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


def test_one_or_several_optimizers_train_what_the_model_s_training_would() -> None:
    net = model()
    halves = [torch.optim.SGD(net[:3].parameters(), lr=0.5), torch.optim.Adam(net[3:].parameters(), lr=0.1)]
    record = gs.check(net, (X, Y), cross_entropy, optimizer=halves, remedies=False, fit=0)
    losses = []
    for _ in range(10):
        for optimizer in halves:
            optimizer.zero_grad()
        loss = cross_entropy(net(X), Y)
        losses.append(loss.item())
        loss.backward()
        for optimizer in halves:
            optimizer.step()
    assert record.as_is.losses == pytest.approx(losses, rel=1e-6)
    assert not [
        each for each in record.diagnosis.findings if each.verdict == "parameters outside the optimizer"
    ]


def test_what_makes_an_optimizer_leaves_its_hooks_on_copies_alone() -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: gradient)
        return torch.optim.Adam(model.parameters())

    net = nn.Sequential(nn.Linear(6, 3))
    gs.check(net, (X, Y), cross_entropy, make, fit=0)
    assert not any(parameter._backward_hooks for parameter in net.parameters())


def test_a_state_that_is_left_out_is_noted() -> None:
    net = model()
    own = torch.optim.Adam(net.parameters())
    told = "copies are trained without the state of Adam: they begin as a training does"
    assert told not in gs.check(net, (X, Y), cross_entropy, own, remedies=False, fit=0).diagnosis.notes
    cross_entropy(net(X), Y).backward()
    own.step()
    assert told in gs.check(net, (X, Y), cross_entropy, own, remedies=False, fit=0).diagnosis.notes
    assert told in gs.lr_range(net, (X, Y), cross_entropy, own, steps=10, seeds=1).notes
