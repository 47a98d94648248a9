"""Smoothness against closed forms and steps made by hand in float64, and everything left as found."""

from __future__ import annotations

import copy
import inspect
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adam, AdamW, Optimizer

from gradscape.errors import ConfigError
from gradscape.measure.smoothness.smoothness import smoothness
from gradscape.measure.watch.watch import watch
from gradscape.nets import Layers, vgg
from gradscape.records.smoothness import Line, SmoothnessRecord
from products import each_once

LR = 0.05
RATES = LR * np.linspace(0.5, 4, 8)
Steps = Callable[[Any], Optimizer]


class Scalar(nn.Module):
    """One weight w, and a function of it, times the mean of what is given."""

    def __init__(self, w: float, function: Callable[[Tensor], Tensor], dtype: Any = torch.float64) -> None:
        super().__init__()
        self.w, self.function = nn.Parameter(torch.tensor(w, dtype=dtype)), function

    def forward(self, x: Tensor) -> Tensor:
        return x.mean() * self.function(self.w)


class Quadratic(nn.Module):
    """½wᵀAw."""

    def __init__(self, seed: int, size: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        root = torch.randn(size, size, dtype=torch.float64)
        self.w = nn.Parameter(torch.randn(size, dtype=torch.float64))
        self.register_buffer("a", root + root.T)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x.mean() * 0.5 * self.w @ self.a @ self.w
        return out


def as_it_is(output: Tensor, *_: Any) -> Tensor:
    return output


ONES = torch.ones(3, dtype=torch.float64)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def conv() -> nn.Module:
    """With BatchNorm and Dropout, in train mode, after some passes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 3, 2)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten()
    )
    model = model.extend([nn.Dropout(0.3), nn.Linear(6, 3)]).double()
    for _ in range(3):
        model(batch()[0])
    return model


def batch(count: int = 24, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64), torch.arange(count) % 3


def begun(model: nn.Module, make: Steps, steps: int = 3) -> Optimizer:
    """An optimiser that has made some steps, so that it has a state."""
    optimizer = make(model.parameters())
    for seed in range(steps):
        x, y = batch(seed=seed)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer


def by_hand(
    model: nn.Module, direction: Sequence[Tensor], x: Tensor, y: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, changes of the gradient and distances at θ − ηd, by a copy of the model."""

    def gradient(rate: float) -> tuple[float, Tensor]:
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, d in zip(moved.parameters(), direction, strict=True):
                parameter -= rate * d
        value = cross_entropy(moved(x), y)
        found = torch.autograd.grad(value, list(moved.parameters()))
        return value.item(), torch.cat([part.flatten() for part in found])

    start = gradient(0)[1]
    found = [gradient(rate) for rate in RATES]
    length = float(torch.cat([d.flatten() for d in direction]).norm())
    changes = [float((there - start).norm()) for _, there in found]
    return np.array([value for value, _ in found]), np.array(changes), length * RATES


def real_step(model: nn.Module, optimizer: Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
    """−Δθ / lr of the step that copies of both make."""
    twin, other = copy.deepcopy((model, optimizer))  # together: the copy trains the copy
    other.zero_grad()
    cross_entropy(twin(x), y).backward()
    other.step()
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    return [(before.detach() - after.detach()) / optimizer.param_groups[0]["lr"] for before, after in pairs]


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters())))


def assert_is(line: Line, expected: Sequence[np.ndarray], rtol: float = 1e-9) -> None:
    for found, wanted in zip((line.losses, line.changes, line.distances), expected, strict=True):
        assert found.shape == (1, 8)
        assert np.allclose(found[0], wanted, rtol=rtol)


