"""Optimizers of a model's copies: made by a user's function, or carried over from those that the user has.

Carried over are class, settings, groups and their order; no state: a copy begins as a training does. Where
all arguments of a class stand among its `defaults`, another one is made; of any other class, such as
Lookahead around an optimizer, all attributes are copied.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradscape.errors import ConfigError, brief, first_line
from gradscape.measure.core.batch import takes_model

# Function of the parameters; of the model, where its first parameter is named so, as a loss(model, batch) is.
MakeOptimizer = Callable[..., Optimizer]
# Classes by the names that the command line has for them.
OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
CURE = "give what makes one of parameters, as torch.optim.Adam"
# Packages whose wrappers of an optimizer tell a training framework of its steps: a copy is trained without.
FRAMEWORKS = ("accelerate", "lightning", "lightning_fabric", "opacus")
HELD = "inner"  # attribute in which a stand-in that a remedy puts into a copy has the module it stands for


@dataclass(frozen=True)
class Steppers:
    """Optimizers of one copy, which make a step together.

    Attributes:
        optimizers: Optimizers, one at least.
    """

    optimizers: tuple[Optimizer, ...]

    def __post_init__(self) -> None:
        for optimizer in self.optimizers:
            if callable(train := getattr(optimizer, "train", None)):  # schedule-free ones begin in eval mode
                train()

    @property
    def name(self) -> str:
        """Names of the classes, in words."""
        return " and ".join(type(optimizer).__name__ for optimizer in self.optimizers)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Groups of parameters of all optimizers, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Make a step with each optimizer.

        Raises:
            ConfigError: One fails.
        """
        for optimizer in self.optimizers:
            try:
                optimizer.step()
            except Exception as error:  # of any kind: it is the user's choice
                made = type(optimizer).__name__
                raise ConfigError(
                    f"optimizer: {made} fails: {first_line(error)}; give another as optimizer="
                ) from error


SteppersOf = Callable[[nn.Module], Steppers]
Given = MakeOptimizer | Optimizer | Sequence[Optimizer]


def steppers_of(given: Given, model: nn.Module | None) -> SteppersOf:
    """Return a function from a copy of a model to the optimizers of its parameters.

    Args:
        given: Function from parameters to an optimizer; or one or several optimizers of the model. Beside a
            factory, an optimizer of one group gives its class and its settings.
        model: The user's module; None for a factory.

    Raises:
        ConfigError: Something is no optimizer, one beside a factory has several groups, or none has a
            parameter of the model.
    """
    if callable(given) and not isinstance(given, Optimizer):
        return lambda twin: Steppers((_made_by(given, twin),))
    originals = [_Original(optimizer, model) for optimizer in all_given(given)]
    if model is not None and not any(original.names for original in originals):
        raise ConfigError(
            f"optimizer: {_named(all_given(given))} trains no parameter of {type(model).__name__}: give the "
            "optimizer of this very model's parameters(), made after the model is complete"
        )

    def carried(twin: nn.Module) -> Steppers:
        by_name = {_before_remedies(name): p for name, p in twin.named_parameters()}
        known = {name for original in originals for name in original.names.values()}
        added = [p for name, p in by_name.items() if name not in known and _is_added(name, twin)]
        groups = [
            [list(twin.parameters())] if model is None else original.groups(by_name) for original in originals
        ]
        if model is not None:
            placed = {id(p) for each in groups for members in each for p in members}
            groups[0][0] += [p for p in added if id(p) not in placed]
        made = [one.alike(each, by_name) for one, each in zip(originals, groups, strict=True) if any(each)]
        return Steppers(tuple(made))

    return carried


def all_given(given: object) -> list[Optimizer]:
    """Return the optimizers that were given, without the wrappers of training frameworks.

    Args:
        given: One or several optimizers, or a function from parameters to one.

    Returns:
        Optimizers; an empty list for a function.

    Raises:
        ConfigError: Something else is among several.
    """
    if callable(given) and not isinstance(given, Optimizer):
        return []
    several = given if isinstance(given, Sequence) else [given]
    found = [_without_framework(each) for each in several]
    if not found or not all(isinstance(each, Optimizer) for each in found):
        raise ConfigError(f"optimizer: expected one or several of torch.optim; got {brief(given)}; {CURE}")
    return found


def _without_framework(optimizer: Any) -> Any:
    while type(optimizer).__module__.partition(".")[0] in FRAMEWORKS and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def notes_on_state(given: object) -> tuple[str, ...]:
    """Return a note on the state of optimizers that copies are trained without; empty if there is none.

    Args:
        given: As of `steppers_of`.
    """
    used = [optimizer for optimizer in all_given(given) if any(optimizer.state.values())]
    if not used:
        return ()
    return (f"copies are trained without the state of {_named(used)}: they begin as a training does",)


def _named(optimizers: Sequence[Optimizer]) -> str:
    return " and ".join(type(optimizer).__name__ for optimizer in optimizers)


