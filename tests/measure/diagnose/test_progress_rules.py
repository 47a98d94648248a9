"""A loss that is still high: too early, at rest, or held there by steps, frozen weights or sigmoids."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_term
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.records.diagnosis import Diagnosis, Finding

FEATURES, CLASSES = 8, 4


def batches(steps: int, learnable: bool = True) -> list[tuple[Tensor, Tensor]]:
    """Mini-batches of 32 whose classes are those of a random linear map, or of nothing."""
    draw = torch.Generator().manual_seed(1)
    teacher = torch.randn(FEATURES, CLASSES, generator=draw)
    found = []
    for _ in range(steps):
        x = torch.randn(32, FEATURES, generator=draw)
        guess = torch.randint(0, CLASSES, (32,), generator=draw)
        found.append((x, (x @ teacher).argmax(1) if learnable else guess))
    return found


def net(activation: Callable[[], nn.Module] = nn.ReLU, layers: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    hidden: list[nn.Module] = []
    for place in range(layers):
        hidden += [nn.Linear(16 if place else FEATURES, 16), activation()]
    return nn.Sequential(*hidden, nn.Linear(16, CLASSES))


def trained(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, learnable: bool = True, **watch: bool
) -> Diagnosis:
    with gs.watch(model, optimizer, **watch) as flow:  # type: ignore[arg-type]
        for x, y in batches(steps, learnable):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    return gs.diagnose(flow)


def of(diagnosis: Diagnosis, verdict: str) -> Finding | None:
    return next((each for each in diagnosis.findings if each.verdict == verdict), None)


def test_a_few_steps_are_too_early_and_many_are_healthy() -> None:
    model = net()
    found = trained(model, torch.optim.Adam(model.parameters(), lr=0.003), 20)
    assert (found.verdict, found.grade) == ("too early to tell", "warn")
    assert "after 20 steps the loss is" in found.findings[0].cause
    model = net()
    assert trained(model, torch.optim.Adam(model.parameters(), lr=0.01), 200).grade == "info"


def test_a_loss_that_falls_and_is_no_better_than_guessing_is_not_healthy() -> None:
    model = net()
    with torch.no_grad():
        model[-1].bias.copy_(torch.tensor([2.0, 0.0, 0.0, -2.0]))  # type: ignore[union-attr, operator]
    found = trained(model, torch.optim.SGD(model.parameters(), lr=0.02), 75, learnable=False)
    assert (found.verdict, found.grade) == ("too early to tell", "warn")
    (symptom,) = found.findings[0].evidence
    assert symptom.what == "late losses over guessing's"
    assert symptom.value > symptom.limit == LossLimits().guessing


def test_small_steps_are_named_while_the_loss_is_high() -> None:
    model = net()
    found = of(trained(model, torch.optim.Adam(model.parameters(), lr=2e-5), 120), "learning rate too small")
    assert found is not None
    assert found.evidence[0].value < found.evidence[0].limit


def test_steps_that_replaced_the_weights_are_the_cause_of_what_is_dead_since() -> None:
    model = net(layers=4)
    found = trained(model, torch.optim.Adam(model.parameters(), lr=3.0), 110, activations=True)
    assert found.verdict == "learning rate too large"
    assert {each.verdict for each in found.findings} <= {
        "learning rate too large", "loss does not fall", "loss diverges", "loss spikes"
    }  # fmt: skip


@pytest.mark.slow
def test_large_steps_that_stay_at_guessing_are_too_large() -> None:
    for lr, large in ((0.1, True), (0.001, False)):
        model = net(lambda: nn.Sequential(nn.LeakyReLU(), nn.LayerNorm(16)), layers=3)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        found = of(trained(model, optimizer, 110, learnable=False), "learning rate too large")
        assert (found is not None) == large
        assert found is None or found.evidence[0].counts


def test_frozen_weights_are_named_where_the_loss_stays_high_alone() -> None:
    verdicts = {}
    for lr in (0.0005, 0.02):
        model = net()
        model[0].requires_grad_(False)
        diagnosis = trained(model, torch.optim.Adam(model[2:].parameters(), lr=lr), 150)
        verdicts[lr] = of(diagnosis, "frozen parameters")
    found = verdicts[0.0005]
    assert found is not None
    assert (found.grade, found.layer) == ("warn", "0.weight")
    assert "0.weight, 0.bias require no gradient" in found.cause
    assert verdicts[0.02] is None  # the others have learned enough


@pytest.mark.parametrize("activations", [pytest.param(False, marks=pytest.mark.slow), True])
def test_sigmoids_between_layers_are_named_and_not_one_after_the_last(activations: bool) -> None:
    model = net(nn.Sigmoid)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    found = of(trained(model, optimizer, 120, activations=activations), "sigmoids between layers")
    assert found is not None
    assert found.evidence[0].value < 0.5
    model = net(nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0001)
    assert of(trained(model, optimizer, 120), "sigmoids between layers") is None


def test_sigmoids_that_hold_a_loss_at_guessing_are_the_cause() -> None:
    model = net(nn.Sigmoid, layers=5)
    found = trained(model, torch.optim.Adam(model.parameters(), lr=0.001), 250, activations=True)
    assert [each.verdict for each in found.findings if each.grade == "fail"] == ["sigmoids between layers"]


class Smoothed(nn.Module):
    """Layers that move each sample toward the mean of all, as graph convolutions do."""

    def __init__(self, share: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.share, self.enter, self.head = share, nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for layer in self.layers:
            h = torch.relu(layer(self.share * h.mean(0) + (1 - self.share) * h))
        out: Tensor = self.head(h)
        return out


@pytest.mark.slow
def test_samples_that_have_become_the_same_are_told_where_the_loss_stays_at_guessing() -> None:
    for share, learnable in ((0.95, True), (0.0, False)):
        model = Smoothed(share)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        found = of(trained(model, optimizer, 120, learnable, activations=True), "no signal from the input")
        assert (found is not None) == (share > 0)
        assert found is None or found.evidence[0].value < 1e-3


@pytest.mark.parametrize("activations", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_units_that_died_after_large_steps_speak_for_the_learning_rate(activations: bool) -> None:
    model = net()
    found = trained(model, torch.optim.SGD(model.parameters(), lr=20.0), 120, activations=activations)
    assert found.verdict == "learning rate too large"
    assert not {"dead units", "learning rate too small"} & {each.verdict for each in found.findings}
    with torch.no_grad():  # these were dead before any step
        model = net()
        model[0].bias.fill_(-1e3)
    found = trained(model, torch.optim.SGD(model.parameters(), lr=0.1), 120, activations=True)
    assert found.verdict == "dead units"


def curve(values: np.ndarray, classes: int = 4) -> Curve:
    random = np.random.default_rng(0)
    term = made_term(
        "cross_entropy", output=random.normal(size=(64, classes)), target=np.arange(64) % classes
    )
    return Curve(made_history(*[term] * 5, values=values), LossLimits())


def test_what_is_unlearned_is_above_half_of_guessing() -> None:
    flat = np.ones(200)
    assert curve(0.6 * math.log(4) * flat).unlearned
    assert not curve(0.4 * math.log(4) * flat).unlearned
    unknown = Curve(made_history(made_term("unknown"), values=0.9 * flat), LossLimits())
    assert not unknown.unlearned


def test_the_fall_of_the_last_quarter_is_in_units_of_guessing() -> None:
    values = np.repeat([4.0, 3.0, 2.0, 1.0], 50)
    assert curve(values).fall == pytest.approx(1 / math.log(4), rel=0.02)


def test_a_loss_at_rest_above_half_of_guessing_is_told_of() -> None:
    model = net()
    draw = torch.Generator().manual_seed(5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    with gs.watch(model, optimizer) as flow:
        for x, y in batches(240):
            noise = torch.randint(0, CLASSES, (32,), generator=draw)
            labels = torch.where(torch.rand(32, generator=draw) < 0.6, noise, y)
            optimizer.zero_grad()
            cross_entropy(model(x), labels).backward()
            optimizer.step()
    found = of(gs.diagnose(flow), "loss stays high")
    assert found is not None
    assert found.grade == "warn"
    assert "it hardly falls any more" in found.cause


def test_a_single_layer_whose_loss_fell_to_a_tenth_works_whatever_its_first_step_was() -> None:
    torch.manual_seed(0)
    x = torch.randn(100, 2)
    y = x @ torch.tensor([[10.0], [-10.0]])
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with gs.watch(model, optimizer) as flow:
        for _ in range(12):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
    found = of(gs.diagnose(flow), "learning rate too large")
    assert found is not None
    assert found.grade == "warn"


def test_a_loss_that_never_left_guessing_is_none_on_its_way_down() -> None:
    noise = 0.02 * np.random.default_rng(2).normal(size=60)
    guess = math.log(4)
    assert curve(guess + noise).never_fell
    assert not curve(guess + noise[:40]).never_fell  # too early
    assert not curve(3 * guess + noise).never_fell  # far above: it may be on its way
    assert not curve(np.linspace(1.1, 1.0, 60) * guess + noise).never_fell


def test_small_steps_are_a_fault_after_fifty_steps_that_lowered_nothing() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-6)
    found = trained(model, optimizer, 60, learnable=False)
    assert (found.verdict, found.grade) == ("learning rate too small", "fail")