@pytest.mark.parametrize("seed", range(3))
def test_a_quadratic_s_is_its_closed_form(seed: int) -> None:
    model = Quadratic(seed)
    a, w = model.a.numpy(), model.w.detach().numpy()
    g = a @ w
    record = smoothness(model, as_it_is, ONES, LR)
    line = record.along_gradient
    losses = np.array([0.5 * (w - rate * g) @ a @ (w - rate * g) for rate in RATES])
    change, length = np.linalg.norm(a @ g), np.linalg.norm(g)
    assert np.allclose(record.rates, RATES, rtol=1e-15)
    assert_is(line, (losses, RATES * change, RATES * length), 1e-11)
    assert record.loss == pytest.approx([0.5 * w @ a @ w])
    assert record.gradient_norm == pytest.approx([length])
    assert record.weight_norm == pytest.approx(np.linalg.norm(w))
    assert np.allclose(line.loss_variation, [[losses.min(), losses.max()]])
    assert np.allclose(line.predictiveness, [[RATES[0] * change, RATES[-1] * change]])
    assert line.beta == pytest.approx([change / length], rel=1e-11)
    expected = np.abs(losses - 0.5 * w @ a @ w) / (RATES * length)
    assert line.lipschitz == pytest.approx([expected.max()], rel=1e-11)
    pull = np.abs(w) * g
    turned = np.abs(w) * (a @ (w**2 * g)) / np.linalg.norm(pull)
    assert record.relative.distances == pytest.approx(np.array([[0.05, 0.4]]))
    assert record.scale_free_beta == pytest.approx([np.linalg.norm(turned)], rel=1e-9)
    assert record.along_step is None
    assert record.lines == (line,)
    assert (record.cost, record.notes) == (11, ())
    assert (record.parameters, record.samples, record.batches) == (5, 3, 1)


def test_least_squares_along_an_eigenvector_has_its_eigenvalue() -> None:
    (x, _), model = batch(20), nn.Linear(6, 1, bias=False).double()
    values, vectors = torch.linalg.eigh(2 * x.T @ x / 20)
    best = torch.randn(1, 6, dtype=torch.float64)
    for value, vector in zip(values, vectors.T, strict=True):
        model.weight.data = best + vector
        line = smoothness(model, mse_loss, (x, x @ best.T), LR).along_gradient
        assert line.beta == pytest.approx([float(value)], rel=1e-9)
        halfway = np.abs(1 - RATES * float(value) / 2).max()
        assert line.lipschitz == pytest.approx([float(value) * halfway], rel=1e-9)


def test_plain_steps_are_the_gradient() -> None:
    model, given = mlp(), batch()
    for own in (LR, 3.0):
        record = smoothness(model, cross_entropy, given, LR, optimizer=SGD(model.parameters(), own))
        step, gradient = record.along_step, record.along_gradient
        assert step is not None
        assert step.along == "SGD's step"
        for name in ("loss", "losses", "changes", "distances"):
            assert np.allclose(getattr(step, name), getattr(gradient, name), rtol=1e-10)
        assert step.beta == pytest.approx(gradient.beta)
    assert_is(gradient, by_hand(model, gradients(model, *given), *given))
    assert record.cost == 19
    again = smoothness(model, cross_entropy, given, optimizer=SGD(model.parameters(), LR))
    assert again.lr == LR
    assert np.array_equal(again.rates, record.rates)


