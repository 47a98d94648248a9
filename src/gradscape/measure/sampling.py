"""How far a mean over samples may be from that over all there could be: its standard error.

Over the samples themselves where a loss can be taken apart into theirs; else over parts of them in random
order, for those of a sorted batch, of one class each, differ more than chance has them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradscape.measure.batches import Batch, Loss, sample_axis
from gradscape.measure.objective import Objective

HANDFUL = 5  # of fewer no standard error is told: of two it is off by more than half every other time
SAME = 1e-4  # relative difference of the loss and the mean of the samples' own


def loss_of_each(loss: Loss, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> Tensor:
    """(N,) the loss of every sample alone, all batches in turn."""
    further = [torch.cat(same) for same in zip(*(batch.further for batch in batches), strict=True)]

    def alone(output: Tensor, *rest: Tensor) -> Tensor:
        return loss(output[None], *(each[None] for each in rest))

    found: Tensor = torch.func.vmap(alone)(torch.cat(list(outputs)), *further)
    return found.reshape(-1)


def comes_apart(objective: Objective) -> bool:
    """Whether the loss is the mean of its samples' own, and these are independent of each other."""
    loss = objective.loss
    if loss is None or (objective.normalised and objective.bn == "batch"):
        return False
    batches = objective.batches
    with torch.no_grad(), warnings.catch_warnings(action="error"):
        outputs = [objective.output(batch, objective.start) for batch in batches]
        for batch, output in zip(batches, outputs, strict=True):
            tensors = (output, *batch.further)
            if not all(isinstance(t, Tensor) and t.dim() and t.shape[0] == batch.size for t in tensors):
                return False
        try:
            mean = float(loss_of_each(loss, outputs, batches).double().mean())
        except Exception:  # of any kind: a loss of whole batches only
            return False
        weights = zip(objective.weights, batches, outputs, strict=True)
        whole = sum(weight * float(objective.loss_of(batch, output)) for weight, batch, output in weights)
    return abs(mean - whole) <= SAME * abs(whole)


def shuffled(objective: Objective, seed: int) -> Objective:
    """The same samples of every batch in random order."""
    generator = torch.Generator().manual_seed(seed)
    return objective.changed(whole=tuple(in_order(batch, generator) for batch in objective.whole))


def in_order(batch: Batch, generator: torch.Generator) -> Batch:
    """A batch in an order that is drawn."""
    order = torch.randperm(batch.size, generator=generator)

    def put(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: put(each) for name, each in value.items()}
        axis = sample_axis(value, batch.size) if isinstance(value, Tensor) else None
        return value if axis is None else value.index_select(axis, order.to(value.device))

    return replace(batch.mapped(put), further=tuple(put(value) for value in batch.further))
