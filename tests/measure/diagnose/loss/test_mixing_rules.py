"""Samples and axes that a model mixes are told from shapes, and layers that mix nothing are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.records.diagnosis import Diagnosis, Finding

SAMPLES, PLACES, FEATURES = 30, 7, 4


class Reader(nn.Module):
    """A recurrent or attention layer that reads (samples, places, features), as its user thinks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.enter, self.layer, self.head = nn.Linear(FEATURES, 8), layer, nn.Linear(8, 3)

    def turned(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        h = self.turned(self.enter(x))
        h = self.layer(h, h, h)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(h)[0]
        out: Tensor = self.head(h[:, -1])
        return out


class Viewed(Reader):
    """It takes a view for a transpose."""

    def turned(self, x: Tensor) -> Tensor:
        return x.view(PLACES, SAMPLES, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(self.turned(self.enter(x)))[0][-1])
        return out


class Permuted(Viewed):
    def turned(self, x: Tensor) -> Tensor:
        return x.permute(1, 0, 2)


def diagnosed(model: nn.Module, steps: int = 10, lr: float = 1e-3) -> Diagnosis:
    """Of a training on targets that are not in the inputs: its loss stays at guessing's."""
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with gs.watch(model, optimizer) as flow:
        for _ in range(steps):
            x = torch.randn(SAMPLES, PLACES, FEATURES, generator=draw)
            optimizer.zero_grad()
            cross_entropy(model(x), torch.randint(0, 3, (SAMPLES,), generator=draw)).backward()
            optimizer.step()
    return gs.diagnose(flow)


def of(diagnosis: Diagnosis, verdict: str) -> Finding | None:
    return next((each for each in diagnosis.findings if each.verdict == verdict), None)


LAYERS = [
    lambda first: nn.LSTM(8, 8, batch_first=first),
    lambda first: nn.GRU(8, 8, batch_first=first),
    lambda first: nn.MultiheadAttention(8, 2, batch_first=first),
]


@pytest.mark.parametrize("layer", LAYERS, ids=["lstm", "gru", "attention"])
def test_a_layer_that_takes_places_for_samples_is_told(layer: Callable[[bool], nn.Module]) -> None:
    torch.manual_seed(0)
    found = of(diagnosed(Reader(layer(False))), "samples are mixed")
    assert found is not None
    assert found.layer == "layer"
    assert "batch_first=True" in found.remedy
    assert of(diagnosed(Reader(layer(True))), "samples are mixed") is None


def test_the_axes_of_time_first_data_may_be_exchanged_too() -> None:
    torch.manual_seed(0)
    right, wrong = Permuted(nn.GRU(8, 8)), Permuted(nn.GRU(8, 8, batch_first=True))
    assert of(diagnosed(right), "samples are mixed") is None
    assert of(diagnosed(wrong), "samples are mixed") is not None


def test_a_view_for_a_transpose_is_told() -> None:
    torch.manual_seed(0)
    found = of(diagnosed(Viewed(nn.GRU(8, 8))), "reshape mixes axes")
    assert found is not None
    assert f"({PLACES}, {SAMPLES}, 8) of ({SAMPLES}, {PLACES}, 8)" in found.cause
    assert of(diagnosed(Permuted(nn.GRU(8, 8))), "reshape mixes axes") is None


@pytest.mark.parametrize(("steps", "grade"), [(20, "warn"), (110, "fail")])
def test_it_is_a_fault_once_the_loss_has_stayed_at_guessing(steps: int, grade: str) -> None:
    torch.manual_seed(0)
    found = diagnosed(Viewed(nn.GRU(8, 8)), steps=steps)
    assert [each.grade for each in found.findings if each.verdict == "reshape mixes axes"] == [grade]


def test_one_long_sequence_and_its_targets_are_no_fault() -> None:
    """Places of one sequence have a target each: as many targets as places, and one sample."""
    torch.manual_seed(0)
    model = nn.LSTM(FEATURES, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gs.watch(model, optimizer) as flow:
        for _ in range(10):
            optimizer.zero_grad()
            out, _ = model(torch.randn(PLACES, 1, FEATURES))
            cross_entropy(out.squeeze(1), torch.randint(0, 3, (PLACES,))).backward()
            optimizer.step()
    assert of(gs.diagnose(flow), "samples are mixed") is None


@pytest.mark.parametrize("column", [True, False])
def test_an_advantage_for_every_sample_of_a_policy_is_told(column: bool) -> None:
    torch.manual_seed(0)
    policy = nn.Linear(FEATURES, 3)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    with gs.watch(policy, optimizer) as flow:
        for _ in range(10):
            chosen = torch.distributions.Categorical(logits=policy(torch.randn(SAMPLES, FEATURES)))
            advantage = torch.randn(SAMPLES, 1) if column else torch.randn(SAMPLES)
            optimizer.zero_grad()
            (-chosen.log_prob(chosen.sample()) * advantage).mean().backward()
            optimizer.step()
    found = of(gs.diagnose(flow), "shapes broadcast")
    assert (found is not None) == column
    assert found is None or (found.grade == "warn" and "(30, 1).squeeze(1)" in found.remedy)


def test_a_loss_that_falls_and_was_never_read_whole_is_no_error() -> None:
    """A history of one's own, or a watch whose first readings were left out."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for _ in range(30):
        optimizer.zero_grad()
        cross_entropy(model(torch.randn(8, 3)), torch.arange(8) % 2).backward()
        optimizer.step()
    history = flow.history()
    assert history.loss is not None
    falling = 2.0 * 0.8 ** np.arange(len(history.loss.values))
    loss = replace(history.loss, values=falling, readings=())
    assert gs.diagnose(replace(history, loss=loss)).grade == "info"
