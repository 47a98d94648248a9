"""Optimizer of a copy, as the user's but with a learning rate that a range test sets."""

from __future__ import annotations

import copy
import math
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.copied_training import MakeOptimizer, made_by, make_step
from gradscape.measure.core.parameters import number

SETTINGS = ("momentum", "weight_decay")  # which a description names


class RatedOptimizer:
    """Optimizer whose groups keep the ratio of their learning rates to the first group's.

    Args:
        optimizer: Optimizer of a copy.

    Raises:
        ConfigError: Its first group has no learning rate above 0.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, name = optimizer, type(optimizer).__name__
        rates = [number(group.get("lr")) for group in optimizer.param_groups]
        first = rates[0]
        if first is None or not 0 < first < math.inf:
            raise ConfigError(
                f"optimizer: expected a learning rate above 0 in {name}'s first group; got {first}; "
                "give an optimizer with lr="
            )
        self.ratios = [math.nan if rate is None else rate / first for rate in rates]

    def step(self, rate: float) -> None:
        """Make a step at a learning rate.

        Args:
            rate: Learning rate of the first group.

        Raises:
            ConfigError: The optimizer fails.
        """
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if not math.isnan(ratio):
                lr = group["lr"]  # a tensor is replaced, not written to: it may be the user's
                group["lr"] = torch.full_like(lr, ratio * rate) if isinstance(lr, Tensor) else ratio * rate
        make_step(self.optimizer)

    @property
    def described(self) -> str:
        """Name of the optimizer, and settings of its first group that are not 0."""
        group = self.optimizer.param_groups[0]
        words = [f"{name.replace('_', ' ')} {group[name]}" for name in SETTINGS if group.get(name)]
        return " ".join([type(self.optimizer).__name__, *([f"({', '.join(words)})"] if words else [])])

    @property
    def note(self) -> list[str]:
        """Note on groups with another rate than the first, in a list, or an empty list."""
        if len(set(self.ratios)) == 1:
            return []
        ratios = ", ".join(f"{ratio:.3g}" for ratio in self.ratios)
        return [f"rates are those of the first group; groups keep their ratios to it, {ratios}"]


def optimizer_for(
    given: MakeOptimizer | Optimizer, twin: nn.Module, original: nn.Module | None
) -> RatedOptimizer:
    """Return the optimizer of a copy.

    Args:
        given: Function from parameters to an optimizer; or an optimizer, of which class, settings and groups
            are taken, without its state.
        twin: Copy that is to be trained.
        original: Module that it is a copy of; None for a factory's.

    Raises:
        ConfigError: It cannot be made.
    """
    if not isinstance(given, Optimizer):
        return RatedOptimizer(made_by(given, twin))
    name, theirs = type(given).__name__, [p for group in given.param_groups for p in group["params"]]
    if original is None:
        if len(given.param_groups) > 1:
            raise ConfigError(
                f"optimizer: {name} has {len(given.param_groups)} groups of another module's parameters; "
                "give that module as make_model, or a function from parameters to an optimizer"
            )
        made = _copied(given, {id(p): p for p in theirs})
        made.param_groups[0]["params"] = list(twin.parameters())
        return RatedOptimizer(made)
    copies = {id(p): q for p, q in zip(original.parameters(), twin.parameters(), strict=True)}
    if not any(id(p) in copies for p in theirs):
        raise ConfigError(
            f"optimizer: {name} trains no parameter of {type(original).__name__}: give the optimizer of this "
            "model's parameters()"
        )
    return RatedOptimizer(_copied(given, copies))


def _copied(optimizer: Optimizer, parameters: dict[int, nn.Parameter]) -> Optimizer:
    """Return a copy with other parameters and no state: constructing it anew would need its arguments."""
    memo: dict[int, object] = {**parameters, id(optimizer.state): defaultdict(dict)}
    try:
        return copy.deepcopy(optimizer, memo)
    except Exception as error:  # of any kind: it is the user's own class
        raise ConfigError(
            f"optimizer: {type(optimizer).__name__} cannot be copied: {first_line(error)}; give a function "
            "from parameters to an optimizer"
        ) from error
