"""Smoothness within a training: on a step's own mini-batch, at the price of two gradients more."""

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
MULTIPLES = (0.5, 4.0)  # of the learning rate: the ends of the range of Santurkar et al. (2018), Fig. 4


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
    """What loss and gradient do along a training's step, on its own mini-batch, BatchNorm as in training.

    Args:
        model: after the step; it is left as found.
        loss: loss(output, y).
        batch: (x, y) of the step.
        before: the parameters before it.
        known: loss and gradient there, of which it was made; None to compute them anew, in float32 and
            without dropout.
        direction: `gradient`; `step`, the step that was made over the learning rate; or `relative`, the
            gradient where every parameter is measured in its own size: see `gradscape.smoothness`.
        lr: of the step.
        step: its number.
    """
    objective = Objective(model, loss, batch)
    after = objective.vector(objective.start)
    objective.start = tuple(before)
    start = objective.vector(before)
    value, slope = objective.gradient() if known is None else (known[0], objective.vector(known[1]))
    if direction == "relative":
        line = replace(relative(objective, value, slope), along=direction)
    else:
        way = slope if direction == "gradient" else (start - after) / lr
        line = along(objective, value, slope, way, lr * np.array(MULTIPLES), direction)
    return StepSmoothness(step, lr, norm(slope), norm(start), line)
