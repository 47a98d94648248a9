"""Verdicts on trainings in which a fault was put for real: the kind, the layer, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.diagnose.diagnose import Limits
from gradscape.records.diagnosis import VERDICTS, Diagnosis


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(64) % 4
    return torch.randn(64, 16, generator=generator) + 2 * nn.functional.one_hot(y, 16), y


def deep(depth: int, activation: Callable[[], nn.Module], gain: float = 1.0) -> nn.Sequential:
    """Layers of 16 units; weights of variance gain²·2/16, which keeps ReLU's signals at gain 1."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(16, 16)
        nn.init.normal_(linear.weight, std=gain * math.sqrt(2 / 16))
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(16, 4))


def after_training(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 20, **limits: float
) -> Diagnosis:
    x, y = batch()
    with gs.watch(model, optimizer) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    return gs.diagnose(flow, Limits(**limits) if limits else None)  # type: ignore[arg-type]


def sgd(model: nn.Module, lr: float = 0.02) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def adam(model: nn.Module, lr: float = 0.001) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def test_a_network_that_trains_is_healthy() -> None:
    model = deep(3, nn.ReLU)
    found = after_training(model, sgd(model))
    assert found.verdict == "too early to tell"
    assert found.layer == ""
    model = deep(3, nn.ReLU)
    assert after_training(model, adam(model)).verdict == "too early to tell"


def test_sigmoids_without_a_norm_vanish_and_the_layer_is_named() -> None:
    model = deep(12, nn.Sigmoid, gain=0.5)
    found = after_training(model, adam(model))
    assert found.verdict == "vanishing"
    place = int(found.layer.split(".")[0])
    gradient = {name: p.grad for name, p in model.named_parameters()}
    assert gradient[found.layer].square().mean().sqrt() < 1e-8 / 9 * 2  # a tenth of the step is left at most
    assert 0 < place < 20
    assert "Adam divides by √v + ε" in found.findings[0].cause
    assert found.findings[0].evidence[0].value > 1e3


def test_a_small_epsilon_cures_what_an_epsilon_hid() -> None:
    model = deep(12, nn.Sigmoid, gain=0.5)
    cured = torch.optim.Adam(model.parameters(), eps=1e-30)
    assert after_training(model, cured).verdict != "vanishing"


def test_first_layers_whose_steps_change_nothing_of_the_loss_vanish_though_they_move() -> None:
    model = deep(4, nn.Sigmoid, gain=0.5)
    found = after_training(model, sgd(model, lr=0.1))
    assert found.verdict == "vanishing"
    assert found.layer == "4.weight"
    gain, share = found.findings[0].evidence
    assert gain.value < 3e-5
    assert share.value < 1e-3
    assert found.findings[0].cause.startswith("up to here the steps change next to nothing of the loss")


def test_the_gain_is_the_most_that_a_step_can_change_the_loss() -> None:
    model = deep(2, nn.Sigmoid)
    (gradient,) = torch.autograd.grad(cross_entropy(model(batch()[0]), batch()[1]), model[0].weight)
    found = after_training(model, sgd(model, lr=0.01), steps=1)
    assert found.verdict == "learning rate too small"
    (gain,) = found.findings[0].evidence
    assert gain.value == pytest.approx(0.01 * gradient.square().sum().item(), rel=1e-4)


def test_a_training_that_has_converged_is_not_said_to_vanish_or_to_be_too_slow() -> None:
    model = deep(3, nn.ReLU)
    assert after_training(model, sgd(model, lr=0.5), steps=300).verdict == "healthy"


def test_weights_too_large_explode() -> None:
    model = deep(12, lambda: nn.LeakyReLU(0.9), gain=4.0)
    found = after_training(model, sgd(model, lr=1e-12))
    assert found.verdict == "exploding"
    assert found.layer == "0.weight" or found.layer.endswith(".weight")
    assert "signals grow on their way forward" in found.findings[0].cause


def test_a_network_whose_gradients_are_uniformly_small_is_below_the_reach() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = deep(3, nn.ReLU)

        def forward(self, x: Tensor) -> Tensor:
            return 1e-12 * self.inner(x)

    model = Small()
    found = after_training(model, adam(model))
    assert found.verdict == "below the optimizer's reach"


def test_dead_units_are_a_frozen_layer_where_the_gradient_ends() -> None:
    model = deep(4, nn.ReLU)
    nn.init.constant_(model[4].bias, -1e3)  # the third layer's units are never active,
    nn.init.constant_(model[6].bias, 0.1)  # those after it are
    found = after_training(model, sgd(model))
    assert found.verdict == "frozen layer"
    assert found.layer == "4.weight"
    assert "dead units" in found.findings[0].cause


def test_units_that_die_on_the_way_are_found_once_they_are_dead_for_most_of_what_is_looked_at() -> None:
    model = deep(4, nn.ReLU)
    x, y = batch()
    optimizer = sgd(model)
    verdicts = {}
    with gs.watch(model, optimizer) as flow:
        for step in range(1, 21):
            if step == 9:
                nn.init.constant_(model[4].bias, -1e3)
                nn.init.constant_(model[6].bias, 0.1)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
            verdicts[step] = gs.diagnose(flow)
    assert [verdicts[step].verdict for step in (8, 15, 17, 20)] == ["too early to tell"] * 2 + [
        "frozen layer"
    ] * 2
    assert verdicts[20].layer == "4.weight"


