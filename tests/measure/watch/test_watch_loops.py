"""Watching in other people's loops: a row is the gradient that the step used, whoever put it there."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.watch import steps
from gradscape.records.gradients import FlowHistory
from libraries import needs


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(count: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(10, 6, generator=generator).double(), torch.randint(0, 3, (10,), generator=generator))
        for _ in range(count)
    ]


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def used(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[list[float]]:
    """Norms of what `.grad` is when each of its steps begins, NaN for none: filled by a hook of our own."""
    rows: list[list[float]] = []

    def look(*_: Any) -> None:
        rows.append([float("nan") if p.grad is None else float(p.grad.norm()) for p in model.parameters()])

    optimizer.register_step_pre_hook(look)
    return rows


def norms(history: FlowHistory) -> np.ndarray:
    return (history.rms * np.sqrt(history.sizes))[~history.skipped]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


SCRIPTING = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

# Where gradients come from ------------------------------------------------------------------------------

Loop = Callable[[nn.Module, torch.optim.Optimizer], None]
LOOPS: dict[str, Loop] = {}


def loop(act: Loop) -> Loop:
    LOOPS[act.__name__] = act
    return act


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


@loop
def autograd_grad(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        found = torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()


@loop
def torch_func(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(torch.func.functional_call(model, values, (x,)), y)

    for x, y in data():
        values = {name: p.detach() for name, p in model.named_parameters()}
        for name, gradient in torch.func.grad(loss)(values, x, y).items():
            model.get_parameter(name).grad = gradient
        optimizer.step()


@loop
def copied_in(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for x, y in data():
        found = torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        optimizer.step()


@loop
def copied_into_data(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """As old code does: autograd does not count such a change."""
    for x, y in data():
        optimizer.zero_grad(set_to_none=False)
        loss_of(model, x, y).backward()
        other = torch.autograd.grad(loss_of(model, -x, y), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), other, strict=True):
            assert parameter.grad is not None
            parameter.grad.data.copy_(gradient)
        optimizer.step()


@loop
def evolution(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Without any backward pass."""
    generator = torch.Generator().manual_seed(2)
    for _ in data():
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


