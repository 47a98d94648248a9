"""Trainings that are well and look odd: no false alarm; and odd ones of which the right thing is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

import gradscape as gs
from gradscape.records.diagnosis import Diagnosis
from products import each_once

CLASSES, WIDTH = 5, 32
Optimizers = Callable[[nn.Module], list[Optimizer]]


def adamw(model: nn.Module) -> list[Optimizer]:
    return [torch.optim.AdamW(model.parameters(), lr=1e-3)]


def sgd(model: nn.Module, lr: float = 0.05) -> list[Optimizer]:
    return [torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)]


class Lion(Optimizer):
    """Chen et al. (2023), Algorithm 2, without decay."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {"lr": 3e-4})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.add_((0.9 * m + 0.1 * p.grad).sign(), alpha=-group["lr"])
                    m.lerp_(p.grad, 0.01)


def trained(
    model: nn.Module, optimizers: Optimizers, early: list[Diagnosis] | None = None
) -> tuple[list[float], Diagnosis]:
    """Losses on one of five vectors under noise, what is said after 50 steps, and `early` after 10."""
    known = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1))
    draw, losses = torch.Generator().manual_seed(0), []
    made = optimizers(model)
    flow = gs.watch(model, made)
    for step in range(50):
        y = torch.randint(0, CLASSES, (32,), generator=draw)
        loss = cross_entropy(model(known[y] + torch.randn(32, WIDTH, generator=draw)), y)
        model.zero_grad()
        loss.backward()
        for optimizer in made:
            optimizer.step()
        losses.append(loss.item())
        if step == 9 and early is not None:
            early.append(gs.diagnose(flow))
    return losses, gs.diagnose(flow)