def test_layers_that_are_skipped_at_random_are_not_frozen() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList(nn.Linear(16, 16) for _ in range(3)), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + (layer(x) if torch.rand(()) < 0.3 else 0 * layer(x))
            out: Tensor = self.head(x)
            return out

    torch.manual_seed(0)
    model = Skipping()
    found = after_training(model, sgd(model), steps=40)
    assert found.verdict == "too early to tell"
    assert np.isfinite([evidence.value for evidence in found.findings[0].evidence]).all()


def test_where_no_layer_has_a_gradient_in_most_steps_none_is_compared() -> None:
    model, x = nn.Linear(16, 4), batch()[0]
    optimizer = sgd(model)
    with gs.watch(model, optimizer) as flow:
        for step in range(12):
            optimizer.zero_grad()
            (model(x).square().mean() * (step % 3 == 2)).backward()
            optimizer.step()
    found = gs.diagnose(flow)
    assert found.verdict == "healthy"
    assert [evidence.counts for evidence in found.findings[0].evidence] == [False, False]


def test_a_layer_that_takes_no_part_is_noted_and_the_rest_is_healthy() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            out: Tensor = self.head(self.used(x))
            return out

    model = Unused()
    found = after_training(model, sgd(model))
    assert found.verdict == "too early to tell"
    assert found.notes == (
        "no gradient was ever there for unused.weight: unused, or cut off from the loss by a detach()",
    )


def test_a_non_finite_gradient_begins_nearest_to_the_output() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * (x > 0)).sqrt()  # whose gradient at 0 is infinite, times 0

    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), Root(), nn.Linear(16, 4))
    found = after_training(model, sgd(model, lr=0.0))
    assert found.verdict == "non-finite"
    assert found.layer == "2.weight"


def test_gradients_that_were_never_finite_were_there() -> None:
    class Distance(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x).square().sum(1, keepdim=True).sqrt() + x  # finite, with a derivative that is not

    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4), Distance())
    found = after_training(model, sgd(model, lr=0.0))
    assert (found.verdict, found.layer) == ("non-finite", "2.weight")
    assert "its derivative" in found.findings[0].cause
    assert found.notes == ()


def test_gradients_that_steps_have_made_large_do_not_explode() -> None:
    model = deep(2, nn.ReLU)
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 1e4}, {"params": model[2:].parameters()}], lr=1e-3
    )
    found = after_training(model, optimizer, steps=4)
    verdicts = [finding.verdict for finding in found.findings]
    assert verdicts[0] == "learning rate too large"
    assert "exploding" not in verdicts


def test_steps_that_leave_no_finite_ratio_are_infinite() -> None:
    model = deep(2, nn.ReLU).double()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e200)
    with gs.watch(model, optimizer) as flow:
        for _ in range(4):
            optimizer.zero_grad()
            cross_entropy(model(x.double()), y).backward()
            optimizer.step()
    told = str(gs.diagnose(flow))
    assert "largest step" in told
    assert "1.8e+308" not in told


@pytest.mark.parametrize(
    ("lr", "verdict"), [(30.0, "learning rate too large"), (1e-9, "learning rate too small")]
)
def test_steps_are_held_against_the_weights(lr: float, verdict: str) -> None:
    model = deep(2, nn.ReLU)
    found = after_training(model, adam(model, lr=lr))
    assert verdict in [finding.verdict for finding in found.findings]


def test_labels_that_do_not_fit_are_noise() -> None:
    torch.manual_seed(0)
    model = deep(2, nn.ReLU)
    optimizer = sgd(model)
    with gs.watch(model, optimizer) as flow:
        for _ in range(20):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(64, 16)), torch.randint(0, 4, (64,))).backward()
            optimizer.step()
    history = flow.history()
    assert abs(history.agreement[1:, 0].mean()) < 0.3


def test_limits_are_arguments_and_evidence_names_its_source() -> None:
    model = deep(3, nn.ReLU)
    found = after_training(model, sgd(model), span=0.01)
    assert found.verdict == "exploding"
    assert found.findings[0].evidence[0].limit == 0.01
    for finding in found.findings:
        assert finding.verdict in VERDICTS
        assert all(evidence.source for evidence in finding.evidence)
    assert found.to_dict()["verdict"] == "exploding"
    assert str(found).startswith("exploding, beginning at")


def test_nothing_watched_is_refused() -> None:
    model = deep(1, nn.ReLU)
    with pytest.raises(ConfigError, match="no step has been watched yet: train a few steps"):
        gs.diagnose(gs.watch(model, sgd(model)))


def test_a_training_that_is_nan_from_its_first_step_is_non_finite() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.full((3, 4), float("nan"))).sum().backward()
        optimizer.step()
    assert [finding.verdict for finding in gs.diagnose(flow).findings] == ["non-finite"]


def test_a_step_size_that_is_nothing_asks_for_a_higher_learning_rate() -> None:
    diagnosis = after_training(model := deep(3, nn.ReLU), sgd(model, 1e-9))
    assert diagnosis.verdict == "below the optimizer's reach"
    assert diagnosis.layer == ""
    assert diagnosis.findings[0].remedy.startswith("a higher learning rate")


def test_something_else_than_a_watch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"got int; give what gs\.watch returned"):
        gs.diagnose(3)


def test_limits_of_another_form_are_refused_in_a_line() -> None:
    model = nn.Linear(6, 3)
    with gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        pass
    with pytest.raises(ConfigError, match=r"limits: expected gs.Limits; got \{'large': 2\}; type gs"):
        gs.diagnose(flow, {"large": 2})  # type: ignore[arg-type]
