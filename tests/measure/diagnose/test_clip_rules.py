"""Rules on clipping, each on a training that really clips that way, and on one that does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    return x, x[:, :4].argmax(1)


def clipped(
    norm: float, lr: float, kind: type[torch.optim.Optimizer] = torch.optim.Adam
) -> tuple[FlowHistory, list[float]]:
    """A watched training, and the factors that its gradients were clipped by."""
    model, (x, y), factors = net(), data(), []
    optimizer = kind(model.parameters(), lr=lr)  # type: ignore[call-arg]
    with gs.watch(model, optimizer) as flow:
        for _ in range(40):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            before = float(nn.utils.clip_grad_norm_(model.parameters(), norm))
            factors.append(min(1.0, norm / before))
            optimizer.step()
    return flow.history(), factors


def test_clipping_that_always_bites_is_told_and_no_fault() -> None:
    found = gs.diagnose(clipped(0.01, lr=1e-2)[0])
    told = next(each for each in found.findings if each.verdict == "always clipped")
    assert told.grade == found.grade == "info"
    assert told.evidence[0].value == 1
    verdicts = [each.verdict for each in gs.diagnose(clipped(100.0, lr=1e-2)[0]).findings]
    assert "always clipped" not in verdicts


def test_the_factor_of_clipping_is_that_of_the_norms() -> None:
    history, factors = clipped(0.5, lr=1e-3)
    assert history.clipped is not None
    assert history.clipped.tolist() == pytest.approx(factors, rel=1e-5)


def scaled(norm: float, unscaled: bool, growth: int = 2000, lr: float = 0.05) -> Diagnosis:
    """A training under a GradScaler, whose gradients are clipped after or before it has unscaled them."""
    model, (x, y) = net(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scaler = torch.amp.GradScaler("cpu", growth_interval=growth)
    with gs.watch(model, optimizer) as flow:
        for _ in range(120):
            optimizer.zero_grad()
            scaler.scale(cross_entropy(model(x), y)).backward()
            if unscaled:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), norm)
            scaler.step(optimizer)
            scaler.update()
    return gs.diagnose(flow)


@pytest.mark.parametrize("growth", [2000, 30])
def test_clipping_before_unscaling_is_the_cause_of_steps_of_nearly_nothing(growth: int) -> None:
    found = scaled(1.0, unscaled=False, growth=growth)
    assert [each.verdict for each in found.findings] == ["clipped before unscaling"]
    assert "scaler.unscale_(optimizer)" in found.findings[0].remedy


@pytest.mark.parametrize(("norm", "lr"), [(1.0, 0.05), (0.05, 1.0)])
def test_clipping_afterwards_is_not(norm: float, lr: float) -> None:
    verdicts = [each.verdict for each in scaled(norm, unscaled=True, lr=lr).findings]
    assert "clipped before unscaling" not in verdicts


@pytest.mark.parametrize(
    ("optimizer", "lr", "norm", "by_clipping"),
    [
        (torch.optim.SGD, 0.1, 1e-4, True),
        (torch.optim.SGD, 1e-4, 0.3, False),  # too small without clipping, too
        (torch.optim.Adam, 1e-6, 1e-4, False),  # whose steps do not depend on the gradient's size
    ],
)
def test_steps_that_clipping_alone_makes_small(
    optimizer: type[torch.optim.Optimizer], lr: float, norm: float, by_clipping: bool
) -> None:
    found = gs.diagnose(clipped(norm, lr, optimizer)[0])
    small = next(each for each in found.findings if each.verdict == "learning rate too small")
    assert ("gradients are clipped to" in small.cause) == by_clipping
    assert small.remedy.startswith("clip at" if by_clipping else "a higher learning rate")