class Slower(SGD):
    """Keeps a setting as an attribute of its own, and a lock, which no copy can have."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)
        self.share, self.lock = 0.5, threading.Lock()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=self.share * group["lr"])


def test_the_step_of_a_user_s_optimizer_has_its_attributes() -> None:
    model = mlp()
    record = smoothness(model, cross_entropy, batch(), optimizer=Slower(model.parameters(), LR))
    assert record.along_step is not None
    assert record.along_step.distances == pytest.approx(0.5 * record.along_gradient.distances, rel=1e-9)


OPTIMIZERS: dict[str, Steps] = {
    "momentum": lambda p: SGD(p, LR, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: SGD(p, LR, momentum=0.9, nesterov=True),
    "Adam": lambda p: Adam(p, LR),
    "AdamW": lambda p: AdamW(p, torch.tensor(LR, dtype=torch.float64), amsgrad=True),
    "fused": lambda p: Adam(p, LR, fused=True),
    "Rprop": lambda p: torch.optim.Rprop(p, LR),
    "RAdam": lambda p: torch.optim.RAdam(p, LR),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_along_the_step_that_is_made_next(name: str, steps: int) -> None:
    model, given = mlp(), batch()
    optimizer = begun(model, OPTIMIZERS[name], steps)
    record = smoothness(model, cross_entropy, given, optimizer=optimizer)
    assert record.along_step is not None
    assert record.lr == pytest.approx(LR)
    # Where the step is, it is found to the rounding of θ, over which Δθ is known by hand.
    assert_is(record.along_step, by_hand(model, real_step(model, optimizer, *given), *given), 1e-7)
    assert_is(record.along_gradient, by_hand(model, gradients(model, *given), *given))


def test_batch_norm_takes_the_batch_s_statistics_or_the_running_ones() -> None:
    model, given = conv(), batch()
    optimizer = begun(model, OPTIMIZERS["Adam"])
    found = {bn: smoothness(model, cross_entropy, given, LR, optimizer=optimizer, bn=bn) for bn in BN}
    model.eval()
    assert_is(found["running"].along_gradient, by_hand(model, gradients(model, *given), *given))
    model[2].train()
    assert_is(found["batch"].along_gradient, by_hand(model, gradients(model, *given), *given))
    step = real_step(model, optimizer, *given)
    assert found["batch"].along_step is not None
    assert_is(found["batch"].along_step, by_hand(model, step, *given), 1e-7)
    assert found["batch"].bn == "batch"


BN: Any = ("batch", "running")


def test_the_step_of_parameters_that_are_not_trained_is_zero() -> None:
    model, given = mlp(), batch()
    foreign = nn.Parameter(torch.ones(2))
    groups = [{"params": [foreign, model[2].weight]}, {"params": model[0].weight, "lr": 0.2}]
    record = smoothness(model, cross_entropy, given, optimizer=SGD(groups, LR))
    assert record.along_step is not None
    g = gradients(model, *given)
    direction = [0.2 / LR * g[0], 0 * g[1], g[2], 0 * g[3]]
    assert_is(record.along_step, by_hand(model, direction, *given))
    assert record.notes == ("SGD's step leaves 0.bias, 2.bias: it does not train them",)
    assert torch.equal(foreign, torch.ones(2))
    assert foreign.grad is None


def test_frozen_parameters_stay_where_they_are() -> None:
    model, given = mlp(), batch()
    optimizer = SGD(model.parameters(), LR)
    free = mlp()
    model[0].requires_grad_(False)
    record = smoothness(model, cross_entropy, given, optimizer=optimizer)
    g = gradients(free, *given)
    direction = [0 * g[0], 0 * g[1], g[2], g[3]]
    losses, _, distances = by_hand(free, direction, *given)
    for line in record.lines:
        assert np.allclose(line.losses[0], losses)
        assert np.allclose(line.distances[0], distances)
    assert record.parameters == 18
    norms = [parameter.detach().norm().item() for parameter in model[2].parameters()]
    assert record.weight_norm == pytest.approx(np.hypot(*norms))
    assert record.notes == ("frozen, held as they are: 0.weight, 0.bias",)


def test_several_batches_are_one_of_all_their_samples() -> None:
    model, (x, y) = mlp(), batch(70)
    optimizer = begun(model, OPTIMIZERS["Adam"])
    parts = [(x[:20], y[:20]), (x[20:], y[20:])]
    for bn in BN:
        whole = smoothness(model, cross_entropy, (x, y), optimizer=optimizer, bn=bn)
        several = smoothness(model, cross_entropy, parts, optimizer=optimizer, bn=bn)
        for one, other in zip(whole.lines, several.lines, strict=True):
            assert_is(other, (one.losses[0], one.changes[0], one.distances[0]))
        assert (several.batches, several.samples, several.cost) == (2, 70, 19)


@pytest.mark.parametrize("bn", BN)
def test_batches_measured_separately_are_rows_of_single_calls(bn: Any) -> None:
    model = conv()
    optimizer = begun(model, OPTIMIZERS["momentum"])
    batches = [batch(12, seed=4), batch(70, seed=5), batch(9, seed=6)]
    record = smoothness(model, cross_entropy, batches, optimizer=optimizer, bn=bn, separately=True)
    for row, each in enumerate(batches):
        one = smoothness(model, cross_entropy, each, optimizer=optimizer, bn=bn)
        assert one.gradient_norm[0] == record.gradient_norm[row]
        for single, line in zip(one.lines, record.lines, strict=True):
            for name in ("loss", "losses", "changes", "distances", "loss_variation", "beta", "lipschitz"):
                assert np.array_equal(getattr(line, name)[row], getattr(single, name)[0])
    assert record.along_gradient.losses.shape == (3, 8)
    assert (record.batches, record.samples, record.cost) == (3, 91, 57)
    assert f"loss {record.loss.mean():.4g}" in str(record)
    assert "; means over each batch's own" in str(record)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 100))
def test_steps_of_weights_before_a_norm_scale_with_their_square(scale: float) -> None:
    """Weights before a BatchNorm times a, with lr times a²: the same network and steps, β over a²."""
    (x, y), records = batch(), []
    for factor in (1.0, scale):
        torch.manual_seed(0)
        layers = nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3, eps=1e-30, affine=False)
        model = nn.Sequential(*layers).double()
        model[0].weight.data *= factor
        records.append(smoothness(model, cross_entropy, (x, y), 0.1 * factor**2))
    one, other = records
    assert np.allclose(other.along_gradient.losses, one.along_gradient.losses, rtol=1e-9)
    assert other.along_gradient.beta == pytest.approx(one.along_gradient.beta / scale**2, rel=1e-6)


def scaled(model: nn.Module, factors: Mapping[str, float]) -> nn.Module:
    """A copy, some of whose tensors are times a factor."""
    twin = copy.deepcopy(model)
    parameters = dict(twin.named_parameters())
    with torch.no_grad():
        for name, factor in factors.items():
            parameters[name] *= factor
    return twin


def same_function(model: nn.Module, twin: nn.Module, x: Tensor, y: Tensor) -> tuple[SmoothnessRecord, ...]:
    one, other = (smoothness(each, cross_entropy, (x, y), LR) for each in (model, twin))
    assert other.loss == pytest.approx(one.loss, rel=1e-9)
    return one, other


@each_once("factor, where", [3.0, 10.0, None], ["blocks", "everywhere"])
def test_weights_before_a_norm_can_be_scaled_without_changing_the_scale_free_beta(
    factor: float | None, where: Any
) -> None:
    """Each by the same, or (None) by one of its own; all others are left, which ‖θ‖² would not notice."""
    model = vgg(blocks=2, classes=10, image_size=8, filters=4, seed=0, layers=Layers(norm="batch"),
                norm_where=where).double()  # fmt: skip
    modules = dict(model.named_modules())
    factors = {}
    for name, module in modules.items():
        norm = modules.get(name.replace("conv", "norm"))
        if isinstance(module, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-30
            factors[f"{name}.weight"] = factor or 1.5 ** (len(factors) % 7 - 3)
    assert len(factors) > 5
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, 8, 8, dtype=torch.float64), torch.arange(20) % 10
    one, other = same_function(model, scaled(model, factors), x, y)
    for name in ("losses", "changes", "distances"):
        found, wanted = getattr(other.relative, name), getattr(one.relative, name)
        assert np.allclose(found, wanted, rtol=1e-6)
    if factor:
        before = one.along_gradient.beta * one.weight_norm**2
        assert other.along_gradient.beta * other.weight_norm**2 != pytest.approx(before, rel=0.5)


@settings(max_examples=20, deadline=None)
@given(logs=st.lists(st.floats(-3, 3), min_size=7, max_size=7))
def test_units_of_a_relu_network_can_be_scaled_without_changing_the_scale_free_beta(
    logs: list[float],
) -> None:
    """What comes into a unit times a, what goes out of it over a: Dinh et al. (2017), §2, unit by unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.LeakyReLU(0.1), nn.Linear(7, 3)).double()
    twin = copy.deepcopy(model)
    factors = torch.tensor(logs, dtype=torch.float64).exp()
    with torch.no_grad():
        twin[0].weight *= factors[:, None]
        twin[0].bias *= factors
        twin[2].weight /= factors
    one, other = same_function(model, twin, *batch())
    assert other.scale_free_beta == pytest.approx(one.scale_free_beta, rel=1e-8)
    assert other.relative.lipschitz == pytest.approx(one.relative.lipschitz, rel=1e-8)


