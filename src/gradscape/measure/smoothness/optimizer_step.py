"""The step that an optimiser would make next, without making it."""

from __future__ import annotations

import copy
import inspect
import math
import warnings

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.objective import Objective
from gradscape.measure.core.parameters import listed, number, parameters_of, plain
from gradscape.measure.core.preserve import random_state


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse what makes no step of one gradient."""
    name, step = type(optimizer).__name__, inspect.signature(type(optimizer).step)
    closure = step.parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"optimizer: {name} needs a closure, so no single gradient makes its step; leave optimizer out"
        )
    own = number(optimizer.param_groups[0].get("lr"))
    if own is None or not 0 < own < math.inf:
        raise ConfigError(
            f"optimizer: the learning rate of {name}'s first group is {own}, not a number above 0: its step "
            "has no length; give one that has begun to train, or leave optimizer out"
        )


def step_per_rate(objective: Objective, optimizer: Optimizer, gradient: Tensor) -> Tensor:
    """(n,) d = −Δθ / lr of the step that an optimiser would make of this gradient; 0 where it trains nothing.

    In float64: in less, a small step is mostly the rounding of what it is added to.

    Raises:
        ConfigError: it trains none of the parameters, or its copy fails.
    """
    mine, name = objective.parameters, type(optimizer).__name__
    pieces = {id(p): piece for p, piece in zip(mine.values(), objective.pieces(gradient), strict=True)}
    theirs = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(id(p) in pieces for p in theirs):
        raise ConfigError(
            f"optimizer: {name} trains no parameter of {type(objective.model).__name__} that has a gradient: "
            "give the optimiser made from this very model's parameters()"
        )
    copies = {id(p): _leaf(p, pieces.get(id(p))) for p in theirs}
    try:
        with random_state():
            _make_step(optimizer, copies)
    except Exception as error:
        raise ConfigError(
            f"optimizer: a copy of {name} makes no step: {first_line(error)}; leave optimizer out"
        ) from error
    lr = float(optimizer.param_groups[0]["lr"])
    moves = [
        (p.detach().double() - copies[id(p)].detach()) / lr if id(p) in copies else torch.zeros_like(p)
        for p in mine.values()
    ]
    return objective.vector(moves).to(gradient.dtype)


def _leaf(parameter: Tensor, gradient: Tensor | None) -> Tensor:
    """A parameter's copy in float64 that has this gradient, both laid out in memory as the parameter is."""
    copied = parameter.detach().to(torch.float64, copy=True).requires_grad_()
    if gradient is not None:  # fused kernels walk over parameter, gradient and state alike
        copied.grad = torch.empty_like(copied, requires_grad=False).copy_(gradient)
    return copied


def _make_step(optimizer: Optimizer, copies: dict[int, Tensor]) -> None:
    """Let a copy of an optimiser, with its settings and state but none of its hooks, step on these leaves.

    A deep copy, in which each parameter is replaced: made anew by its class, an optimiser of a user's own
    would need the arguments that it was made with.
    """
    twin = copy.deepcopy(optimizer, {**copies})
    twin.load_state_dict(twin.state_dict())  # which casts the state as the leaves are
    with warnings.catch_warnings(action="ignore"):  # such as that it is not captured in a CUDA graph
        twin.step()


def not_trained(objective: Objective, optimizer: Optimizer) -> list[str]:
    """A note on parameters that the optimiser's step leaves as they are."""
    theirs, name = parameters_of(optimizer), type(optimizer).__name__
    left = [plain(each) for each, p in objective.parameters.items() if id(p) not in theirs]
    return [f"{name}'s step leaves {listed(left)}: it does not train them"] if left else []
