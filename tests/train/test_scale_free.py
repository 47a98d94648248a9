"""Weights before a BatchNorm have no scale (van Laarhoven 2017, §2): exactly, without BatchNorm's ε."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.train.state import build_model, build_optimizer

LR, DECAY = 0.05, 0.01
CLOSE = {"rtol": 1e-7, "atol": 1e-12}
scales = st.floats(0.2, 5)


def config(lr: float, decay: float = 0.0) -> RunConfig:
    return RunConfig(
        net=NetConfig(depth=14, filters=4, norm="batch", norm_where="everywhere"),
        data=DataConfig(name="digits", train=60, valid=20),
        optim=OptimConfig(name="sgd", lr=lr, min_lr=0.0, weight_decay=decay),
        batch_size=20,
        seed=3,
    )


def network(scale: float) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Its convolutions `scale` times as large, and these by name."""
    model = build_model(config(LR), torch.device("cpu")).double().train()
    convolutions = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-200  # no 0 is allowed; beside a variance it is none
        if isinstance(module, nn.Conv2d):
            convolutions[name] = cast(nn.Parameter, module.weight)
            module.weight.data *= scale
    return model, convolutions


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 3, 16, 16, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 10, (12,), generator=generator)


@settings(max_examples=10, deadline=None)
@given(scales)
def test_the_loss_does_not_see_the_scale_and_the_gradient_goes_with_its_inverse(scale: float) -> None:
    """L(a w) = L(w) and ∇L(a w) = ∇L(w) / a; and ⟨w, ∇L(w)⟩ = 0, so that only decay shrinks w."""
    x, y = batch(0)
    (model, weights), (scaled, larger) = network(1.0), network(scale)
    losses = [cross_entropy(each(x), y) for each in (model, scaled)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-10)
    assert len(weights) == 13
    for name, weight in weights.items():
        gradient, other = weight.grad, larger[name].grad
        assert gradient is not None
        assert other is not None
        assert torch.allclose(other, gradient / scale, **CLOSE)
        across = torch.linalg.vector_norm(weight.detach()) * torch.linalg.vector_norm(gradient)
        assert abs((weight.detach() * gradient).sum().item()) < 1e-10 * across.item()


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(scales)
def test_steps_at_a_times_w_with_a_squared_times_the_rate_are_a_times_the_steps(scale: float) -> None:
    """So lr / ‖w‖² is the effective learning rate: of the run's own optimiser, momentum and decay included.

    The linear layer and BatchNorm's own parameters have a scale, and keep their learning rate here.
    """
    (model, weights), (scaled, larger) = network(1.0), network(scale)
    groups = []
    for each, rate in ((model, LR), (scaled, LR * scale**2)):
        optimizer = build_optimizer(config(LR, DECAY), each)
        convolutions = set(map(id, (weights if each is model else larger).values()))
        (group,) = optimizer.param_groups
        rest = [p for p in group["params"] if id(p) not in convolutions]
        # Decay shrinks by lr λ, which is the same with λ / a².
        chosen = {**group, "params": [p for p in group["params"] if id(p) in convolutions], "lr": rate}
        chosen["weight_decay"] = DECAY * LR / rate
        optimizer.param_groups = [chosen, {**group, "params": rest}]
        groups.append(optimizer)
    for step in range(3):
        x, y = batch(step)
        for each, optimizer in zip((model, scaled), groups, strict=True):
            optimizer.zero_grad()
            cross_entropy(each(x), y).backward()
            optimizer.step()
    for name, weight in weights.items():
        assert torch.allclose(larger[name], scale * weight, **CLOSE)
    assert torch.allclose(model(x), scaled(x), rtol=1e-6, atol=1e-9)


def test_adam_gives_scale_free_weights_another_effective_rate() -> None:
    """Its step has the size lr whatever the gradient's: twice the weights turn half as far."""
    x, y = batch(0)
    turns = []
    for scale in (1.0, 2.0):
        model, weights = network(scale)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=0.0)
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        cross_entropy(model(x), y).backward()
        optimizer.step()
        turns.append(
            {n: float((w.detach() - before[n]).norm() / before[n].norm()) for n, w in weights.items()}
        )
    for name, turn in turns[0].items():
        assert turn == pytest.approx(2 * turns[1][name], rel=1e-6)


def test_a_penalty_on_weights_leaves_biases_and_norms_alone() -> None:
    """A step with L2 less the step without it is −lr · λ · w of weights, and nothing of the rest."""
    ends = {}
    for decay in (0.0, 0.5):
        asked = replace(config(LR, decay), optim=replace(config(LR, decay).optim, decayed="weights"))
        model = build_model(asked, torch.device("cpu"))
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        x, y = batch(1)
        cross_entropy(model(x.float()), y).backward()
        build_optimizer(asked, model).step()
        ends[decay] = dict(model.named_parameters())
    for name, before in start.items():
        difference = ends[0.5][name] - ends[0.0][name]
        expected = -LR * 0.5 * before if before.dim() > 1 else torch.zeros_like(before)
        torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-6)
