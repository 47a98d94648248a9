"""Optimizers for copies of a model: from a user's function, or like an optimizer that the user has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradscape._text import count_noun
from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.batch import unwrapped
from gradscape.measure.core.copied_training import CURE, MakeOptimizer, made_by
from gradscape.measure.core.parameters import listed, strip_wrappers
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom

OptimizerOf = Callable[[nn.Module], Optimizer]


def optimizer_of(optimizer: MakeOptimizer | Optimizer, model: object) -> OptimizerOf:
    """Return a function from a copy of a model to an optimizer of its parameters.

    Args:
        optimizer: Function from parameters to an optimizer, or an optimizer of the model, whose class,
            defaults and groups are carried over, without its state.
        model: The user's module, or the factory of it.

    Raises:
        ConfigError: An optimizer is given beside a factory, or it has none of the model's parameters.
    """
    if not isinstance(optimizer, Optimizer):
        return lambda twin: made_by(optimizer, twin)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"optimizer: {type(optimizer).__name__} is of a model that was made before, and make_model makes "
            "others: give that model itself, or a function such as torch.optim.Adam"
        )
    groups = _groups(optimizer, unwrapped(model))
    return lambda twin: _alike(optimizer, groups, twin)


Group = tuple[list[str], dict[str, Any]]


def _groups(optimizer: Optimizer, model: nn.Module) -> list[Group]:
    """Return names and settings of an optimizer's groups, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (
            [names[id(p)] for p in group["params"] if id(p) in names],
            {key: value for key, value in group.items() if key not in ("params", "param_names")},
        )
        for group in optimizer.param_groups
    ]
    if not any(members for members, _ in found):
        raise ConfigError(
            f"optimizer: {type(optimizer).__name__} has none of the parameters of {type(model).__name__}: "
            "make it of this very model's parameters(), after the model is complete"
        )
    return found


def _alike(optimizer: Optimizer, groups: list[Group], twin: nn.Module) -> Optimizer:
    """Return a new optimizer of a copy's parameters; those that a remedy has added join the first group."""
    held = {id(p): p for p in twin.parameters()}
    by_name = {_original(name): p for name, p in twin.named_parameters()}
    known = {name for members, _ in groups for name in members}
    members = [[by_name[name] for name in names if name in by_name] for names, _ in groups]
    placed = {id(p) for each in members for p in each}
    added = [
        p for name, p in by_name.items() if _is_added(name, twin) and id(p) in held and name not in known
    ]
    members[0] += [p for p in added if id(p) not in placed]
    made = [{**settings, "params": each} for each, (_, settings) in zip(members, groups, strict=True) if each]
    accepted = inspect.signature(type(optimizer)).parameters
    defaults = {key: value for key, value in optimizer.defaults.items() if key in accepted}
    try:
        return type(optimizer)(made, **defaults)
    except Exception as error:  # of any kind: a class with arguments of its own
        raise ConfigError(
            f"optimizer: another {type(optimizer).__name__} cannot be made ({first_line(error)}); {CURE}"
        ) from error


def _original(name: str) -> str:
    """Return a parameter's name in the model that a remedy has changed."""
    return name.replace(".inner.", ".").removeprefix("inner.")


def _is_added(name: str, twin: nn.Module) -> bool:
    """Return True for a parameter of a norm that a remedy has put in."""
    owner = name.rpartition(".")[0]
    return owner.endswith("norm") and hasattr(twin.get_submodule(owner.rpartition(".")[0]), "inner")


def outside(optimizer: MakeOptimizer | Optimizer, model: nn.Module) -> list[Finding]:
    """Report parameters that require a gradient and that a given optimizer does not have.

    Args:
        optimizer: As of `optimizer_of`.
        model: The user's module.
    """
    if not isinstance(optimizer, Optimizer):
        return []
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if not names:
        return []
    what = f"parameters with requires_grad that {type(optimizer).__name__} does not have"
    return [
        Finding(
            verdict="parameters outside the optimizer",
            layer=strip_wrappers(names[0]),
            cause=f"{count_noun(len(names), 'parameter')} will never get a step: {listed(names)}",
            remedy=options(
                "make the optimizer of model.parameters() after the model is complete",
                "requires_grad_(False), if they are to stay as they are",
            ),
            evidence=(Symptom(what, float(len(names)), 0.0, "none is meant to be"),),
        )
    ]
