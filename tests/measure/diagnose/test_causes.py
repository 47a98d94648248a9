"""Causes stand before what follows from them, and a training that works is not called ill."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, mse_loss

import gradscape as gs
from gradscape.records.diagnosis import CAUSES, GRADES, SYMPTOMS, Finding, gravest_first, symptoms_of


def finding(verdict: str, mild: bool = False) -> Finding:
    return Finding(verdict, "", "", "", (), mild=mild)


def verdicts(*names: str) -> list[str]:
    return [each.verdict for each in gravest_first([finding(name) for name in names])]


def test_what_follows_from_a_cause_is_left_out() -> None:
    assert verdicts("vanishing", "noise-dominated", "wrong axis") == ["wrong axis"]
    assert verdicts("vanishing", "noise-dominated") == ["vanishing", "noise-dominated"]
    assert verdicts("exploding", "learning rate is 0", "stopped") == ["learning rate is 0", "exploding"]
    assert verdicts("does not fit one batch") == ["does not fit one batch"]
    assert verdicts("does not fit one batch", "samples are mixed") == ["samples are mixed"]
    assert verdicts("non-finite", "unusable labels") == ["non-finite", "unusable labels"]


def test_no_verdict_follows_from_itself() -> None:
    assert not set(CAUSES) & set(SYMPTOMS)
    assert all(name not in symptoms_of(name) for name in GRADES)
    assert set(SYMPTOMS) <= set(GRADES)


def test_what_a_training_has_and_works_is_a_warning_after_the_faults() -> None:
    mild = finding("dead units", mild=True)
    assert mild.grade == "warn"
    assert [each.verdict for each in gravest_first([mild, finding("does not learn")])] == [
        "does not learn",
        "dead units",
    ]
    assert finding("overshooting", mild=True).grade == "warn"
    assert finding("healthy", mild=True).grade == "info"


@pytest.mark.parametrize("learns", [True, False])
def test_steps_that_are_large_beside_small_weights_are_no_fault_where_the_loss_falls(learns: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(100, 2)
    y = 10 + x @ torch.tensor([[9.0], [-2.0]])
    y = y if learns else y[torch.randperm(100)] * torch.randn(100, 1)
    model = nn.Linear(2, 1)
    nn.init.normal_(model.weight, std=1e-3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for _ in range(40):
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()
            optimizer.step()
    found = [each for each in gs.diagnose(flow).findings if each.verdict == "learning rate too large"]
    assert [each.grade for each in found] == ["warn" if learns else "fail"]
    assert ("the loss falls all the same" in found[0].cause) == learns
    assert (gs.diagnose(flow).grade == "fail") != learns


def test_a_softmax_over_one_unit_is_not_also_a_frozen_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Softmax(dim=1))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(32, 6)
    with gs.watch(model, optimizer) as flow:
        for _ in range(30):
            optimizer.zero_grad()
            binary_cross_entropy(model(x), (x[:, :1] > 0).float()).backward()
            optimizer.step()
    (found,) = gs.diagnose(flow).findings
    assert found.verdict == "output does not fit the loss"
    assert "softmax is over a single unit" in found.cause
