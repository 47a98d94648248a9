"""Entropy, largest logit, likeness and size of attention heads, from a few queries of a few samples.

The kernel's own queries and keys are multiplied once more, without gradients; nothing that the model computes
is touched.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.graph.attention import Tensors, allowed_by, attentions, tensors_of
from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.core.graph.walk import Graph
from gradscape.measure.core.layer_trace import numbered

QUERIES = 16  # of each sample, evenly spaced, the last one among them
SAMPLES = 4
MOST = 2**24  # numbers of keys that are read, which is the memory that reading takes
SMALLEST = 1e-30  # weight whose logarithm is taken: below it float32 has few digits left
COLUMNS = ("entropy", "uniform", "logit", "alike", "output")


@dataclass(frozen=True)
class _Sample:
    """Attention of the queries that are read.

    Attributes:
        weights: (S, H, Q, K) Weights.
        logits: (S, H, Q, K) Scaled products of queries and keys; None where they are not known.
        allowed: Truth values, broadcast to those shapes: keys that a query may attend to.
        value: (S, H, K, D) Values; None where they are not there.
    """

    weights: Tensor
    logits: Tensor | None
    allowed: Tensor
    value: Tensor | None


def read_attention(
    graph: Graph, owners: Owners, known: Collection[str] = ()
) -> tuple[dict[str, Tensor], bool]:
    """Read all attention of a graph.

    Args:
        graph: Graph of a pass.
        owners: Modules of the model.
        known: Attention that has been read already.

    Returns:
        Numbers (5, H) of `COLUMNS` for each attention, by its module; whether a checkpoint keeps some back.
    """
    found: dict[str, Tensor] = {}
    packed = False
    calls: dict[str, int] = {}
    for place, each in enumerate(attentions(graph)):
        if each.is_packed and not graph.rerun:
            packed = True
            continue
        name = owners.module_of(owners.nearest(graph, each.sources[:2])) or f"attention {place + 1}"
        if name in known:
            continue
        module = owners.modules.get(name)
        given = tensors_of(graph, each, module.num_heads if isinstance(module, nn.MultiheadAttention) else 1)
        if given is not None:
            calls[name] = calls.get(name, 0) + 1
            found[numbered(name, calls[name])] = head_numbers(given)
    return found, packed


@torch.no_grad()
def head_numbers(given: Tensors) -> Tensor:
    """Return `COLUMNS` of each head, (5, H), on their device.

    Args:
        given: Tensors of an attention.
    """
    sample = _of_kernel(given) if given.weights is None else _of_weights(given, given.weights)
    weights, allowed = sample.weights, sample.allowed.expand(sample.weights.shape)
    keys = allowed.sum(-1)
    counted = (keys > 1).to(weights.dtype)
    queries = counted.sum((0, 2))
    entropy = (-torch.special.xlogy(weights, weights).sum(-1) * counted).sum((0, 2)) / queries
    uniform = (keys.clamp(min=1).to(weights.dtype).log() * counted).sum((0, 2)) / queries
    unknown = torch.full_like(entropy, math.nan)
    scores = weights.clamp(min=SMALLEST).log() if sample.logits is None else sample.logits
    logit = unknown
    if sample.logits is not None:
        logit = sample.logits.masked_fill(~(allowed & (weights > 0)), -math.inf).amax((0, 2, 3))
    output = unknown
    if sample.value is not None:
        output = (weights @ sample.value).square().mean((0, 2, 3)).sqrt()
    return torch.stack([entropy, uniform, logit, _likeness(scores, allowed), output])


def _likeness(scores: Tensor, allowed: Tensor) -> Tensor:
    """Return of each head the largest correlation of its logits with another's, (H,).

    A constant added to all logits of a query changes no weight: each row's mean is taken off.
    """
    heads = scores.shape[1]
    if heads < 2:
        return scores.new_full((heads,), math.nan)
    count = allowed.sum(-1, keepdim=True).clamp(min=1)
    mean = torch.where(allowed, scores, 0).sum(-1, keepdim=True) / count
    rows = torch.where(allowed, scores - mean, 0).transpose(0, 1).reshape(heads, -1)
    rows = rows / rows.norm(dim=1, keepdim=True)
    alike = rows @ rows.T
    largest: Tensor = alike.fill_diagonal_(-1).nan_to_num(nan=-1).amax(1)
    return largest


def _of_kernel(given: Tensors) -> _Sample:
    """Compute logits and weights of some queries from what a fused kernel was given."""
    assert given.query is not None
    assert given.key is not None
    assert given.scale is not None
    query, key = local(given.query), local(given.key)
    samples, rows = _samples(key), _rows(query.shape[2], query.device)
    heads, keys = query.shape[1], key.shape[2]
    logits = _wide(query[:samples, :, rows]) @ _wide(_repeated(key[:samples], heads)).transpose(2, 3)
    logits = logits * given.scale
    allowed = torch.ones(len(rows), keys, dtype=torch.bool, device=query.device)
    if given.causal:
        allowed = torch.arange(keys, device=query.device) <= rows[:, None]
    biased = logits
    if given.mask is not None:
        mask = _of_rows(local(given.mask), rows, samples, query.shape[2])
        allowed = allowed & allowed_by(mask)
        biased = logits if mask.dtype == torch.bool else logits + mask
    weights = biased.masked_fill(~allowed, -math.inf).softmax(-1).nan_to_num(nan=0)
    return _Sample(weights, logits, allowed, _values(given, samples, heads))


def _of_weights(given: Tensors, weights: Tensor) -> _Sample:
    """Take the weights of some queries, and compute their logits as far as queries and keys are there."""
    weights = local(weights)
    length, keys = weights.shape[2:]
    samples, rows = _samples(weights[:, :, 0]), _rows(length, weights.device)
    weights = _wide(weights[:samples, :, rows])
    later = torch.arange(keys, device=weights.device) > rows[:, None]
    # Masks are not kept: attention that never looks ahead is causal, which the device alone knows.
    causal = (weights.masked_fill(~later, 0) == 0).all() & (length == keys)
    logits = None
    if given.query is not None and given.key is not None and given.scale is not None:
        logits = _wide(given.query[:samples, :, rows]) @ _wide(given.key[:samples]).transpose(2, 3)
        logits = logits * given.scale
    return _Sample(weights, logits, ~(later & causal), _values(given, samples, weights.shape[1]))


def _values(given: Tensors, samples: int, heads: int) -> Tensor | None:
    if given.value is None or heads % given.value.shape[1]:
        return None
    return _wide(_repeated(local(given.value)[:samples], heads))


def _samples(keys: Tensor) -> int:
    """Return the number of samples that are read, less of long sequences."""
    return max(1, min(SAMPLES, len(keys), MOST // max(1, keys[0].numel())))


def _rows(length: int, device: torch.device) -> Tensor:
    """Return the places of the queries that are read."""
    number = min(QUERIES, length)
    return (torch.arange(1, number + 1, device=device) * length) // number - 1


def _of_rows(mask: Tensor, rows: Tensor, samples: int, length: int) -> Tensor:
    """Return the part of a mask for some queries, of the samples that are read."""
    if mask.dim() == 4 and len(mask) > 1:
        mask = mask[:samples]
    return mask[..., rows, :] if mask.dim() > 1 and mask.shape[-2] == length else mask


def _repeated(values: Tensor, heads: int) -> Tensor:
    """Return keys or values for each head, of groups of heads that share them."""
    return values.repeat_interleave(heads // values.shape[1], 1) if values.shape[1] != heads else values


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
