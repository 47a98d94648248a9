"""Smoothness during training, on a step's own mini-batch, for two additional gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from torch import Tensor, nn

from gradscape.measure.core.batch import Loss
from gradscape.measure.core.objective import Objective, norm
from gradscape.measure.smoothness.smoothness import along, relative
from gradscape.records.smoothness import StepSmoothness

Direction = Literal["gradient", "step", "relative"]
MULTIPLES = (0.5, 4.0)  # of the learning rate: the range of Santurkar et al. (2018), Fig. 4


def step_smoothness(
    model: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, Tensor],
    before: Sequence[Tensor],
    known: tuple[float, Sequence[Tensor]] | None,
    direction: Direction,
    lr: float,
    step: int,
) -> StepSmoothness:
    """Measure the smoothness of a training step on its own mini-batch, with BatchNorm as in training.

    Args:
        model: Network after the step; it is not changed.
        loss: Function loss(output, y).
        batch: (x, y) of the step.
        before: Parameters before the step.
        known: Loss and gradient at these parameters, from which the step was made; None to compute them
            again, in float32 and without dropout.
        direction: `gradient`; `step`, the step made over the learning rate; or `relative`, the gradient with
            every parameter measured in its own size, see `gradscape.smoothness`.
        lr: Learning rate of the step.
        step: Number of the step.
    """
    objective = Objective(model, loss, batch)
    after = objective.vector(objective.start)
    objective.start = tuple(before)
    start = objective.vector(before)
    value, gradient = objective.gradient() if known is None else (known[0], objective.vector(known[1]))
    if direction == "relative":
        line = replace(relative(objective, value, gradient), along=direction)
    else:
        towards = gradient if direction == "gradient" else (start - after) / lr
        line = along(objective, value, gradient, towards, lr * np.array(MULTIPLES), direction)
    return StepSmoothness(step, lr, norm(gradient), norm(start), line)
