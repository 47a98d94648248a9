"""Standard error of a mean loss, as an estimate over all possible samples.

It is over single samples if the loss is a mean of their losses, otherwise over parts in random order: parts
of a sorted batch, one class each, would differ by more than chance.
"""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.batch import Batch, Loss, sample_axis
from gradscape.measure.core.containers import mapped, tensors
from gradscape.measure.core.objective import Objective

HANDFUL = 5  # minimum for a standard error: from two values, every other one is wrong by more than half
SAME = 1e-4  # largest relative difference between the loss and the mean over single samples
Apart = Callable[[Sequence[Tensor], Sequence[Batch]], Tensor]  # outputs of batches → (N,) losses


def split_by_sample(objective: Objective) -> Apart | None:
    """Return a function for the loss of every sample; None if samples interact or the loss is no mean.

    Args:
        objective: Loss and its batches.
    """
    loss = objective.loss
    batches = objective.batches
    alike = {tuple(t.shape[1:] for t in tensors((b.given, b.further))) for b in batches}
    calls = any(batch.calling is not None for batch in batches)
    if loss is None or calls or len(alike) > 1 or (objective.norms and objective.bn == "batch"):
        return None
    batch = batches[0]
    with torch.no_grad(), objective.at(objective.start):
        output = objective.output(batch)
        if not all(
            isinstance(t, Tensor) and t.dim() and len(t) == batch.size for t in (output, *batch.further)
        ):
            return None
        try:
            whole = float(loss(output, *batch.further))
        except Exception:  # any type: it is told when the loss is looked at
            return None
        for apart in map(_of_samples, _per_sample(loss)):
            try:
                with warnings.catch_warnings(action="error"):
                    losses = apart([output], [batch]).double()
            except Exception:  # any type: the loss needs whole batches
                continue
            if losses.shape == (batch.size,) and abs(float(losses.mean()) - whole) <= SAME * abs(whole):
                return apart
    return None


def _per_sample(loss: Loss) -> Iterator[Loss]:
    """Yield the loss with reduction "none" if it has one, which it may not heed; then vectorized."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        single: Loss = copy.copy(loss)
        single.reduction = "none"  # type: ignore[attr-defined]
        yield single
    elif not isinstance(loss, nn.Module) and "reduction" in _parameters_of_call(loss):
        yield functools.partial(loss, reduction="none")

    def of_one(output: Tensor, *rest: Tensor) -> Tensor:
        return loss(output[None], *(tensor[None] for tensor in rest))

    yield torch.func.vmap(of_one)


def _of_samples(single: Loss) -> Apart:
    """Return a function for the losses (N,) of several batches' samples."""

    def sample_losses(outputs: Sequence[Tensor], batches: Sequence[Batch]) -> Tensor:
        further = [torch.cat(same) for same in zip(*(batch.further for batch in batches), strict=True)]
        losses = single(torch.cat(list(outputs)), *further)
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    return sample_losses


def _parameters_of_call(function: Loss) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # builtins have no signature
        return {}


def shuffled(objective: Objective, seed: int) -> Objective:
    """Return the objective with each batch in random order, unless its samples have fixed places.

    Args:
        objective: Loss and its batches; nodes of a graph, for instance, have fixed places.
        seed: Seed of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        whole = tuple(
            _in_random_order(batch, generator) if len(objective.parts(batch)) > 1 else batch
            for batch in objective.whole
        )
    return objective.changed(whole=whole)


def _in_random_order(batch: Batch, generator: torch.Generator) -> Batch:
    """Permute the samples of a batch."""
    order = torch.randperm(batch.size, generator=generator, device="cpu")

    def put(value: Tensor) -> Tensor:
        axis = sample_axis(value, batch.size)
        return value if axis is None else value.index_select(axis, order.to(value.device))

    return replace(batch.mapped(put), further=mapped(batch.further, put))
