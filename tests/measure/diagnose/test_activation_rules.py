"""Outputs of layers that steps have made alike, and those that were alike before any step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.records.gradients import FlowHistory


@pytest.fixture(scope="module")
def history() -> FlowHistory:
    """Of a few steps of a network that is well."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gs.watch(model, optimizer, activations=True) as flow:
        for _ in range(60):
            x = torch.randn(16, 6)
            optimizer.zero_grad()
            cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            optimizer.step()
    return flow.history()


def alike_from(history: FlowHistory, row: int) -> FlowHistory:
    """The history, in which samples are the same at the two last weight layers from some row on."""
    seen = history.activations
    assert seen is not None
    correlation = seen.correlation.copy()
    correlation[row:, -3:] = np.where(np.isnan(correlation[row:, -3:]), np.nan, 1 - 1e-12)
    return replace(history, activations=replace(seen, correlation=correlation))


def test_what_steps_have_made_alike_speaks_for_the_learning_rate(history: FlowHistory) -> None:
    found = gs.diagnose(alike_from(history, 5))
    assert (found.verdict, found.layer) == ("learning rate too large", "2")
    assert "steps have drowned the input" in found.findings[0].cause
    assert all(symptom.counts for symptom in found.findings[0].evidence)


def test_what_was_alike_before_is_no_signal(history: FlowHistory) -> None:
    found = gs.diagnose(alike_from(history, 0))
    assert (found.verdict, found.layer) == ("no signal from the input", "2")
    assert gs.diagnose(history).grade != "fail"
