"""The edge of stability against real optimisers on a quadratic, that grow 1 % beyond it and shrink below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RAdam

from gradscape.measure.curvature.curvature import curvature
from gradscape.records.curvature import Stability

LR = 0.01
X = torch.zeros(1, 1, dtype=torch.float64)


class Bowl(nn.Module):
    """½ s wᵀHw of two parameters, of whose products H has some."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        self.first = nn.Parameter(1e-9 * torch.ones(4, dtype=torch.float64))
        self.second = nn.Parameter(-1e-9 * torch.ones(2, dtype=torch.float64))
        self.register_buffer("h", scale * root @ root.T)

    def forward(self, x: Tensor) -> Tensor:
        w = torch.cat([self.first, self.second])
        out: Tensor = 0.5 * w @ self.h @ w + 0 * x.sum()
        return out


def begun(make: Callable[[Any], Optimizer], scale: float, step: int) -> tuple[Bowl, Optimizer]:
    """A bowl and its optimiser, as if so many steps of gradients near 2 had been made."""
    model = Bowl(scale)
    optimizer = make(model)
    if isinstance(optimizer, SGD):
        return model, optimizer
    model(X).backward()
    start = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    for parameter, value in zip(model.parameters(), start, strict=True):
        state = optimizer.state[parameter]
        beta = optimizer.param_groups[0]["betas"][1]
        parameter.data.copy_(value)
        state["step"] = torch.tensor(float(step))
        state["exp_avg"].zero_()
        size = torch.linspace(1, 3, len(value), dtype=torch.float64) ** 2
        state["exp_avg_sq"].copy_(size * (1 - beta**step))
        if "max_exp_avg_sq" in state:
            state["max_exp_avg_sq"].copy_(2 * state["exp_avg_sq"])
        if "mu_product" in state:
            state["mu_product"] = torch.tensor(float(scheduled(step)))
    return model, optimizer


def scheduled(step: int) -> float:
    product = 1.0
    for t in range(1, min(step, 500) + 1):
        product *= 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))
    return product


def frozen(model: Bowl, optimizer: Optimizer) -> Callable[[], None]:
    """Puts the preconditioner and the schedule back."""
    names = ("step", "exp_avg_sq", "max_exp_avg_sq", "mu_product")
    kept = [
        (state, name, state[name].clone())
        for state in map(optimizer.state.__getitem__, model.parameters())
        for name in names
        if name in state
    ]

    def restore() -> None:
        for state, name, value in kept:
            state[name].copy_(value)

    return restore


def growth(make: Callable[[Any], Optimizer], scale: float, step: int, steps: int = 1_200) -> float:
    """How many times larger the weights are in the end."""
    model, optimizer = begun(make, scale, step)
    restore = frozen(model, optimizer)
    before = sum(float(p.detach().norm()) for p in model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).backward()
        restore()
        optimizer.step()
        after = sum(float(p.detach().norm()) for p in model.parameters())
        if not 1e-2 < after / before < 100:
            break
    return after / before


def told(make: Callable[[Any], Optimizer], scale: float, step: int) -> Stability:
    model, optimizer = begun(make, scale, step)
    found = curvature(
        model, lambda out: out, X, k=0, trace_products=0, bn="batch", optimizer=optimizer, tolerance=1e-9
    ).stability
    assert found is not None
    return found


def edge(make: Callable[[Any], Optimizer], step: int, sign: float) -> float:
    """The scale of H at which the edge is told to be reached."""
    scale, slope = 100.0, 0.0
    for _ in range(3):  # secants: it is almost affine
        here, there = (told(make, sign * s, step).reached for s in (scale, 1.01 * scale))
        slope = (there - here) / (0.01 * scale)
        scale += (1 - here) / slope
    assert told(make, sign * scale, step).reached == pytest.approx(1, rel=1e-4)
    return sign * scale


def groups(model: Bowl, kind: Any, one: dict[str, Any], other: dict[str, Any], **both: Any) -> Optimizer:
    made: Optimizer = kind(
        [{"params": [model.first], **one}, {"params": [model.second], **other}], lr=LR, **both
    )
    return made


def of(kind: Any, **settings: Any) -> Callable[[Any], Optimizer]:
    return lambda model: kind(model.parameters(), lr=LR, **settings)


