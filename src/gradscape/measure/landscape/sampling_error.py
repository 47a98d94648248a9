"""How far a mean over samples may be from that over all there could be: its standard error.

Over the samples themselves where a loss can be taken apart into theirs; else over parts of them in random
order, for those of a sorted batch, of one class each, differ more than chance has them.
"""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.batch import Batch, Loss, sample_axis
from gradscape.measure.core.containers import mapped, tensors
from gradscape.measure.core.objective import Objective

HANDFUL = 5  # of fewer no standard error is told: of two it is off by more than half every other time
SAME = 1e-4  # relative difference of the loss and the mean of the samples' own
Apart = Callable[[Sequence[Tensor], Sequence[Batch]], Tensor]  # outputs of batches → (N,) losses


def taken_apart(objective: Objective) -> Apart | None:
    """The loss of every sample; None where the loss is no mean of these, or samples act on each other."""
    loss = objective.loss
    batches = objective.batches
    alike = {tuple(t.shape[1:] for t in tensors((b.given, b.further))) for b in batches}
    calls = any(batch.calling is not None for batch in batches)
    if loss is None or calls or len(alike) > 1 or (objective.norms and objective.bn == "batch"):
        return None
    batch, found = batches[0], _of_each(loss)
    with torch.no_grad(), objective.at(objective.start):
        output = objective.output(batch)
        if not all(
            isinstance(t, Tensor) and t.dim() and len(t) == batch.size for t in (output, *batch.further)
        ):
            return None
        try:
            with warnings.catch_warnings(action="error"):
                mean, whole = (
                    float(found([output], [batch]).double().mean()),
                    float(loss(output, *batch.further)),
                )
        except Exception:  # of any kind: a loss of whole batches only
            return None
    return found if abs(mean - whole) <= SAME * abs(whole) else None


def _of_each(loss: Loss) -> Apart:
    """A loss's own way to leave its samples apart; else sample by sample, vectorized."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        single: Loss = copy.copy(loss)
        single.reduction = "none"  # type: ignore[attr-defined]
    elif not isinstance(loss, nn.Module) and "reduction" in _parameters_of_call(loss):
        single = functools.partial(loss, reduction="none")
    else:

        def alone(output: Tensor, *rest: Tensor) -> Tensor:
            return loss(output[None], *(each[None] for each in rest))

        single = torch.func.vmap(alone)

    def apart(outputs: Sequence[Tensor], batches: Sequence[Batch]) -> Tensor:
        further = [torch.cat(same) for same in zip(*(batch.further for batch in batches), strict=True)]
        found = single(torch.cat(list(outputs)), *further)
        return found.flatten(1).mean(1) if found.dim() > 1 else found

    return apart


def _parameters_of_call(function: Loss) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return {}


def shuffled(objective: Objective, seed: int) -> Objective:
    """The same samples in random order, of each batch that can be cut: nodes of a graph have their places."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        whole = tuple(
            _in_random_order(batch, generator) if len(objective.parts(batch)) > 1 else batch
            for batch in objective.whole
        )
    return objective.changed(whole=whole)


def _in_random_order(batch: Batch, generator: torch.Generator) -> Batch:
    """A batch whose samples change places."""
    order = torch.randperm(batch.size, generator=generator)

    def put(value: Tensor) -> Tensor:
        axis = sample_axis(value, batch.size)
        return value if axis is None else value.index_select(axis, order.to(value.device))

    return replace(batch.mapped(put), further=mapped(batch.further, put))
