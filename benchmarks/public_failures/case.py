"""A case: a public report of a training that fails, rebuilt, and its repaired twin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

# Kinds of cause. A case names all that its report, its accepted answer or its code bear out.
KINDS = {
    "output": "the output's activation or width does not fit the loss or the targets",
    "loss": "a loss for another task, or one that does not fit the form of the targets",
    "shapes": "shapes that broadcast, a wrong axis, batch and time exchanged",
    "hidden": "hidden activations that saturate, die, or are missing",
    "architecture": "a bottleneck, layers left out or added, a mask or a residual that is wrong",
    "initialization": "weights that begin too small, too large, or equal",
    "rate": "the learning rate or the optimizer",
    "steps": "too few steps: epochs, or the size of the batch",
    "inputs": "inputs that are not scaled, constant, or not finite",
    "targets": "targets that are not scaled, out of range, wrong, or of one class",
    "regularization": "weight decay, a penalty or dropout that outweighs the loss",
    "untrained": "parameters outside the optimizer, the graph or the model, or frozen",
    "mode": "train or eval mode, the statistics of BatchNorm",
    "loop": "gradients that are not cleared, clipping, the order of calls, a schedule",
    "sampling": "batches that are not shuffled, or equal",
    "precision": "half precision: what it rounds, or what overflows",
    "leak": "the output depends on what it must not see",
    "collapse": "an objective that a constant, or one player of two, satisfies",
    "metric": "the training is right, and its score is not",
}


@dataclass
class Training:
    """A training about to begin.

    Attributes:
        model: Its model.
        optimizer: Its optimizer, or several.
        step: Trains once, given the number of the step from 0; returns the loss.
        score: How good the model is now, higher is better, on data that it is not trained on where the report
            has such; leaves mode, gradients and random numbers as they are.
        batch, loss: What `gs.check` takes: a batch (x, y), and a function of output and y; None where the
            report's loop is more than that.
    """

    model: nn.Module
    optimizer: Optimizer | list[Optimizer]
    step: Callable[[int], Tensor | float]
    score: Callable[[], float]
    batch: tuple[Any, Any] | None = None
    loss: Callable[[Any, Any], Tensor] | None = None


@dataclass(frozen=True)
class Case:
    """A public failure.

    Attributes:
        id: Set and number, such as `deepmufl/31880720`.
        kinds: Kinds of cause, of `KINDS`, the main one first.
        place: Layer, argument or part of the loop that is at fault, in a word that a good verdict contains,
            such as `output`, `lr` or the name of a module.
        fault: The fault, in a sentence.
        cure: What the twin has instead.
        steps: Steps of a training.
        build: Training from `fixed` and a seed, which draws weights, data and batches.
        marks: Published marks: letter of each tool that detected it.
        departs: Where the rebuild departs from the report: smaller sizes, data in place of data.
        fixed_steps: Steps of the twin, where their number is what is repaired; else as many.
        causal: Whether no place may see later ones, which its user would tell a check.
    """

    id: str
    kinds: tuple[str, ...]
    place: str
    fault: str
    cure: str
    steps: int
    build: Callable[[bool, int], Training]
    marks: str = ""
    departs: str = ""
    fixed_steps: int | None = None
    causal: bool = False

    def steps_of(self, fixed: bool) -> int:
        """Return the number of steps of the case or of its twin."""
        return self.fixed_steps if fixed and self.fixed_steps else self.steps

    @property
    def set(self) -> str:
        """Name of its set."""
        return self.id.partition("/")[0]

    @property
    def held_out(self) -> bool:
        """Whether limits must not be set on it: half of all cases, by a hash of the id."""
        return hashlib.sha256(self.id.encode()).digest()[0] % 2 == 1