class Restless(SGD):
    """Draws random numbers, and has an argument that it cannot be made without."""

    def __init__(self, params: Any, lr: float, *, amount: float) -> None:
        super().__init__(params, lr, momentum=0.9)
        self.param_groups[0]["amount"] = amount

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        noise = torch.randn(()).item() + np.random.rand() + random.random()
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter += self.param_groups[0]["amount"] * noise


@pytest.mark.parametrize("bn", BN)
@pytest.mark.parametrize("name", ["Adam", "restless"])
def test_everything_is_left_as_found(name: str, bn: Any) -> None:
    model = conv()
    make = {**OPTIMIZERS, "restless": lambda p: Restless(p, LR, amount=1e-3)}[name]
    optimizer = begun(model, make)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)  # which replaces the very step of its optimiser
    model[6].eval()
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    model[1].weight.register_hook(lambda _: calls.append("gradient"))
    flow = watch(model, optimizer, every=1)

    def found() -> Any:
        return copy.deepcopy(
            {
                "model": dict(model.state_dict()),
                "grads": [p.grad for p in model.parameters()],
                "modes": [module.training for module in model.modules()],
                "needed": [p.requires_grad for p in model.parameters()],
                "state": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state(),
                "python": random.getstate(),
            }
        )

    held = [(p, p.grad, p.data_ptr(), p._version) for p in model.parameters()]
    before = found()
    record = smoothness(
        model, cross_entropy, [batch(), batch(60)], optimizer=optimizer, bn=bn, separately=True
    )
    assert_same(found(), before)
    for parameter, gradient, place, version in held:
        assert parameter.grad is gradient
        assert (parameter.data_ptr(), parameter._version) == (place, version)
    assert calls == []
    assert len(flow.history().steps) == 0
    flow.close()
    again = smoothness(
        model, cross_entropy, [batch(), batch(60)], optimizer=optimizer, bn=bn, separately=True
    )
    if name == "Adam":
        assert str(again) == str(record)