def cases() -> Iterator[Any]:
    for name, make in {
        "sgd": of(SGD),
        "momentum": of(SGD, momentum=0.9),
        "nesterov": of(SGD, momentum=0.9, nesterov=True),
        "dampening": of(SGD, momentum=0.9, dampening=0.9),
        "penalty": of(SGD, momentum=0.9, weight_decay=20.0),
        "nesterov and penalty": of(SGD, momentum=0.8, nesterov=True, weight_decay=5.0),
        "maximize": of(SGD, momentum=0.5, maximize=True),
        "groups": lambda model: groups(
            model, SGD, {"momentum": 0.9, "lr": 0.02}, {"momentum": 0.3, "weight_decay": 9.0}
        ),
    }.items():
        yield pytest.param(make, 0, -1.0 if name == "maximize" else 1.0, id=name)
    quick = 0
    for name, make in {
        "Adam": of(Adam),
        "Adam, beta 0.5": of(Adam, betas=(0.5, 0.99)),
        "Adam, large eps": of(Adam, eps=1.0),
        "Adam with a penalty": of(Adam, weight_decay=30.0),
        "Adam, maximize": of(Adam, maximize=True),
        "AMSGrad": of(Adam, amsgrad=True),
        "AdamW": of(AdamW, weight_decay=20.0),
        "AdamW of two groups": lambda model: groups(
            model, AdamW, {"weight_decay": 30.0}, {"weight_decay": 0.0, "lr": 0.03, "betas": (0.6, 0.999)}
        ),
        "NAdam": of(NAdam),
        "NAdam, decoupled": of(NAdam, weight_decay=20.0, decoupled_weight_decay=True),
        "RAdam": of(RAdam),
        "RAdam, decoupled, large eps": of(RAdam, eps=0.5, weight_decay=20.0, decoupled_weight_decay=True),
    }.items():
        sign = -1.0 if "maximize" in name else 1.0
        quick = 1_000 if quick == 2 else 2
        for step in (2, 1_000):
            marks = () if step == quick else pytest.mark.slow
            yield pytest.param(make, step, sign, id=f"{name}, step {step}", marks=marks)


@pytest.mark.parametrize(("make", "step", "sign"), list(cases()))
def test_one_percent_beyond_the_edge_steps_grow_and_one_below_they_shrink(
    make: Callable[[Any], Optimizer], step: int, sign: float
) -> None:
    scale = edge(make, step, sign)
    assert growth(make, 1.01 * scale, step) > 20
    assert growth(make, 0.99 * scale, step) < 0.05


def test_the_limits_that_papers_give() -> None:
    beta = 0.9
    wanted = {
        of(SGD): 2,
        of(SGD, momentum=beta): 2 * (1 + beta),
        of(SGD, momentum=beta, nesterov=True): (2 + 2 * beta) / (1 + 2 * beta),
        of(SGD, momentum=beta, dampening=0.9): 38,
        of(Adam): 38,
        of(AdamW, weight_decay=10.0): 19 * (2 - 10 * LR),
    }
    for make, limit in wanted.items():
        assert told(make, 1.0, 1_000).limit == pytest.approx(limit)
    late = told(of(NAdam), 1.0, 1_000_000).limit
    assert late == pytest.approx((2 + 2 * beta) / ((1 - beta) * (1 + 2 * beta)), rel=1e-6)


def test_of_others_no_limit_is_told() -> None:
    class Own(Adam):
        """May step as it likes."""

    def note(optimizer: Optimizer) -> str:
        return curvature(model, lambda out: out, X, k=0, trace_products=0, optimizer=optimizer).notes[-1]

    model = Bowl(1.0)
    known = "only for torch's SGD, Adam, AdamW, NAdam, RAdam"
    for kind in (torch.optim.Adagrad, torch.optim.RMSprop, Own):
        told = note(kind(model.parameters(), lr=LR))
        assert told == f"no edge of stability is known for {kind.__name__}, {known}"
    mixed = groups(model, SGD, {"maximize": True}, {"maximize": False})
    assert note(mixed).endswith("that maximizes in one group and not in another")
    assert "is 0: there is no step" in note(SGD(model.parameters(), lr=0.0))