def _made_by(make: MakeOptimizer, model: nn.Module) -> Optimizer:
    """Return the optimizer that a user's function makes of a copy, or of its parameters."""
    try:
        made = make(model if takes_model(make) else model.parameters())
    except Exception as error:  # of any kind: it is the caller's code
        raise ConfigError(f"optimizer: it fails ({first_line(error)}); {CURE}") from error
    if not isinstance(made, Optimizer):
        raise ConfigError(f"optimizer: it makes {brief(made)}; {CURE}")
    return made


Members = list[nn.Parameter]


class _Original:
    """Optimizer of the user, and names of the parameters that it trains.

    Args:
        optimizer: Optimizer, which is not changed.
        model: The user's module; None for a factory.

    Raises:
        ConfigError: It has several groups, and there is no module that they are of.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        if model is None and len(optimizer.param_groups) > 1:
            raise ConfigError(
                f"optimizer: {type(optimizer).__name__} has {len(optimizer.param_groups)} groups of another "
                "module's parameters; give that module as make_model, or a function from parameters to an "
                "optimizer"
            )
        self.optimizer = optimizer
        named = {} if model is None else {id(p): name for name, p in model.named_parameters()}
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self.names = {id(p): named[id(p)] for p in held if id(p) in named}

    def groups(self, by_name: Mapping[str, nn.Parameter]) -> list[Members]:
        """Return the parameters of a copy, group by group.

        Args:
            by_name: Parameters of the copy by their names in the model.
        """
        found = []
        for group in self.optimizer.param_groups:
            names = [self.names[id(p)] for p in group["params"] if id(p) in self.names]
            found.append([by_name[name] for name in names if name in by_name])
        return found

    def alike(self, groups: Sequence[Members], by_name: Mapping[str, nn.Parameter]) -> Optimizer:
        """Return another optimizer with the same settings.

        Args:
            groups: Parameters of a copy, group by group.
            by_name: Parameters of the copy by their names in the model.

        Raises:
            ConfigError: It can neither be made nor copied.
        """
        kind = type(self.optimizer)
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self", "params"}
        try:
            if arguments <= set(self.optimizer.defaults):
                return self._remade(groups, arguments)
            twins = {key: by_name[name] for key, name in self.names.items() if name in by_name}
            return self._copied(groups, twins)
        except Exception as error:  # of any kind: a class of the user's own
            raise ConfigError(
                f"optimizer: another {kind.__name__} cannot be made ({first_line(error)}); {CURE}"
            ) from error

    def _remade(self, groups: Sequence[Members], arguments: set[str]) -> Optimizer:
        """Return an optimizer that its class makes of the same settings."""
        given = [
            {**self._settings(group, arguments), "params": members}
            for group, members in zip(self.optimizer.param_groups, groups, strict=True)
            if members
        ]
        defaults = {name: value for name, value in self.optimizer.defaults.items() if name in arguments}
        return type(self.optimizer)(given, **copy.deepcopy(defaults))

    def _settings(self, group: Mapping[str, Any], arguments: set[str]) -> dict[str, Any]:
        """Return a copy of a group's settings, in which what the optimizer itself counts begins anew."""
        counted = {name: value for name, value in self.optimizer.defaults.items() if name not in arguments}
        kept = {name: value for name, value in group.items() if name not in ("params", "param_names")}
        return copy.deepcopy(kept | counted)

    def _copied(self, groups: Sequence[Members], twins: dict[int, nn.Parameter]) -> Optimizer:
        """Return a copy of all attributes but the state, with other parameters."""
        made = _with_attributes(self.optimizer, dict(twins))
        for group, members in zip(made.param_groups, groups, strict=True):
            group["params"] = members
        made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        return made


def _with_attributes(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """Return a copy of an optimizer and of those that it holds, without state and hooks.

    Python's own copy has what torch pickles, which is no attribute of a subclass; and a step that a schedule
    has put into the instance is the original's.
    """
    made = memo[id(optimizer)] = type(optimizer).__new__(type(optimizer))
    memo[id(optimizer.state)] = defaultdict(dict)
    for held in vars(optimizer).values():
        if isinstance(held, Optimizer) and id(held) not in memo:
            _with_attributes(held, memo)
    own = {n: v for n, v in vars(optimizer).items() if n != "step" and not n.startswith("_optimizer_")}
    vars(made).update(copy.deepcopy(own, memo))
    Optimizer.__setstate__(made, {})
    return made


def _before_remedies(name: str) -> str:
    """Return a parameter's name in the model before a remedy put stand-ins into a copy."""
    return name.replace(f".{HELD}.", ".").removeprefix(f"{HELD}.")


def _is_added(name: str, twin: nn.Module) -> bool:
    """Return True for a parameter of a norm that a remedy has put in."""
    owner = name.rpartition(".")[0]
    return owner.endswith("norm") and hasattr(twin.get_submodule(owner.rpartition(".")[0]), HELD)