@loop
def surgery(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """PCGrad's way: two passes, each taken out of `.grad`, and their sum put back."""
    for x, y in data():
        parts = []
        for part in range(2):
            optimizer.zero_grad()
            loss_of(model, x[part::2], y[part::2]).backward()
            parts.append([p.grad for p in model.parameters()])
        for p, first, second in zip(model.parameters(), *parts, strict=True):
            assert first is not None
            assert second is not None
            p.grad = first + 0.5 * second
        optimizer.step()


@loop
def noisy(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(2)
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        for p in model.parameters():
            assert p.grad is not None
            p.grad.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        optimizer.step()


@loop
def masked(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        for p in model.parameters():
            assert p.grad is not None
            p.grad.mul_(torch.arange(p.numel()).reshape(p.shape) % 2)
        optimizer.step()


@loop
def zeroed_late(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        loss_of(model, x, y).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()


@loop
def dropped_late(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for number, (x, y) in enumerate(data()):
        loss_of(model, x, y).backward()
        if number % 2:
            optimizer.zero_grad()
        optimizer.step()


@loop
def never_zeroed(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        loss_of(model, x, y).backward()
        optimizer.step()


@loop
def twice_with_one_gradient(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.step()


@loop
def half_frozen_in_turns(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for number, (x, y) in enumerate(data()):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        model[2 * (number % 2)].zero_grad()
        optimizer.step()


@loop
def closure_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():

        def closure(x: Tensor = x, y: Tensor = y) -> float:
            autograd_gradients(model, x, y)
            return 0.0

        autograd_gradients(model, x, y)  # so that the hook of the test sees what the closure will make
        optimizer.step(closure)  # type: ignore[arg-type]


def autograd_gradients(model: nn.Module, x: Tensor, y: Tensor) -> None:
    found = torch.autograd.grad(loss_of(model, x, y), list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        parameter.grad = gradient


@pytest.mark.parametrize("name", LOOPS)
def test_a_row_is_the_gradient_that_the_step_used(name: str) -> None:
    model, alone = mlp(), mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    truth = used(optimizer, model)
    LOOPS[name](model, optimizer)
    LOOPS[name](alone, sgd(alone))
    assert same(model, alone)
    history = flow.history()
    assert not flow.error
    assert len(truth) == flow.steps
    assert np.allclose(norms(history), truth, rtol=1e-9, atol=0, equal_nan=True)


CLIPS: dict[str, Callable[[nn.Module], object]] = {
    "norm": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-2),
    "norm above": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e6),
    "norm of each tensor": lambda model: [nn.utils.clip_grad_norm_([p], 1e-2) for p in model.parameters()],
    "value": lambda model: nn.utils.clip_grad_value_(model.parameters(), 5e-3),
    "data": lambda model: [p.grad.data.mul_(0.5) for p in model.parameters() if p.grad is not None],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CLIPS)
def test_clipping_is_not_taken_for_another_gradient(name: str, dtype: torch.dtype) -> None:
    model = mlp().to(dtype)
    optimizer, truth = sgd(model, lr=0.0), []
    flow = gs.watch(model, optimizer)
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x.to(dtype), y).backward()
        truth.append([float(p.grad.float().norm()) for p in model.parameters() if p.grad is not None])
        CLIPS[name](model)
        optimizer.step()
    history = flow.history()
    assert np.allclose(norms(history), truth, rtol=1e-5, atol=0)
    assert history.seen == "after the backward pass, before any clipping"
    assert not history.notes
    assert np.isfinite(history.agreement[1:]).all()


def test_what_breaks_is_seen_before_clipping_spreads_it() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    model[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    x, y = data()[0]
    loss_of(model, x, y).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert flow.history().nonfinite[0].tolist() == [1, 0, 0, 0]


def test_gradients_that_were_mended_are_read_as_they_were_used() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    model[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    x, y = data()[0]
    loss_of(model, x, y).backward()
    for p in model.parameters():
        assert p.grad is not None
        p.grad.nan_to_num_(0.0, 0.0, 0.0)
    optimizer.step()
    assert not flow.history().nonfinite.any()


def test_notes_say_what_was_done_to_gradients() -> None:
    def notes(name: str) -> str:
        model = mlp()
        optimizer = sgd(model)
        flow = gs.watch(model, optimizer)
        LOOPS[name](model, optimizer)
        (note,) = flow.history().notes
        return note

    assert notes("dropped_late").startswith("step 1 was made without a gradient: zero_grad() came after the")
    assert notes("noisy").startswith(
        ".grad was set after the backward pass, other than by clipping, at step 0"
    )
    assert notes("evolution").startswith(".grad was set without a backward pass, at step 0 first")


# A loss cut from the graph ------------------------------------------------------------------------------


def cut(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x, y).detach().requires_grad_().backward()
        optimizer.step()


def test_a_loss_that_is_cut_from_the_model_is_told() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer, activations=True)
    cut(model, optimizer)
    history = flow.history()
    assert history.steps.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(history.rms).all()
    assert (history.update == 0).all()
    found = gs.diagnose(history).findings
    assert [each.verdict for each in found] == ["frozen layer"]
    assert found[0].cause.startswith("no gradient has reached any parameter in 5 steps: the loss is cut off")


def test_passes_without_a_step_are_told() -> None:
    model = mlp()
    flow = gs.watch(model, sgd(model))
    for x, y in data(4):
        model.zero_grad()
        loss_of(model, x, y).backward()
    with pytest.raises(ConfigError, match="no step of the optimizer was made: gradients came 3 times"):
        gs.diagnose(flow)
    for x, y in data(20):
        model.zero_grad()
        loss_of(model, x, y).backward()
    (found,) = gs.diagnose(flow).findings
    assert (found.verdict, found.grade) == ("parameters not trained", "fail")
    assert "optimizer.step() after backward()" in found.remedy


def test_gradients_that_are_cleared_before_the_step_are_told() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    for x, y in data(5):
        loss_of(model, x, y).backward()
        optimizer.zero_grad()
        optimizer.step()
    (found,) = gs.diagnose(flow).findings
    assert found.verdict == "parameters not trained"
    assert found.cause == "gradients have come to the parameters, and were gone at each of 5 steps"


# Whose steps --------------------------------------------------------------------------------------------


def in_backward(model: nn.Module) -> list[torch.optim.Optimizer]:
    """PyTorch's tutorial, torchtune: an optimizer for each parameter, its step within the backward pass."""
    found = []
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        found.append(optimizer)

        def step(p: Tensor, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.step()
            optimizer.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    return found


@pytest.mark.parametrize("every", [None, 2])
def test_steps_within_the_backward_pass_make_one_row(every: int | None) -> None:
    model, alone = mlp(), mlp()
    optimizers = in_backward(model)
    flow = gs.watch(model, optimizers, every=every, activations=True)
    for x, y in data():
        loss_of(model, x, y).backward()
    plain = torch.optim.SGD(alone.parameters(), lr=0.1)
    truth = used(plain, alone)
    never = gs.watch(alone, plain, every=every, activations=True)
    for x, y in data():
        plain.zero_grad()
        loss_of(alone, x, y).backward()
        plain.step()
    assert same(model, alone)
    history, expected = flow.history(), never.history()
    assert flow.steps == 5
    assert history.steps.tolist() == list(range(0, 5, every or 1))
    assert np.allclose(norms(history), truth[:: every or 1], rtol=1e-9, atol=0)
    assert np.allclose(history.update, expected.update, rtol=1e-6)
    assert np.allclose(history.agreement, expected.agreement, equal_nan=True)
    assert history.seen == "when each optimizer's step began, within the backward pass"
    assert history.activations.layers == expected.activations.layers
    assert np.allclose(history.activations.second_moment, expected.activations.second_moment)
    assert not history.notes


def gan(critic_steps: int) -> list[list[bool]]:
    """Which of (generator, critic) each row has, of four rounds."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"g": nn.Linear(3, 2), "d": nn.Linear(2, 1)})
    pair = [torch.optim.SGD(model[name].parameters(), lr=0.1) for name in "gd"]
    flow, truth = gs.watch(model, pair), [used(pair[i], model[name]) for i, name in enumerate("gd")]
    for _ in range(4):
        for _ in range(critic_steps):
            pair[1].zero_grad()
            (model["d"](model["g"](torch.randn(5, 3)).detach()).mean() - 1).square().backward()
            pair[1].step()
        pair[0].zero_grad()
        model["d"](model["g"](torch.randn(5, 3))).square().mean().backward()
        pair[0].step()
    history = flow.history()
    parts = norms(history)[:, :2], norms(history)[:, 2:]
    for part, expected in zip(parts, truth, strict=True):
        assert np.allclose(part[~np.isnan(part[:, 0])], expected, rtol=1e-5)
    assert [facts.name for facts in history.optimizers] == ["SGD", "SGD"]
    assert [facts.members for facts in history.optimizers] == [(0, 1), (2, 3)]
    return [[bool(np.isfinite(part[t, 0])) for part in parts] for t in range(len(history.steps))]


def test_a_row_of_a_gan_is_a_turn_of_both_and_further_critic_steps_have_their_own() -> None:
    both, critic = [True, True], [False, True]
    assert gan(1) == [both] * 4
    assert gan(3) == [critic, critic, both] * 4


def test_another_optimizer_is_seen_to_take_over() -> None:
    model = mlp()
    adam = torch.optim.Adam(model.parameters())
    flow = gs.watch(model, adam)
    truth = used(adam, model)
    for number, (x, y) in enumerate(data()):
        if number == 2:
            later = sgd(model)
            more = used(later, model)
            gone = weakref.ref(adam)
            del adam
        model.zero_grad()
        loss_of(model, x, y).backward()
        (later if number >= 2 else adam).step()
    history = flow.history()
    assert np.allclose(norms(history), [*truth, *more], rtol=1e-9)
    assert [facts.name for facts in history.optimizers] == ["SGD"]
    assert history.notes == ("SGD, which gs.watch was not given, trains 4 tensors of the model since step 2",)
    gc.collect()
    assert gone() is None  # with its two moments of every weight


def test_an_optimizer_of_another_model_is_not_ours() -> None:
    model, other = mlp(), mlp(1)
    flow = gs.watch(model, sgd(model))
    autograd_grad(other, sgd(other))
    assert flow.steps == 0
    assert not flow.history().notes


class SAM(torch.optim.Optimizer):
    """Foret et al. (2021), as published for PyTorch (davda54/sam)."""

    def __init__(self, params: Any, rho: float = 0.05, **settings: Any) -> None:
        super().__init__(params, {"rho": rho, **settings})
        self.base_optimizer = torch.optim.SGD(self.param_groups, **settings)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad, alpha=group["rho"])
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()


@pytest.mark.parametrize("by_closure", [False, True])
def test_sam_s_rows_hold_the_gradient_of_the_second_pass(by_closure: bool) -> None:
    model, alone = mlp(), mlp()

    def train(model: nn.Module, optimizer: SAM) -> list[list[float]]:
        truth = used(optimizer.base_optimizer, model)
        for x, y in data():
            loss_of(model, x, y).backward()
            if by_closure:
                optimizer.step(lambda x=x, y=y: loss_of(model, x, y).backward())
                optimizer.zero_grad()
            else:
                optimizer.first_step(zero_grad=True)
                loss_of(model, x, y).backward()
                optimizer.second_step(zero_grad=True)
        return truth

    optimizer = SAM(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    truth = train(model, optimizer)
    train(alone, SAM(alone.parameters(), lr=0.1))
    assert same(model, alone)
    history = flow.history()
    assert flow.steps == 5
    assert np.allclose(norms(history), truth, rtol=1e-9)
    assert history.skipped.sum() == (0 if by_closure else 5)  # the first passes' gradients make no step
    assert gs.diagnose(history).verdict


class Twice(torch.optim.SGD):
    """Its step calls the one it inherits, which has hooks of its own."""

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.mul_(0.5)
        return found


def test_a_step_within_a_step_is_one() -> None:
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])  # torch puts hooks around its step with the first
    model = mlp()
    optimizer = Twice(model.parameters(), lr=0.1)
    flow, moved = gs.watch(model, optimizer), []
    for x, y in data():
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        moved.append(
            [float((p.detach() - q).norm()) for p, q in zip(model.parameters(), before, strict=True)]
        )
    history = flow.history()
    assert history.steps.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(history.update, moved, rtol=1e-9)


class Held(torch.optim.Optimizer):
    """As timm's Lookahead, Accelerate's and Opacus' wrappers: of the type, without its `__init__`."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self._base_optimizer = inner

    @property
    def param_groups(self) -> Any:
        return self._base_optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        self._base_optimizer.step()


class Foreign:
    """A wrapper of no type of torch's."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


@pytest.mark.parametrize(
    "wrap", [Held, Foreign, lambda inner: Held(Held(inner)), lambda inner: [Foreign(inner)]]
)
def test_wrapped_optimizers_are_taken_out(wrap: Any) -> None:
    model = mlp()
    optimizer = sgd(model)
    flow, truth = gs.watch(model, wrap(optimizer)), used(optimizer, model)
    never_zeroed(model, optimizer)
    assert np.allclose(norms(flow.history()), truth, rtol=1e-9)


@pytest.mark.parametrize("wrong", [0.1, "adam", ["adam"], None, nn.Linear(1, 1)])
def test_what_is_no_optimizer_is_told(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"optimizer: expected one or several of torch.optim; got .+"):
        gs.watch(mlp(), wrong)


# Which parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unfrozen", "added", "unfrozen and added"])
def test_parameters_that_train_later_are_watched_from_then_on(how: str) -> None:
    model, alone = mlp(), mlp()

    def train(model: nn.Module, watched: bool) -> tuple[Any, list[list[float]]]:
        if "unfrozen" in how:
            model[0].requires_grad_(False)
        theirs = model[2] if "added" in how else model
        optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
        flow = gs.watch(model, optimizer) if watched else None
        truth = used(optimizer, model)
        for number, (x, y) in enumerate(data(6)):
            if number == 2:
                model[0].requires_grad_()
                if "added" in how:
                    optimizer.add_param_group({"params": list(model[0].parameters())})
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e6)
            optimizer.step()
        return flow, truth

    flow, truth = train(model, True)
    train(alone, False)
    assert same(model, alone)
    history = flow.history()
    assert history.layers == tuple(name for name, _ in model.named_parameters())
    assert np.isnan(history.rms[:2, :2]).all()
    assert np.allclose(norms(history)[2:], truth[2:], rtol=1e-9)
    assert np.allclose(norms(history)[:2, 2:], np.array(truth)[:2, 2:], rtol=1e-9)
    assert (history.update[2:] > 0).all()
    assert "watched since step 2 only: 0.weight, 0.bias" in history.notes
    assert not any("frozen, not watched" in note for note in history.notes)


def test_parameters_that_are_replaced_are_told_and_followed_once_they_train() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    x, y = data()[0]

    def step() -> None:
        model.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()

    step()
    model.load_state_dict({name: p.clone() for name, p in model.state_dict().items()}, assign=True)
    step()
    notes = flow.history().notes
    assert "no optimizer given trains 0.weight, 0.bias, 2.weight, 2.bias" in notes
    assert "4 parameters of the optimizer are not of Sequential" in notes
    optimizer = sgd(model)
    truth = used(optimizer, model)
    step()
    step()
    history = flow.history()
    assert history.layers == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert np.allclose(norms(history)[-2:], truth, rtol=1e-9)
    assert np.isfinite(history.rms[0]).all()
    assert any(note.startswith("watched since step") for note in history.notes)


def test_layers_frozen_later_are_told() -> None:
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    never_zeroed(model, optimizer)
    model[0].requires_grad_(False)
    assert flow.history().notes == ("frozen since the watch began: 0.weight, 0.bias",)


class Box(nn.Module):
    """A model whose own attribute is called as those of wrappers are."""

    def __init__(self) -> None:
        super().__init__()
        self.module = mlp()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out


@pytest.mark.parametrize(
    "wrap",
    [lambda m: m, nn.DataParallel, lambda m: torch.compile(m, backend="eager")],
    ids=["", "dp", "compile"],
)
def test_names_are_those_of_named_parameters(wrap: Any) -> None:
    model = Box()
    flow = gs.watch(wrap(model), sgd(model), activations=True)
    x, y = data()[0]
    loss_of(wrap(model), x, y).backward()
    assert flow.history().layers == tuple(name for name, _ in model.named_parameters())
    assert flow.history().layers[0] == "module.0.weight"


def test_data_parallel_is_watched_under_the_model_s_names() -> None:
    model = mlp()
    optimizer, wrapped = sgd(model), nn.DataParallel(model)
    flow, truth = gs.watch(wrapped, optimizer, activations=True), used(optimizer, model)
    never_zeroed(wrapped, optimizer)
    history = flow.history()
    assert history.layers[0] == "0.weight"
    assert history.activations.layers == ("input", "0", "1", "2")
    assert np.allclose(norms(history), truth, rtol=1e-9)


def test_parameters_on_meta_are_left_out_in_a_line() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model.register_parameter("later", nn.Parameter(torch.empty(3, device="meta")))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, distributions=True) as flow:
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
    assert flow.error == ""
    assert flow.history().layers == ("0.weight", "0.bias")
    assert flow.history().notes == ("on meta, without values, not watched: later",)
    empty = nn.Linear(2, 2, device="meta")
    with pytest.raises(ConfigError, match="Linear has its parameters on meta, without values: give"):
        gs.watch(empty, torch.optim.SGD(empty.parameters(), lr=0.1))


def test_lazy_modules_are_refused_in_a_line() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ConfigError, match=r"without a shape before its first pass: 0.weight, 0.bias; call it on"
    ):
        gs.watch(model, optimizer)


# Begun and ended ----------------------------------------------------------------------------------------


def test_a_new_watch_takes_the_place_of_one_that_is_open() -> None:
    model = mlp()
    optimizer = sgd(model)
    first = gs.watch(model, optimizer, activations=True)
    never_zeroed(model, optimizer)
    second = gs.watch(model, optimizer)
    assert first.closed
    assert "ended at step 5, when another watch of the model began" in first.history().notes
    assert second.history().notes == (
        "an earlier watch of this model was still open, and ended when this one began (5 steps)",
    )
    never_zeroed(model, optimizer)
    assert (first.steps, second.steps) == (5, 5)
    del second
    assert not gs.watch(model, optimizer).closed
    never_zeroed(model, optimizer)


def test_a_wrapper_around_the_model_makes_it_no_other() -> None:
    model = mlp()
    optimizer = sgd(model)
    first = gs.watch(model, optimizer)
    second = gs.watch(nn.DataParallel(model), optimizer)
    assert first.closed
    gs.watch(model, optimizer).close()
    assert second.closed


def test_a_model_that_a_running_function_deletes_is_freed() -> None:
    """Before Python 3.13, looking at variables of a frame keeps them."""
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer, activations=True)
    never_zeroed(model, optimizer)
    flow.close()
    references = [weakref.ref(each) for each in (model, optimizer, flow._recorder)]
    del model, optimizer, flow
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_a_watch_that_fails_to_begin_leaves_the_old_one_and_no_hook() -> None:
    model = mlp()
    flow = gs.watch(model, sgd(model))
    with pytest.raises(ConfigError, match=r"expected one or several of torch\.optim"):
        gs.watch(model, None)  # type: ignore[arg-type]
    assert not flow.closed
    flow.close()
    assert not any(p._backward_hooks for p in model.parameters())


def test_no_hook_of_torch_s_is_left_by_the_last_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_listeners", weakref.WeakSet())  # other tests' may be open
    monkeypatch.setattr(steps, "_handles", [])
    before = len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)
    flows = [gs.watch(model, sgd(model)) for model in (mlp(), mlp())]
    flows[0].close()
    never_zeroed(flows[1]._recorder.model, flows[1]._recorder.members.optimizers[0])
    assert flows[1].steps == 5
    flows[1].close()
    assert (len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)) == before


def test_a_watched_model_that_is_dropped_is_freed() -> None:
    def dropped() -> list[weakref.ref[Any]]:
        model = mlp()
        flow = gs.watch(model, sgd(model), activations=True)
        autograd_grad(model, sgd(model))
        return [weakref.ref(flow), weakref.ref(model)]

    gone = dropped()
    gc.collect()
    assert [each() for each in gone] == [None, None]
    autograd_grad(other := mlp(), sgd(other))  # the hooks that are left do no harm


def test_a_broken_off_step_is_not_waited_for() -> None:
    class Breaks(torch.optim.SGD):
        fail = False

        def step(self, closure: Any = None) -> Any:
            if self.fail:
                raise KeyboardInterrupt
            return super().step(closure)

    model = mlp()
    optimizer = Breaks(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    never_zeroed(model, optimizer)
    optimizer.fail = True
    with pytest.raises(KeyboardInterrupt):
        never_zeroed(model, optimizer)
    optimizer.fail = False
    optimizer.zero_grad()
    truth = used(optimizer, model)
    never_zeroed(model, optimizer)
    assert np.allclose(norms(flow.history())[-5:], truth[::2], rtol=1e-9)  # both steps call our hook
    assert flow.steps == 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it first compiles
def test_a_compiled_step_is_watched() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    flow = gs.watch(model, optimizer)
    step = torch.compile(optimizer.step, backend="eager")
    for x, y in data():
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        step()
    assert flow.steps == 5
    assert np.isfinite(flow.history().rms).all()


# Copies -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pickled_model_needs_nothing_of_ours(tmp_path: Path) -> None:
    model = mlp()
    gs.watch(model, sgd(model), activations=True)
    x = data()[0][0]
    torch.save(model, tmp_path / "model.pt")
    assert b"gradscape" not in pickle.dumps(model)
    script = (
        "import sys, torch; sys.modules['gradscape'] = None\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        f"torch.save(model(torch.full((2, 6), 0.5).double()), {str(tmp_path / 'out.pt')!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert torch.equal(torch.load(tmp_path / "out.pt"), model(torch.full((2, 6), 0.5).double()))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@SCRIPTING
def test_scripting_a_watched_model_is_refused_in_a_line() -> None:
    model = mlp()
    with (
        gs.watch(model, sgd(model), activations=True),
        pytest.raises(
            ConfigError, match=r"a model with gradscape.s hooks cannot be scripted: close\(\) the watch"
        ),
    ):
        torch.jit.script(model)
    torch.jit.script(model)


@SCRIPTING
def test_a_scripted_model_says_that_its_outputs_are_not_read() -> None:
    model = torch.jit.script(mlp())
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer, activations=True)
    never_zeroed(model, optimizer)
    assert flow.history().activations is None
    assert flow.history().notes == (
        "the model is scripted, which takes no hooks: its activations are not read",
    )


# How often ----------------------------------------------------------------------------------------------


def test_the_first_steps_of_a_large_model_are_read_whatever_they_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradscape.measure.watch.schedule.SMALL", 10)
    model = mlp()
    optimizer = sgd(model)
    flow = gs.watch(model, optimizer)
    for _ in range(6):
        flow._recorder.reader.spent += 1.0  # as if reading were dear
        never_zeroed(model, optimizer)
    assert flow.history().steps.tolist() == list(range(10))
    flow._recorder.schedule.began -= 1e4  # and time enough had gone by
    never_zeroed(model, optimizer)
    assert len(flow.history().steps) > 10


# Libraries ----------------------------------------------------------------------------------------------


@needs("accelerate")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_accelerate_s_optimizer_in_its_plain_loop() -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    inner_model = mlp()
    inner = sgd(inner_model)
    model, optimizer = accelerator.prepare(inner_model, inner)
    flow, truth = gs.watch(model, optimizer), used(inner, inner_model)
    for x, y in data(6):
        with accelerator.accumulate(model):
            accelerator.backward(loss_of(model, x, y))
            optimizer.step()
            optimizer.zero_grad()
    history = flow.history()
    assert flow.steps == 3
    assert history.layers[0] == "0.weight"
    assert np.allclose(norms(history), truth, rtol=1e-9)


@needs("lightning", "lightning_fabric")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_fabric_s_wrappers() -> None:
    if find_spec("lightning"):
        from lightning.fabric import Fabric
    else:
        from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    inner_model = mlp()
    inner = sgd(inner_model)
    model, optimizer = fabric.setup(inner_model, inner)
    flow, truth = gs.watch(model, optimizer, activations=True), used(inner, inner_model)
    for x, y in data():
        optimizer.zero_grad()
        fabric.backward(loss_of(model, x, y))
        fabric.clip_gradients(model, optimizer, max_norm=1e6)
        optimizer.step()
    history = flow.history()
    assert history.layers == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert history.activations.layers == ("input", "0", "1", "2")
    assert np.allclose(norms(history), truth, rtol=1e-9)


@needs("opacus")
@pytest.mark.filterwarnings("ignore")
def test_opacus_gradients_are_those_with_noise_and_said_to_be() -> None:
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    x, y = data(1)[0]
    inner_model = mlp()
    inner = sgd(inner_model)
    model, optimizer, loader = PrivacyEngine().make_private(
        module=inner_model,
        optimizer=inner,
        data_loader=DataLoader(TensorDataset(x, y), batch_size=5),
        noise_multiplier=1.0,
        max_grad_norm=0.1,
        poisson_sampling=False,
    )
    flow, truth = gs.watch(model, optimizer), used(inner, inner_model)
    for _ in range(3):
        for part, target in loader:
            optimizer.zero_grad()
            loss_of(model, part, target).backward()
            optimizer.step()
    history = flow.history()
    assert history.layers == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert history.seen == "when the step began: each sample's gradient clipped, and noise added"
    assert np.allclose(norms(history), truth, rtol=1e-9)
