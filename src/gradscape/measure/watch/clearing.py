"""Find out whether gradients are cleared between the steps that use them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.gradient_statistics import local

LOOKED_AT = 32  # steps of which it is found out, the first ones
PARAMETERS = 8  # parameters that are looked at, of all that are watched


class Clearing:
    """Marks of gradients: a step whose `.grad` nobody has emptied since the last one adds to the old sum.

    Between two steps of a parameter, some call sets `.grad` to None or writes zeros into it, which increases
    the tensor's version. So does what autograd adds in a backward pass: marks are made anew at its end.

    Attributes:
        steps: Number of steps that were looked at.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._marks: dict[int, tuple[Any, int]] = {}  # after its last step or pass
        self._old: dict[int, Tensor] = {}  # largest element of what was left, on the device
        self._cleared: set[int] = set()
        self._kept: list[Tensor] = []  # one for each step that kept gradients: whether they were not all zero

    @property
    def kept(self) -> int:
        """Number of steps whose gradients were added to those of a step before; waits for the device."""
        return sum(bool(each) for each in self._kept)

    @property
    def done(self) -> bool:
        """True once enough steps were looked at."""
        return self.steps >= LOOKED_AT

    def before_pass(self, parameters: Sequence[nn.Parameter]) -> None:
        """Compare gradients with their marks when a backward pass begins.

        Args:
            parameters: Watched parameters.
        """
        for place, (reference, version) in self._marks.items():
            gradient = parameters[place].grad
            if gradient is None or reference() is not gradient or gradient._version != version:
                self._cleared.add(place)
            elif place not in self._old:
                self._old[place] = local(gradient.detach()).abs().amax()

    def after_pass(self, parameters: Sequence[nn.Parameter]) -> None:
        """Mark what a backward pass has left.

        Args:
            parameters: Watched parameters.
        """
        self._mark(parameters, self._marks)

    def before_step(self, places: Iterable[int]) -> None:
        """Find out whether the gradients of a step were cleared since the step before.

        Args:
            places: Indices of the step's parameters.
        """
        looked = [place for place in places if place in self._marks]
        if not looked:
            return
        self.steps += 1
        if not self._cleared.intersection(looked) and all(place in self._old for place in looked):
            self._kept.append(torch.stack([self._old[place].float().cpu() for place in looked]).max() > 0)

    def after_step(self, parameters: Sequence[nn.Parameter], places: Sequence[int]) -> None:
        """Mark the gradients that a step has used, and left.

        Args:
            parameters: Watched parameters.
            places: Indices of the step's parameters.
        """
        chosen = places[:: -(-len(places) // PARAMETERS)] if places else []
        for place in chosen:
            self._old.pop(place, None)
            self._cleared.discard(place)
        self._mark(parameters, chosen)

    def _mark(self, parameters: Sequence[nn.Parameter], places: Iterable[int]) -> None:
        for place in list(places):
            gradient = parameters[place].grad
            if gradient is None:
                self._marks.pop(place, None)
                self._cleared.add(place)
            else:
                self._marks[place] = weakref.ref(gradient), gradient._version

    def forget(self) -> None:
        """Forget all marks, as when other parameters are watched."""
        self._marks, self._old = {}, {}
        self._cleared = set()