class Scaled(nn.Module):
    """x + γ f(x), γ next to nothing at first (Touvron et al. 2021, eq. 4)."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))
        self.gamma = nn.Parameter(torch.full((WIDTH,), gamma))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.gamma * self.net(x)
        return out


class Attention(nn.Module):
    """A class token beside the input's four parts, and a transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(1e-6 * torch.randn(1, 1, WIDTH))
        self.inputs = nn.Linear(WIDTH // 4, WIDTH)
        self.block = nn.TransformerEncoderLayer(WIDTH, 2, 64, dropout=0.0, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inputs(x.reshape(len(x), 4, -1))
        out: Tensor = self.block(torch.cat([self.cls_token.expand(len(x), 1, WIDTH), parts], 1))[:, 0]
        return out


class Branch(nn.Module):
    """A residual branch whose norm begins at γ = 0 (Goyal et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.BatchNorm1d(WIDTH),
        )
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(F.relu(self.first(x)))))


def small_head(std: float) -> nn.Module:
    head = nn.Linear(WIDTH, CLASSES)
    nn.init.normal_(head.weight, std=std)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), head)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "layer scale": lambda: nn.Sequential(Scaled(1e-6), Scaled(1e-6), nn.Linear(WIDTH, CLASSES)),
    "class token": lambda: nn.Sequential(Attention(), nn.Linear(WIDTH, CLASSES)),
    "γ of 0": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), Branch(), Branch(), nn.Linear(WIDTH, CLASSES)),
    "head of 0": lambda: small_head(0.0),
    "head of 2e-5": lambda: small_head(2e-5),
    "PReLU of 0": lambda: nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.PReLU(init=1e-9), nn.Linear(WIDTH, CLASSES)
    ),
}
OPTIMIZERS: dict[str, Optimizers] = {
    "AdamW": adamw,
    "SGD": sgd,
    "Lion": lambda model: [Lion(model)],
    "Adafactor": lambda model: [torch.optim.Adafactor(model.parameters(), lr=0.01)],
}


@each_once("network, optimizer", NETWORKS, OPTIMIZERS)
def test_what_begins_at_next_to_nothing_by_design_is_no_fault(
    network: Callable[[], nn.Module], optimizer: Optimizers
) -> None:
    torch.manual_seed(0)
    early: list[Diagnosis] = []
    losses, late = trained(network(), optimizer, early)
    for found in (*early, late):
        assert found.grade != "fail", str(found)
    assert len(early) == 1
    assert sum(losses[-10:]) < sum(losses[:10])


def test_a_pooler_that_nobody_uses_is_a_note() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.pooler, self.head = (
                nn.Linear(WIDTH, WIDTH),
                nn.Linear(WIDTH, WIDTH),
                nn.Linear(WIDTH, 5),
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(F.relu(self.body(x)))
            return out

    torch.manual_seed(0)
    _, found = trained(Pooled(), adamw)
    assert found.verdict == "healthy"
    assert found.notes == (
        "no gradient was ever there for pooler.weight: unused, or cut off from the loss by a detach()",
    )


def test_layers_before_a_detach_are_frozen_all_the_same() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.body(x).detach())
            return out

    _, found = trained(Cut(), adamw)
    assert (found.verdict, found.grade, found.layer) == ("frozen layer", "fail", "body.weight")
    assert found.findings[0].remedy.startswith("look for detach(), .data, numpy or torch.no_grad() after it")


def test_layers_before_dead_units_are_not_cut_off() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    nn.init.constant_(model[0].bias, -100.0)  # type: ignore[arg-type]
    _, found = trained(model, adamw)
    frozen = next(each for each in found.findings if each.verdict == "frozen layer")
    assert frozen.layer == "0.weight"
    assert "detach(), .data" not in frozen.remedy


def test_a_hinge_loss_that_is_satisfied_is_met_and_nothing_is_frozen() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(32, 4)
    side = torch.sign(x[:, :1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    flow = gs.watch(model, optimizer)
    for step in range(200):
        loss = F.relu(1 - side * model(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 20:
            assert gs.diagnose(flow).grade != "fail"
    assert loss.item() == 0
    found = gs.diagnose(flow)
    assert (found.verdict, found.grade) == ("converged", "info")


def after_a_schedule(last: float) -> tuple[Diagnosis, Diagnosis]:
    """After 110 steps and after 300; of Adam's steps the first 55 have its usual learning rate."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(32, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    flow = gs.watch(model, optimizer)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-3 if step < 55 else last
        optimizer.zero_grad()
        F.mse_loss(model(x), x[:, :1] * x[:, 1:2]).backward()
        optimizer.step()
        if step == 54:
            assert gs.diagnose(flow).verdict == "healthy"
        if step == 109:
            soon = gs.diagnose(flow)
    return soon, gs.diagnose(flow)


@pytest.mark.parametrize("last", [0.0, pytest.param(1e-80, marks=pytest.mark.slow), 1e-9])
def test_steps_that_a_schedule_has_ended_are_not_of_their_size_and_long_after_it_ended_too_early(
    last: float,
) -> None:
    """As where a schedule in epochs is stepped after every batch: the steps are exact zeros in the end."""
    found, late = after_a_schedule(last)
    assert (found.verdict, found.grade) == ("stopped", "info")
    now, before = found.findings[0].evidence
    assert now.value < 1e-4 < before.value
    assert "of its size" not in str(found)
    assert (late.verdict, late.grade) == ("learning rate is 0", "fail")
    assert "since step 55" in late.findings[0].cause
    assert "step the schedule once for each epoch" in late.findings[0].remedy


def test_steps_that_undo_each_other_overshoot_and_are_not_noise() -> None:
    """Gradient descent on a bowl at 1.99/λ: each gradient is −0.99 times the one before."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.99)
    flow = gs.watch(model, optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        (model.weight.square().sum() / 2).backward()
        optimizer.step()
    found = gs.diagnose(flow)
    assert (found.verdict, found.grade) == ("overshooting", "warn")
    assert found.findings[0].evidence[0].value == pytest.approx(-1)
    assert "noise-dominated" not in [finding.verdict for finding in found.findings]


def test_networks_of_two_optimizers_are_not_compared() -> None:
    """A generator whose gradients are ten thousand times the discriminator's, which is well."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.critic = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.generator(x) + 1e-4 * self.critic(x)

    torch.manual_seed(0)
    model = Two()

    def both(_: nn.Module) -> list[Optimizer]:
        return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (model.generator, model.critic)]

    assert trained(model, both)[1].grade != "fail"


def test_an_optimizer_for_each_parameter_freezes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))

    def each(_: nn.Module) -> list[Optimizer]:
        return [torch.optim.SGD([parameter], lr=0.05) for parameter in model.parameters()]

    assert trained(model, each)[1].verdict == "healthy"


def test_what_was_not_looked_at_is_told() -> None:
    model = nn.Linear(4, 2)
    with gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        cross_entropy(model(torch.randn(8, 4)), torch.tensor([0, 1] * 4)).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    outputs = "the layers' outputs, which activations=True adds"
    assert gs.diagnose(flow).unseen == (outputs,)
    blind = gs.diagnose(replace(flow.history(), loss=None))
    assert blind.unseen == ("the loss", outputs)
    assert "not looked at: the loss, the layers' outputs, which" in str(blind)
