"""Optimizers of a copy, as the user's but with a learning rate that a range test sets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradscape.errors import ConfigError
from gradscape.measure.core.copied_optimizer import Steppers
from gradscape.measure.core.parameters import number

SETTINGS = ("momentum", "weight_decay")  # which a description names


class RatedOptimizer:
    """Optimizers whose groups keep the ratio of their learning rates to the first group's.

    Args:
        steppers: Optimizers of a copy.

    Raises:
        ConfigError: Its first group has no learning rate above 0.
    """

    def __init__(self, steppers: Steppers) -> None:
        self.steppers, name = steppers, type(steppers.optimizers[0]).__name__
        rates = [number(group.get("lr")) for group in steppers.groups]
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
            ConfigError: An optimizer fails.
        """
        for group, ratio in zip(self.steppers.groups, self.ratios, strict=True):
            if not math.isnan(ratio):
                lr = group["lr"]  # a tensor is replaced, not written to: it may be the user's
                group["lr"] = torch.full_like(lr, ratio * rate) if isinstance(lr, Tensor) else ratio * rate
        self.steppers.step()

    @property
    def described(self) -> str:
        """Names of the optimizers, and settings of the first group that are not 0."""
        group = self.steppers.groups[0]
        words = [f"{name.replace('_', ' ')} {group[name]}" for name in SETTINGS if group.get(name)]
        return " ".join([self.steppers.name, *([f"({', '.join(words)})"] if words else [])])

    @property
    def note(self) -> list[str]:
        """Note on groups with another rate than the first, in a list, or an empty list."""
        if len(set(self.ratios)) == 1:
            return []
        ratios = ", ".join(f"{ratio:.3g}" for ratio in self.ratios)
        return [f"rates are those of the first group; groups keep their ratios to it, {ratios}"]
