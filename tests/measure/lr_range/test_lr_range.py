"""The range test against an exact recurrence, and models that are left as found."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.lr_range.lr_range import lr_range
from gradscape.records.lr_range import LrRange

GRID = np.geomspace(1e-7, 10, 100)
DOT = torch.zeros(1)


class Parabola(nn.Module):
    """Output Σ ½ λ θ², whatever the input; SGD is stable on it below a rate of 2 / λ."""

    def __init__(self, *curvatures: float) -> None:
        super().__init__()
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)
        self.theta = nn.Parameter(torch.ones(len(curvatures), dtype=torch.float64))

    def forward(self, _: Tensor) -> Tensor:
        return 0.5 * (self.curvatures * self.theta.square()).sum()


def itself(output: Tensor) -> Tensor:
    return output


def recurrence(curvature: float, rates: np.ndarray, momentum: float = 0.0) -> tuple[list[float], int | None]:
    """Losses of gradient descent with these rates, and the place where it counts as diverged."""
    theta, velocity, beta = 1.0, 0.0, 1 - 10 / len(rates)
    seen = [0.5 * curvature] * (len(rates) // 10)
    found, means = [], [seen[0]]
    for place, rate in enumerate(rates):
        found.append(0.5 * curvature * theta**2)
        seen.append(found[-1])
        weights = beta ** np.arange(len(seen))[::-1]
        means.append(float(weights @ np.array(seen) / weights.sum()))
        if means[-1] > 4 * min(means):
            return found, place
        velocity = momentum * velocity + curvature * theta
        theta -= rate * velocity
    return found, None


def steepest(losses: list[float], rates: np.ndarray) -> float:
    """Rate in the middle of the eleven whose losses fall fastest."""
    slopes = [np.polyfit(range(11), losses[i : i + 11], 1)[0] for i in range(len(losses) - 10)]
    return float(rates[int(np.argmin(slopes)) + 5])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("curvature", [5.0, 30.0, 1e4])
def test_on_a_parabola_all_is_as_the_recurrence_has_it(curvature: float, momentum: float) -> None:
    make = partial(torch.optim.SGD, lr=1.0, momentum=momentum)
    found = gs.lr_range(Parabola(curvature), DOT, itself, make, seeds=1)
    losses, end = recurrence(curvature, GRID, momentum)
    assert end is not None
    assert np.allclose(found.rates, GRID, rtol=1e-12)
    assert np.allclose(found.losses[0, : end + 1], losses, rtol=1e-6, atol=1e-200)
    assert np.isnan(found.losses[0, end + 1 :]).all()
    assert found.diverges == found.rates[end]
    assert found.steepest[0] == pytest.approx(steepest(losses, GRID), rel=1e-12)
    assert found.falls.tolist() == [True]
    assert found.level[0] == pytest.approx(curvature / 2)
    assert found.noise == 0


@given(st.floats(0.1, 1e6), st.floats(1, 100), st.integers(10, 60))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_what_it_suggests_is_stable_and_below_what_diverges(
    curvature: float, least: float, steps: int
) -> None:
    found = lr_range(Parabola(curvature, curvature / least), DOT, itself, steps=steps, seeds=1)
    edge = 2 / curvature
    if not math.isnan(found.diverges):
        assert found.diverges > edge
        assert found.suggestion < found.diverges
    assert found.rates[0] <= found.suggestion < min(edge, found.rates[-1])


@pytest.mark.parametrize("curvature", 10.0 ** np.arange(1, 6))
def test_a_tenth_of_the_rate_that_is_seen_to_diverge_does_not(curvature: float) -> None:
    found = gs.lr_range(Parabola(*np.linspace(curvature / 100, curvature, 20)), DOT, itself, seeds=1)
    assert 0.1 * found.diverges < 2 / curvature < found.diverges


def test_a_range_that_ends_below_the_edge_does_not_diverge() -> None:
    found = gs.lr_range(Parabola(1.0), DOT, itself, rates=(1e-5, 1.9))
    assert math.isnan(found.diverges)
    assert np.isnan(found.divergence).all()
    assert "does not diverge up to 1.9; take" in found.heading
    assert "every seed is the same: there is one batch, and nothing is drawn" in found.notes


def test_a_curvature_ten_times_as_large_has_rates_a_tenth_as_large() -> None:
    one, ten = (
        gs.lr_range(Parabola(curvature), DOT, itself, rates=(1.3e-4, 1.3e4), steps=81, seeds=1)
        for curvature in (1.0, 10.0)
    )
    for name in ("suggestion", "diverges"):
        assert getattr(one, name) == pytest.approx(10 * getattr(ten, name), rel=1e-9)


def test_a_loss_whose_best_is_below_zero_is_no_divergence() -> None:
    found = gs.lr_range(Parabola(1.0), DOT, lambda output: output - 0.3, rates=(1e-5, 1.9))
    assert math.isnan(found.diverges)
    assert not found.flat


def samples(count: int = 96, classes: int = 4) -> tuple[Tensor, Tensor]:
    y = torch.arange(count) % classes
    x = torch.randn(count, 12, generator=torch.Generator().manual_seed(0))
    return x + 2 * nn.functional.one_hot(y, 12), y


def batches(size: int = 16) -> list[tuple[Tensor, Tensor]]:
    x, y = samples()
    return list(zip(x.split(size), y.split(size), strict=True))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


def test_the_same_seeds_give_the_same_numbers_whatever_was_drawn_before() -> None:
    first = gs.lr_range(network, batches(), cross_entropy, steps=40)
    torch.rand(7), np.random.random(), random.random()
    again = gs.lr_range(network, batches(), cross_entropy, steps=40)
    assert first == again
    assert first.to_dict() == again.to_dict()
    fewer = gs.lr_range(network, batches(), cross_entropy, steps=40, seeds=1)
    assert np.array_equal(fewer.losses[0], first.losses[0], equal_nan=True)
    assert not np.array_equal(first.losses[0], first.losses[1])


def test_a_seed_draws_the_order_of_batches_and_each_pass_has_all() -> None:
    means = [torch.full((1, 3), float(place)) for place in range(6)]
    model = nn.Linear(3, 1, bias=False)
    found = gs.lr_range(
        model, means, lambda output: 0 * output.sum() + output.detach().sum(), steps=60, seeds=2
    )
    scale = model.weight.sum().item()
    for untrained, losses in zip(found.untrained, found.losses, strict=True):
        drawn = np.round(np.concatenate([untrained, losses]) / scale).astype(int).reshape(-1, 6)
        assert all(sorted(each) == list(range(6)) for each in drawn.tolist())
        assert len({tuple(each) for each in drawn.tolist()}) > 3
    assert not np.array_equal(found.untrained[0], found.untrained[1])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_model_optimizer_and_random_numbers_are_left_as_found(kind: Callable[..., Any]) -> None:
    model = network()
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: None)
    model[0].weight.register_hook(lambda gradient: seen.append(1))
    optimizer = kind(model.parameters(), lr=0.01)
    for x, y in batches()[:2]:
        cross_entropy(model(x), y).backward()
        optimizer.step()
    model[1].eval()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    before, held = (
        copy.deepcopy(model.state_dict()),
        [(p, p.grad, p.grad.clone()) for p in model.parameters()],
    )
    settings_before = copy.deepcopy(optimizer.state_dict())
    modes, calls = [module.training for module in model.modules()], len(seen)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    found = gs.lr_range(model, batches(), cross_entropy, optimizer, steps=20)
    assert not np.array_equal(found.losses[0], found.losses[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for parameter, (same, gradient, values) in zip(model.parameters(), held, strict=True):
        assert parameter is same
        assert parameter.grad is gradient
        assert torch.equal(gradient, values)
    after = optimizer.state_dict()
    assert after["param_groups"] == settings_before["param_groups"]
    assert after["state"].keys() == settings_before["state"].keys()
    for place, state in settings_before["state"].items():
        for name, value in state.items():
            same_state = after["state"][place][name]
            assert torch.equal(same_state, value) if isinstance(value, Tensor) else same_state == value
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert len(seen) == calls
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]


def test_a_watch_of_the_model_does_not_notice_it() -> None:
    model = plain()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, every=1, activations=True) as flow:
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(samples()[0]), samples()[1]).backward()
            gs.lr_range(model, batches(), cross_entropy, optimizer, steps=10, seeds=1)
            optimizer.step()
    assert flow.history().steps.tolist() == [0, 1]


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, y: cross_entropy(output.detach(), y) + 0 * output.sum(),  # nothing is learned
        lambda output, y: cross_entropy(output, y) + 1e4,  # it falls by less than a thousandth
    ],
)
def test_a_loss_that_no_rate_lowers_is_flat(loss: Any) -> None:
    found = gs.lr_range(plain, batches(), loss, steps=50, rates=(1e-6, 0.01))
    assert found.flat
    assert math.isnan(found.suggestion)
    assert np.isnan(found.steepest).all()
    assert str(found).startswith("no rate lowers the loss; does not diverge up to 0.01\n")
    assert "nor does any diverge: give higher ones, rates=(1e-06, 10); gradscape.check" in str(found)


def test_a_flat_loss_that_diverges_is_not_for_the_rate() -> None:
    def uphill(output: Tensor) -> Tensor:
        return 2 * output.detach() - output  # its gradient points the wrong way

    found = gs.lr_range(Parabola(1.0), DOT, uphill)
    assert found.flat
    assert found.diverges > 0
    assert "more steps may, steps=300; if not, it is not for the rate: gradscape.check says why" in str(found)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_before_the_first_step_is_said(value: float) -> None:
    message = f"loss: got {value:g} before the first step, which no rate can lower; look at inputs, loss"
    with pytest.raises(ConfigError, match=message):
        gs.lr_range(plain, batches(), lambda output, y: value * output.sum().exp())


def test_a_batch_whose_loss_is_nan_is_said_if_it_is_the_first_that_a_step_is_made_of() -> None:
    batches = iter([*[torch.ones(1)] * 5, torch.tensor([math.nan])] * 10)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch) + next(batches).sum()

    with pytest.raises(ConfigError, match="loss: got nan before the first step"):
        gs.lr_range(Parabola(1.0), DOT, loss, steps=10)


def test_a_loss_that_becomes_nan_has_diverged_there() -> None:
    found = gs.lr_range(
        Parabola(1.0), DOT, lambda output: torch.where(output < 0.4, math.nan, output), seeds=1
    )
    place = int(np.flatnonzero(np.isnan(found.losses[0]))[0])
    assert found.losses[0, place - 1] >= 0.4
    assert found.diverges == found.rates[place]
    assert found.to_dict()["losses"][0][place] == "NaN"


def test_a_range_beyond_the_edge_says_where_to_begin() -> None:
    found = gs.lr_range(Parabola(1.0), DOT, itself, rates=(50, 1000))
    assert math.isnan(found.suggestion)
    assert "the range begins too high: give rates=(0.05, 1e+03)" in str(found)
    low = gs.lr_range(Parabola(1.0), DOT, itself, rates=(1e-7, 3e-3))
    assert "the range ends too low: give rates=(1e-07, 3)" in str(low)


def test_a_loader_is_asked_for_as_many_batches_as_there_are_steps() -> None:
    loader = DataLoader(TensorDataset(*samples()), batch_size=4, shuffle=True)
    found = gs.lr_range(plain, loader, cross_entropy, steps=20, seeds=1)
    assert found.batches == 20
    assert found.samples == 80
    assert "20 batches of one pass of the loader, in the order it drew then" in found.notes


def test_notes_say_what_the_mode_of_a_model_means() -> None:
    found = gs.lr_range(network, batches(), cross_entropy, steps=10, seeds=1)
    assert found.notes == (
        "BatchNorm takes each batch's statistics; running ones change in the copies alone",
        "dropout is on, and part of the noise",
    )
    still = gs.lr_range(network().eval(), batches(), cross_entropy, steps=10, seeds=1)
    assert still.notes == (
        "trained in eval mode, as the model was found: call model.train() before, as a loop does",
    )


def test_a_loss_that_reads_the_model_reads_the_copy() -> None:
    model = Parabola(1.0)
    decayed = gs.lr_range(model, DOT, lambda output: output + 0.5 * model.theta.square(), seeds=1)
    losses, end = recurrence(2.0, GRID)
    assert end is not None
    assert np.allclose(decayed.losses[0, : end + 1], losses, rtol=1e-6, atol=1e-200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rates": (10, 1e-7)}, r"rates: expected two increasing numbers above 0 .*; got \(10, 1e-07\)"),
        ({"rates": (0, 1)}, r"rates: expected two increasing numbers above 0 such as \(1e-7, 10\)"),
        ({"rates": (1e-3, math.inf)}, "rates: expected two increasing numbers"),
        ({"rates": (1e-3,)}, "rates: expected two increasing numbers"),
        ({"rates": 0.1}, "rates: expected a list; got 0.1"),
        ({"steps": 9}, "steps: expected 10 or more, such as 100; got 9"),
        ({"steps": 10**6}, "steps: expected at most 10,000"),
        ({"seeds": 0}, "seeds: expected 1 or more; got 0"),
        ({"make_model": nn.ReLU}, "make_model: ReLU has no parameter to train"),
        ({"make_model": lambda: 3}, "expected a torch Module from"),
        ({"make_model": lambda: nn.LazyLinear(3)}, "has no shape yet: call the model on a batch once"),
        ({"batches": []}, "batches: there is none; give one at least"),
        ({"batches": (torch.ones(4, 5), torch.zeros(4).long())}, r"0 \(Linear\) was given .* and wants"),
        ({"loss": lambda output, y: output}, "must be a tensor of one number"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer: LBFGS fails: TypeError: .*closure"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: dict[str, Any], message: str) -> None:
    right = {"make_model": plain, "batches": batches(), "loss": cross_entropy, "steps": 10, "seeds": 1}
    with pytest.raises(ConfigError, match=message) as error:
        gs.lr_range(**{**right, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("make", [torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9), torch.optim.Adam])
def test_the_suggestion_trains_about_as_well_as_the_best_of_a_grid(make: Any) -> None:
    def trained(rate: float) -> float:
        torch.manual_seed(9)
        model = plain()
        optimizer = make(model.parameters(), lr=rate)
        losses = []
        for _ in range(30):
            for x, y in batches():
                optimizer.zero_grad()
                value = cross_entropy(model(x), y)
                value.backward()
                optimizer.step()
                losses.append(value.item())
        return float(np.mean(losses[-20:]))

    start = float(np.log(4))
    found: LrRange = gs.lr_range(plain, batches(), cross_entropy, make)
    best = min(trained(rate) for rate in 10.0 ** np.arange(-4, 1))
    assert start - trained(found.suggestion) > 0.9 * (start - best)
