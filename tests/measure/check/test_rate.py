"""The range test of a check: what it says of the learning rate, and what it leaves as found."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.check.rate import RateTest, rate_test, with_rate
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.copied_optimizer import steppers_of
from gradscape.measure.diagnose.advice import FIND_RATE, HIGHER, LOWER, effect
from gradscape.records.check import Trial
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.lr_range import LrRange

Y = torch.arange(16) % 4
X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) + 2 * nn.functional.one_hot(Y, 8)


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def checked(lr: float, model: Any = make, **options: Any) -> gs.CheckRecord:
    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=lr)

    return gs.check(model, (X, Y), cross_entropy, adam, seeds=1, fit=0, remedies=False, **options)


@pytest.mark.parametrize(
    ("lr", "verdict", "way"),
    [(3.0, "learning rate too large", LOWER), (1e-7, "learning rate too small", HIGHER)],
)
def test_a_verdict_on_the_rate_says_which_to_take(lr: float, verdict: str, way: str) -> None:
    record = checked(lr)
    assert record.verdict == verdict
    told = record.facts[-1]
    assert told.startswith("range test: loss falls fastest near 0.0")
    assert told.endswith("(3 seeds)")
    advice = record.diagnosis.findings[0].remedy
    assert advice.startswith(f"{way}, 0.0")
    assert f"({told}, tried: loss " in advice
    assert FIND_RATE not in advice
    rate = float(advice.removeprefix(f"{way}, ").partition(" ")[0])
    assert checked(rate).verdict == "healthy"


def test_a_healthy_check_without_remedies_makes_no_range_test() -> None:
    record = checked(1e-2)
    assert record.verdict == "healthy"
    assert not [fact for fact in record.facts if "range test" in fact]


@pytest.mark.slow
def test_the_rate_of_a_range_test_is_tried() -> None:
    record = gs.check(make, (X, Y), cross_entropy, lambda p: torch.optim.Adam(p, lr=1e-7), seeds=1, fit=0)
    trial = next(trial for trial in record.remedies if trial.remedy == "lr of a range test")
    assert trial.effect == "lowers"
    assert "of a range test" in trial.what
    assert f", tried: {trial.change})" in record.diagnosis.findings[0].remedy


def test_what_a_remedy_lowers_by_orders_of_magnitude_is_lowered_however_much_chance_does() -> None:
    """At a rate that is too large the losses of three seeds are 0.8, 3 and 60: no loss is 59 below 3."""

    def trial(*losses: float) -> Trial:
        return Trial("", "", Diagnosis((Finding("healthy", "", "", "", ()),), "", ()), 0.0, losses)

    as_is = trial(1.4, 3.0)
    assert effect(trial(1.4, 0.004), as_is, 59.2) == "nothing"
    assert effect(trial(1.4, 0.004), as_is, 59.2, 0.8 / 60) == "lowers"
    assert effect(trial(1.4, 0.3), as_is, 59.2, 0.8 / 60) == "nothing"
    fitted = trial(1.4, 1e-4)
    assert effect(trial(1.4, 1e-6), fitted, 0.014, 0.5) == "nothing"  # next to nothing is left of both


def test_a_flat_loss_is_told_and_no_rate_advised() -> None:
    def flat(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0 * output.sum() + 1

    steps = Steps(Batch.of((X, Y)), flat, steppers_of(torch.optim.SGD, None), 10)
    test = rate_test(make, make, steps, torch.optim.SGD)
    assert test is not None
    told = "no rate from 1e-06 to 1e+02 lowers the loss, which does not diverge up to 1e+02 (3 seeds)"
    assert test.told == f"range test: {told}"
    assert test.way == ""
    finding = Finding("does not learn", "", "", f"another learning rate; {FIND_RATE}; look at labels", ())
    assert with_rate([finding], test, None)[0].remedy == "another learning rate; look at labels"


def curve(steepest: float) -> LrRange:
    rates = np.geomspace(1e-6, 10, 60)
    losses = np.where(rates < steepest, 2.0, 1.0)[None]
    return LrRange("Adam", rates, np.full((1, 6), 2.0), losses, losses, np.array([math.nan]), 1, 16, ())


@pytest.mark.parametrize(
    ("own", "verdict", "remedy", "begins"),
    [
        (1.0, "overshooting", LOWER + "; warm-up", "a lower learning rate, 0.00"),
        (1e-6, "does not fit one batch", "look at the loss", "a higher learning rate, 0.00"),
        (1.0, "learning rate too small", HIGHER, HIGHER),  # it says the opposite: a fact, no advice
        (1e-3, "learning rate too large", LOWER + "; warm-up", LOWER + "; warm-up"),  # it is near already
        (1.0, "vanishing", "a norm after each layer", "a norm after each layer"),
    ],
)
def test_advice_has_the_rate_where_it_agrees(own: float, verdict: str, remedy: str, begins: str) -> None:
    record = curve(1e-3)
    test = RateTest(own, f"range test: {record.sentence}", record)
    found = with_rate([Finding(verdict, "", "", remedy, ())], test, None)[0].remedy
    assert found.startswith(begins)
    assert ("range test" in found) == (begins not in (remedy, HIGHER))
    tried = Trial(
        "lr of a range test", "learning rate 0.001 of a range test", None, 0.0, (2.0, 2.0), "nothing"
    )
    assert with_rate([Finding(verdict, "", "", remedy, ())], test, tried)[0].remedy == remedy


def test_a_range_test_that_takes_too_long_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscape.measure.check.rate.affordable", lambda twin, steps, count: (steps, 0.5))
    told = checked(3.0).facts[-1]
    assert told == f"no range test was made: a range test of 77 steps takes 38 s; {FIND_RATE}"
    assert FIND_RATE in checked(3.0).diagnosis.findings[0].remedy


def test_a_module_its_optimizer_and_all_else_are_left_bit_for_bit_as_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 4))
    model[1].eval()
    optimizer = torch.optim.Adam(
        [{"params": model[:2].parameters(), "lr": 1e-8}, {"params": model[3].parameters()}], lr=1e-7
    )
    cross_entropy(model(X), Y).backward()
    optimizer.step()
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    model[3].weight.register_hook(lambda _: calls.append(2))
    flow = gs.watch(model, optimizer)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters()]
    hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    of_steps = dict(optimizer._optimizer_step_pre_hooks), dict(optimizer._optimizer_step_post_hooks)
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    x, y = X.clone(), Y.clone()
    record = gs.check(model, (x, y), cross_entropy, optimizer, seeds=1, fit=5, remedies=False)
    assert any(fact.startswith("range test") for fact in record.facts)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(
        p.grad is held and torch.equal(held, g)
        for p, (held, g) in zip(model.parameters(), gradients, strict=True)
    )
    assert str(optimizer.state_dict()) == str(state)
    assert hooks == [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    assert of_steps == (dict(optimizer._optimizer_step_pre_hooks), dict(optimizer._optimizer_step_post_hooks))
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random[0], torch.get_rng_state())
    assert np.array_equal(random[1], np.random.get_state()[1])
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert len(flow.history().steps) == 0
    assert 2 not in calls
