"""Rules on running statistics that do not follow, and on dropout that leaves no signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_term
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.diagnose.loss.rules import loss_findings, loss_notes
from gradscape.measure.watch.running_gaps import Gaps
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.loss import LossHistory, RunningGap

APART, HIDDEN = "train and eval differ", "dropout hides the signal"
STEPS = 105


def trained(*between: nn.Module, calls: int = 1, shift: float = 0.0) -> tuple[Diagnosis, LossHistory]:
    """Ten labels of vectors, by a net with something between its layers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), *between, nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with gs.watch(model, optimizer) as flow:
        for _ in range(STEPS):
            x = torch.randn(64, 8) + shift
            optimizer.zero_grad()
            loss = torch.stack([cross_entropy(model(x + call), x.argmax(1)) for call in range(calls)])
            loss.mean().backward()
            optimizer.step()
    history = flow.history().loss
    assert history is not None
    return gs.diagnose(flow), history


def of(diagnosis: Diagnosis, verdict: str) -> Finding | None:
    return next((each for each in diagnosis.findings if each.verdict == verdict), None)


# Running statistics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 1e-3])
def test_a_momentum_of_next_to_nothing_leaves_the_first_statistics(momentum: float) -> None:
    told, history = trained(nn.BatchNorm1d(32, momentum=momentum), shift=2.0)
    found = of(told, APART)
    assert found is not None
    assert (found.layer, found.grade) == ("1", "warn")
    assert f"a momentum of {momentum:g}" in found.cause
    last = history.readings[-1].running
    assert last is not None
    assert last.initial == pytest.approx((1 - momentum) ** last.batches)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_that_follow_are_quiet(momentum: float | None) -> None:
    told, history = trained(nn.BatchNorm1d(32, momentum=momentum), shift=2.0)
    assert of(told, APART) is None
    assert not loss_notes(history)


def test_the_gap_is_that_of_eval_mode_beside_train_mode() -> None:
    _, history = trained(nn.BatchNorm1d(32, momentum=0.0), shift=2.0)
    last = history.readings[-1].running
    assert last is not None
    assert last.batches == last_step(history) + 1
    norm = nn.BatchNorm1d(4, momentum=0.0, affine=False)
    values = torch.randn(16, 4).double().requires_grad_()
    norm.double()
    gaps = Gaps()
    gaps.add("norm", norm, norm(values))
    pending = gaps.take()
    assert pending is not None
    assert pending.read().gap == pytest.approx(by_hand(norm, values), rel=1e-3)
    assert gaps.take() is None


def by_hand(norm: nn.BatchNorm1d, values: Tensor) -> float:
    """Root mean square of the mean and of the deviation less 1 of what eval mode gives."""
    given = norm.eval()(values).detach()
    deviation = given.std(0, correction=0) - 1
    return float((given.mean(0).square() + deviation.square()).mean().sqrt())


def last_step(history: LossHistory) -> int:
    return next(each.step for each in reversed(history.readings) if each.running is not None)


def test_a_norm_that_is_called_twice_a_step_is_left_out() -> None:
    told, history = trained(nn.BatchNorm1d(32), calls=2)
    assert of(told, APART) is None
    assert all(each.running is None for each in history.readings)


def test_a_momentum_of_another_library_is_a_note() -> None:
    told, history = trained(nn.BatchNorm1d(32, momentum=0.99))
    assert of(told, APART) is None
    (note,) = loss_notes(history)
    assert note.startswith("1 has momentum 0.99")


def drifting(gap: float, readings: int = 5, momentum: float = 0.1, batches: int = 500) -> LossHistory:
    term = made_term(
        "cross_entropy", output=np.random.default_rng(0).normal(size=(64, 2)), target=[0, 1] * 32
    )
    seen = made_history(*[term] * readings, values=np.linspace(0.7, 0.1, 1000))
    running = RunningGap("net.bn", gap, momentum, batches)
    return replace(seen, readings=tuple(replace(each, running=running) for each in seen.readings))


def test_statistics_that_are_far_away_at_a_usual_momentum() -> None:
    (found,) = loss_findings(drifting(4.0))
    assert (found.verdict, found.layer) == (APART, "net.bn")
    assert "faster than they can follow" in found.cause
    assert not loss_findings(drifting(1.5))
    assert not loss_findings(drifting(4.0, readings=2))
    assert not loss_findings(drifting(0.2, momentum=0.0))
    assert not loss_findings(drifting(0.6, momentum=0.01))


# Dropout --------------------------------------------------------------------------------------------------


def dropping(p: float) -> Diagnosis:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.Dropout(p))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with gs.watch(model, optimizer) as flow:
        for _ in range(120):
            x = torch.randn(64, 8)
            optimizer.zero_grad()
            cross_entropy(model(x), x.argmax(1)).backward()
            optimizer.step()
    return gs.diagnose(flow)


def test_a_dropout_of_the_outputs() -> None:
    found = of(dropping(0.95), HIDDEN)
    assert found is not None
    assert (found.layer, found.grade) == ("3", "warn")
    assert found.evidence[0].value == pytest.approx(0.05)
    assert all(each.counts for each in found.evidence)


def test_a_dropout_that_leaves_a_signal() -> None:
    assert of(dropping(0.3), HIDDEN) is None


def test_several_dropouts_in_a_row_count_together() -> None:
    told, history = trained(nn.Dropout(0.5), nn.Dropout(0.6), nn.Dropout(0.3))
    assert of(told, HIDDEN) is None  # it learns
    assert history.readings[0].dropped == ("1", "2")
    assert history.readings[0].kept == pytest.approx(0.2)
    values = 0.69 + 0.02 * np.random.default_rng(1).normal(size=200)
    stuck = drifting(0.0)
    stuck = replace(stuck, steps=np.arange(200))
    stuck = replace(
        stuck,
        values=values,
        readings=tuple(replace(each, dropped=("a", "b"), kept=0.1) for each in stuck.readings),
    )
    assert HIDDEN in [each.verdict for each in loss_findings(stuck)]
    learnt = replace(stuck, values=np.linspace(0.7, 0.3, 200))
    assert not loss_findings(learnt)


def test_a_model_that_an_evaluation_leaves_in_eval_mode_is_noted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gs.watch(model, optimizer) as flow:
        for step in range(120):
            if step == 30:
                model.eval()
            x = torch.randn(32, 8)
            optimizer.zero_grad()
            cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
            optimizer.step()
    (note,) = (each for each in gs.diagnose(flow).notes if "eval mode" in each)
    assert note.startswith(
        "all dropout and normalization modules are in eval mode at training steps from step "
    )
    assert note.endswith(" on, at the latest: call model.train() after each evaluation")
    assert 30 <= int(note.split("from step ")[1].split()[0]) <= 60
