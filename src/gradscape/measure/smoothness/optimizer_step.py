"""Compute the next step of an optimizer without making it."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradscape._text import join_names
from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.objective import Objective
from gradscape.measure.core.parameters import number, parameters_of, strip_wrappers
from gradscape.measure.core.preserve import random_state


def check_optimizer(optimizer: Optimizer) -> None:
    """Check that an optimizer makes its step from a single gradient.

    Args:
        optimizer: Optimizer to check.

    Raises:
        ConfigError: If it needs a closure, or has no positive learning rate.
    """
    name, step = type(optimizer).__name__, inspect.signature(type(optimizer).step)
    closure = step.parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"optimizer: {name} needs a closure, one gradient does not make its step; leave optimizer out"
        )
    own = number(optimizer.param_groups[0].get("lr"))
    if own is None or not 0 < own < math.inf:
        raise ConfigError(
            f"optimizer: expected a learning rate above 0 in {name}'s first group; got {own}; "
            "give an optimizer in training, or leave optimizer out"
        )


def step_per_rate(objective: Objective, optimizer: Optimizer, gradient: Tensor) -> Tensor:
    """Return d = −Δθ / lr (n,) of the step that an optimizer would make; 0 for parameters it does not train.

    The copy steps in float64: in float32, a small step would be mostly rounding error of the parameters.

    Args:
        objective: Loss and its n parameters.
        optimizer: Optimizer, which is not changed.
        gradient: Gradient (n,).

    Raises:
        ConfigError: If it trains none of the parameters, or its copy fails.
    """
    mine, name = objective.parameters, type(optimizer).__name__
    pieces = {id(p): piece for p, piece in zip(mine.values(), objective.pieces(gradient), strict=True)}
    theirs = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(id(p) in pieces for p in theirs):
        raise ConfigError(
            f"optimizer: {name} trains no parameter of {type(objective.model).__name__} that has a gradient: "
            "give the optimizer of this model's parameters()"
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
    """Return a copy of a parameter in float64 with a gradient, both in the parameter's memory layout."""
    copied = parameter.detach().to(torch.float64, copy=True).requires_grad_()
    if gradient is not None:  # fused kernels need the same layout of parameter, gradient and state
        copied.grad = torch.empty_like(copied, requires_grad=False).copy_(gradient)
    return copied


def _make_step(optimizer: Optimizer, copies: dict[int, Tensor]) -> None:
    """Make a copy of an optimizer, with its settings and state but no hooks, step on copies of parameters.

    The copy is a deep copy with replaced parameters: constructing a user's own optimizer would need its
    arguments. Python's own has what torch pickles, which is no attribute of a subclass; one that cannot be
    copied is left out, for the step may do without.
    """
    memo: dict[int, Any] = {**copies}
    twin = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():
        if name not in vars(twin) and name != "step" and not name.startswith("_optimizer_"):
            with suppress(Exception):
                vars(twin)[name] = copy.deepcopy(value, memo)
    twin.load_state_dict(twin.state_dict())  # casts the state to the dtype of the copies
    with warnings.catch_warnings(action="ignore"):  # such as that the step is not captured in a CUDA graph
        twin.step()


def not_trained(objective: Objective, optimizer: Optimizer) -> list[str]:
    """Return a note on parameters that the optimizer does not train, in a list, or an empty list.

    Args:
        objective: Loss and its parameters.
        optimizer: Optimizer.
    """
    theirs, name = parameters_of(optimizer), type(optimizer).__name__
    untrained = [strip_wrappers(own) for own, p in objective.parameters.items() if id(p) not in theirs]
    return [f"{name}'s step leaves {join_names(untrained)}: it does not train them"] if untrained else []