def assert_same(found: Any, before: Any) -> None:
    """Bit by bit."""
    assert type(found) is type(before)
    if isinstance(found, dict):
        assert found.keys() == before.keys()
        for name in found:
            assert_same(found[name], before[name])
    elif isinstance(found, list | tuple):
        assert len(found) == len(before)
        for one, other in zip(found, before, strict=True):
            assert_same(one, other)
    elif isinstance(found, Tensor):
        assert torch.equal(found, before)
    elif isinstance(found, np.ndarray):
        assert np.array_equal(found, before)
    else:
        assert found == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_is_computed_in_float32(dtype: Any) -> None:
    model, (x, y) = mlp().to(dtype), batch()
    optimizer = SGD(model.parameters(), LR, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    record = smoothness(model, cross_entropy, (x.to(dtype), y), optimizer=optimizer)
    same = copy.deepcopy(model).float()
    other = SGD(same.parameters(), LR, momentum=0.9)
    for parameter in same.parameters():
        other.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    expected = smoothness(same, cross_entropy, (x.to(dtype).float(), y), optimizer=other)
    for one, line in zip(expected.lines, record.lines, strict=True):
        assert_is(line, (one.losses[0], one.changes[0], one.distances[0]), 1e-6)
    assert record.notes == (f"{str(dtype)[6:]} parameters: computed in float32",)
    assert expected.notes == ()
    assert optimizer.state[model[0].weight]["momentum_buffer"].dtype == dtype


def test_what_is_not_finite_on_the_way_stays_so() -> None:
    record = smoothness(Scalar(1.0, torch.log), as_it_is, ONES, 0.5)  # w = 1 − η, and η = 1 at the fourth
    line = record.along_gradient
    assert np.isfinite(line.losses[0]).tolist() == [True] * 3 + [False] * 5
    assert line.losses[0, 3] == -np.inf
    assert line.changes[0, 3] == np.inf
    assert np.isnan(line.losses[0, 4:]).all()
    assert np.allclose(line.loss_variation, [np.log([0.25, 0.75])])
    assert np.allclose(line.predictiveness, [[1 / 3, 3]])
    assert record.notes == (
        "along the gradient, loss or gradient is not finite at 5 of 8 points: minima and maxima are over the "
        "others",
    )
    assert record.plot().get_xlabel() == "learning rate η"
    beyond = smoothness(Scalar(1.0, torch.log), as_it_is, ONES, 4.0)
    assert np.isnan(beyond.along_gradient.loss_variation).all()
    assert np.isnan(beyond.along_gradient.beta).all()
    assert "at 8 of 8 points" in str(beyond)
    assert "nan" in str(beyond)
    assert beyond.plot().lines


def test_a_gradient_of_zero_has_no_smoothness() -> None:
    record = smoothness(Scalar(1.0, lambda w: 0 * w + 2), as_it_is, ONES, 0.5)
    assert np.array_equal(record.along_gradient.losses, np.full((1, 8), 2.0))
    assert np.isnan([*record.along_gradient.beta, *record.along_gradient.lipschitz]).all()
    assert record.notes == (
        "the gradient is zero: nothing moves; β and the Lipschitz estimate are unknown",
        "the gradient relative to θ is zero: nothing moves; β and the Lipschitz estimate are unknown",
    )


def test_what_rounding_takes_is_told() -> None:
    x = torch.ones(3)
    record = smoothness(Scalar(1e3, lambda w: 1e-6 * w, torch.float32), as_it_is, x, 0.1)
    assert record.notes == (
        "along the gradient, rounding loses 1e+02 % of the shortest move: give model and batches in float64",
    )
    assert smoothness(Scalar(1e3, lambda w: 1e-6 * w), as_it_is, ONES, 0.1).notes == ()


def test_gradients_whose_squares_underflow_have_a_norm() -> None:
    model = Quadratic(0)
    exact = smoothness(model, as_it_is, ONES, LR)
    model.float().w.data *= 1e-28
    record = smoothness(model, as_it_is, torch.ones(3), LR)
    assert record.gradient_norm == pytest.approx(exact.gradient_norm * 1e-28, rel=1e-5, abs=0)
    assert record.weight_norm == pytest.approx(exact.weight_norm * 1e-28, rel=1e-5, abs=0)
    assert record.along_gradient.beta == pytest.approx(exact.along_gradient.beta, rel=1e-5)


class Broken(SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise ValueError("not today")


def optimizer_of(make: Steps) -> Callable[[nn.Module], dict[str, Any]]:
    return lambda model: {"optimizer": make(model.parameters())}


RATE = "lr: expected a number above 0 such as lr=0.1, or optimizer alone; got"
WRONG: dict[str, tuple[Any, str]] = {
    "no lr": ({}, f"{RATE} None"),
    "zero": ({"lr": 0}, f"{RATE} 0"),
    "negative": ({"lr": -0.1}, f"{RATE} -0.1"),
    "not finite": ({"lr": float("nan")}, f"{RATE} nan"),
    "infinite tensor": ({"lr": torch.tensor(float("inf"))}, f"{RATE} inf"),
    "a tensor of several": ({"lr": torch.ones(2)}, f"{RATE} 'float32 (2,)'"),
    "text": ({"lr": "fast"}, "lr: expected a number or Tensor or None; got 'fast'; type: gs.smoothness("),
    "falling range": (
        {"lr": LR, "range": (4, 0.5)},
        "range: expected two rising multiples of lr such as (0.5, 4); got (4, 0.5)",
    ),
    "range from zero": ({"lr": LR, "range": (0, 1)}, "range: expected two rising multiples"),
    "range of one": ({"lr": LR, "range": 3}, "range: expected a list; got 3"),
    "one point": ({"lr": LR, "points": 1}, "points: expected 2 or more; got 1"),
    "half a point": ({"lr": LR, "points": 2.5}, "points: expected a whole number; got 2.5"),
    "not an optimiser": (
        {"lr": LR, "optimizer": "SGD"},
        "optimizer: expected Optimizer or None; got 'SGD'; type: gs.smoothness(model, loss, batches)",
    ),
    "LBFGS": (
        optimizer_of(lambda p: torch.optim.LBFGS(p, lr=LR)),
        "optimizer: LBFGS needs a closure, one gradient does not make its step; leave optimizer out",
    ),
    "warming up": (
        optimizer_of(lambda p: Adam(p, 0.0)),
        "optimizer: expected a learning rate above 0 in Adam's first group; got 0.0; "
        "give an optimizer in training, or leave optimizer out",
    ),
    "another's": (
        optimizer_of(lambda p: SGD(mlp().parameters(), LR)),
        "optimizer: SGD trains no parameter of Sequential that has a gradient: give the optimizer of "
        "this model's parameters()",
    ),
    "broken": (
        optimizer_of(lambda p: Broken(p, LR)),
        "optimizer: a copy of Broken makes no step: ValueError: not today; leave optimizer out",
    ),
    "bn": ({"lr": LR, "bn": "none"}, "bn: expected one of batch, running; got 'none'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_told_in_one_line(case: str) -> None:
    settings, message = WRONG[case]
    model = mlp()
    with pytest.raises(ConfigError) as error:
        smoothness(
            model, cross_entropy, batch(), **(settings(model) if inspect.isfunction(settings) else settings)
        )
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("w", "function", "told"),
    [
        (-1.0, torch.log, "the loss is nan and its gradient's norm 1"),
        (0.0, torch.log, "the loss is -inf and its gradient's norm inf"),
        (0.0, torch.sqrt, "the loss is 0 and its gradient's norm inf"),
    ],
)
def test_a_loss_that_is_not_finite_where_it_begins_is_refused(w: float, function: Any, told: str) -> None:
    with pytest.raises(ConfigError, match="where this begins") as error:
        smoothness(Scalar(w, function), as_it_is, ONES, LR)
    assert str(error.value) == (
        f"{told}: there is no smoothness to measure; gradscape.watch with activations shows where this begins"
    )


def example() -> SmoothnessRecord:
    model = mlp()
    return smoothness(model, cross_entropy, batch(), optimizer=begun(model, OPTIMIZERS["Adam"]))


def test_the_record_in_words_numbers_and_a_figure() -> None:
    record = example()
    text = str(record)
    assert text.splitlines()[0] == "smoothness of the loss of 53 parameters on 24 samples in 1 batch"
    for part in (
        "lr 0.05, 8 rates η from 0.025 to 0.2",
        "along the gradient: loss",
        "along Adam's step: loss",
        "along the gradient relative to θ: loss",
    ):
        assert part in text
    assert "cost: 19 gradients" in text
    found = json.loads(json.dumps(record.to_dict()))
    assert found["along_gradient"]["beta"] == record.along_gradient.beta.tolist()
    assert np.shape(found["along_step"]["losses"]) == (1, 8)
    assert found["scale_free_beta"] == record.scale_free_beta.tolist()
    axes = record.plot()
    assert axes.get_ylabel().startswith("loss")
    labels = [line.get_label() for line in axes.lines]
    assert labels == ["along the gradient", "along Adam's step", "at θ"]
    assert record.plot(axes) is axes
    alone = smoothness(mlp(), cross_entropy, batch(), LR, range=(1, 2), points=2).to_dict()
    assert alone["along_step"] is None
    assert alone["rates"] == [LR, 2 * LR]
