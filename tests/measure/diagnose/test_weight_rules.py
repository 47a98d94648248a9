"""Units that begin as copies, and weights that an optimizer leaves where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.records.diagnosis import Diagnosis


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 30) -> Diagnosis:
    draw = torch.Generator().manual_seed(0)
    with gs.watch(model, optimizer) as flow:
        for _ in range(steps):
            x = torch.randn(16, 6, generator=draw)
            optimizer.zero_grad()
            cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            optimizer.step()
    return gs.diagnose(flow)


def verdicts(diagnosis: Diagnosis) -> dict[str, str]:
    return {each.verdict: each.layer for each in diagnosis.findings}


def test_layers_of_equal_weights_are_named() -> None:
    model = net()
    for layer in (0, 2, 4):
        nn.init.constant_(model[layer].weight, 0.1)
    found = trained(model, torch.optim.Adam(model.parameters()))
    assert verdicts(found)["equal units"] == "0.weight"
    assert found.grade == "fail"


@pytest.mark.parametrize(
    "change",
    [
        lambda model: nn.init.constant_(model[2].weight, 0.1),  # its neighbors' draws break the symmetry
        lambda model: nn.init.zeros_(model[4].weight),
        lambda model: None,
    ],
)
def test_a_single_layer_of_equal_weights_and_zeros_are_no_fault(change: Callable[[Any], object]) -> None:
    model = net()
    change(model)
    assert "equal units" not in verdicts(trained(model, torch.optim.Adam(model.parameters())))


def test_layers_that_begin_at_0_and_stay_there_are_named() -> None:
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    found = trained(model, torch.optim.Adam(model.parameters()))
    assert verdicts(found) == {"equal units": "0.weight"}
    assert "begin at 0" in found.findings[0].cause


class LeavesOut(torch.optim.SGD):
    """SGD that does not step strided weights, as a faulty kernel did."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        strided = [p for group in self.param_groups for p in group["params"] if not p.is_contiguous()]
        kept = [p.detach().clone() for p in strided]
        super().step(closure)
        with torch.no_grad():
            for parameter, value in zip(strided, kept, strict=True):
                parameter.copy_(value)


def test_weights_that_no_step_moves_are_not_trained() -> None:
    for strided in (True, False):
        model = net()
        if strided:
            model[0].weight = nn.Parameter(torch.randn(6, 8).t())
        found = verdicts(trained(model, LeavesOut(model.parameters(), lr=0.05)))
        assert found.get("parameters not trained") == ("0.weight" if strided else None)


def test_a_learning_rate_of_0_for_a_group_is_a_choice() -> None:
    model = net()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2:].parameters()}]
    found = verdicts(trained(model, torch.optim.SGD(groups, lr=0.05)))
    assert "parameters not trained" not in found
