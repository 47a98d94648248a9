"""Attention in a graph: fused kernels, and products of weights that a softmax made of queries and keys.

Nothing is recognized by the name of a module. A softmax over the last axis is attention if its logits are a
batched product of two values and its result is multiplied by a third.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradscape.measure.core.graph.node import Edge, attribute, axes, inputs, kind, saved, shape, varying
from gradscape.measure.core.graph.walk import Graph, is_packed

FUSED = (
    "ScaledDotProductFlashAttentionForCpu", "ScaledDotProductFlashAttention",
    "ScaledDotProductEfficientAttention", "ScaledDotProductCudnnAttention",
    "ScaledDotProductFusedAttentionOverrideable",
)  # fmt: skip
SOFTMAX = ("Softmax", "SafeSoftmax")
_PRODUCTS = {"Bmm": ("self", "mat2"), "Baddbmm": ("batch1", "batch2")}
_VIEWS = frozenset(("View", "UnsafeView", "ReshapeAlias", "Expand", "Clone", "ToCopy", "Alias", "Slice"))
_MOVES = frozenset(("Permute", "Transpose", "Squeeze", "Unsqueeze"))
_MASKS = frozenset(("Add", "Sub", "MaskedFill", "Where"))
_BETWEEN = _VIEWS | _MOVES | {"Mul", "NativeDropout", "MaskedFill", "Where"}
MOST = 24  # operations from a softmax back to the product of queries and keys


@dataclass(frozen=True)
class Attention:
    """Attention that was recognized.

    Attributes:
        edge: Edge of the kernel's result, or of the softmax's.
        sources: Edges of queries, keys and values.
        product: Edge of the product of queries and keys, of those that are not fused.
        scale: Factor of that product; None where something else lies between it and the softmax.
        sum: Edge of the product of weights and values, of those that are not fused.
    """

    edge: Edge
    sources: tuple[Edge | None, ...]
    product: Edge | None = None
    scale: float | None = None
    sum: Edge | None = None

    @property
    def is_packed(self) -> bool:
        """True if a checkpoint will compute its tensors again."""
        return is_packed(self.edge, "query" if self.product is None else "result")


@dataclass(frozen=True)
class Tensors:
    """Arguments of a kernel, or what an explicit computation kept, as (B, H, …) and as far as they are there.

    Attributes:
        query: (B, H, L, D) Queries.
        key: (B, G, K, D) Keys, of as many heads or of a divisor.
        scale: Factor of their product; None where it is not known.
        weights: (B, H, L, K) Result of the softmax; None of a fused kernel.
        mask: Added to the logits, or truth values of what counts, and broadcast to them; None without.
        causal: Whether queries see no later key, by an argument of the kernel.
        value: (B, G, K, D) Values.
    """

    query: Tensor | None
    key: Tensor | None
    scale: float | None
    weights: Tensor | None
    mask: Tensor | None
    causal: bool
    value: Tensor | None


def attentions(graph: Graph) -> Iterator[Attention]:
    """Yield the attention of a graph, in the order of the forward pass.

    Args:
        graph: Graph of a pass.
    """
    for edge in graph.of_kind(*FUSED, *SOFTMAX):
        found = _fused(edge) if kind(edge) in FUSED else _explicit(graph, edge)
        if found is not None:
            yield found


def _fused(edge: Edge) -> Attention:
    return Attention(edge, tuple(inputs(edge)[:3]))


def _explicit(graph: Graph, softmax: Edge) -> Attention | None:
    sizes = shape(softmax)
    if len(sizes) < 3 or axes(softmax, len(sizes)) != (len(sizes) - 1,):
        return None
    total = graph.following(softmax, _BETWEEN, "Bmm")
    product, scale = _product_before(softmax)
    if total is None or product is None:
        return None
    pair = inputs(product)[-2:]
    return Attention(softmax, (*pair, inputs(total)[1]), product, scale, total)


def _product_before(softmax: Edge) -> tuple[Edge | None, float | None]:
    """Return the product of queries and keys before a softmax, and the factor in between."""
    edge, scale = varying(softmax)[0], 1.0
    known = True
    for _ in range(MOST):
        name = kind(edge)
        if name in _PRODUCTS:
            operands = inputs(edge)[-2:]
            known &= name == "Bmm" or (attribute(edge, "alpha"), attribute(edge, "beta")) == (1, 1)
            return (edge if None not in operands else None), scale if known else None
        before = varying(edge)
        if not before or name not in _VIEWS | _MOVES | _MASKS | {"Mul", "Div", "Tanh"}:
            return None, None
        if name in ("Mul", "Div"):
            factor = factor_of(edge)
            known &= factor is not None
            scale *= 1.0 if not factor else factor if name == "Mul" else 1 / factor
        known &= name not in ("Slice", "Tanh", "Sub", "Transpose")
        known &= name != "Permute" or _moves_nothing(edge, before[0])
        edge = before[0] if len(before) == 1 else _logits_of(before)
    return None, None


def _moves_nothing(edge: Edge, before: Edge) -> bool:
    """Return True for a permutation of axes of which only those of one element move, as einsum makes them."""
    dims = attribute(edge, "dims")
    sizes = shape(before)
    if not isinstance(dims, tuple) or len(dims) != len(sizes):
        return False
    moved = [axis % len(sizes) for axis in dims if sizes[axis] > 1]
    return moved == sorted(moved)


def _logits_of(before: list[Edge]) -> Edge:
    """Return that of several values which has most axes and numbers; the others are masks and biases."""
    return max(before, key=lambda edge: (len(shape(edge)), math.prod(shape(edge))))


def factor_of(edge: Edge) -> float | None:
    """Return the constant that a value was multiplied with or divided by; None if it is no single number.

    Args:
        edge: Edge of a product or quotient.
    """
    if len(varying(edge)) != 1:
        return None
    number = attribute(edge, "other")
    if isinstance(number, int | float):
        return float(number)
    value = saved(edge, "other")
    if value is None or value.numel() != 1 or value.device.type != "cpu":  # elsewhere it would be waited for
        return None
    return float(value)


def tensors_of(graph: Graph, found: Attention, heads: int) -> Tensors | None:
    """Return the tensors of an attention that are there to be read.

    Args:
        graph: Graph with it.
        found: Attention.
        heads: Number of heads that are joined with the samples in the first of three axes.

    Returns:
        Tensors, which share memory with those of the graph; None where they are not there.
    """
    if found.product is None:
        return _of_kernel(graph, found.edge)
    weights = graph.saved(found.edge, "result")
    if weights is None:
        return None
    lead = weights.shape[:-2]
    joined = heads if len(lead) == 1 and not lead[0] % heads else 0
    samples = lead[0] // joined if joined else lead[0]
    wide = (samples, max(1, weights[..., 0, 0].numel() // max(1, samples)))
    assert found.sum is not None
    names = _PRODUCTS[kind(found.product)]
    query, key = (_split(graph.saved(found.product, name), wide) for name in names)
    value = _split(graph.saved(found.sum, "mat2"), wide)
    fits = query is not None and key is not None and (query.shape[2], key.shape[3]) == weights.shape[-2:]
    return Tensors(
        query=query if fits else None,
        key=key.transpose(2, 3) if fits and key is not None else None,
        scale=found.scale,
        weights=weights.reshape(*wide, *weights.shape[-2:]),
        mask=None,
        causal=False,
        value=value if value is not None and value.shape[2] == weights.shape[-1] else None,
    )


def _split(value: Tensor | None, wide: tuple[int, int]) -> Tensor | None:
    """Return a batch of matrices (B·H, …) as (B, H, …); None if it has another size."""
    if value is None or value.dim() != 3 or len(value) != wide[0] * wide[1]:
        return None
    return value.reshape(*wide, *value.shape[1:])


def _of_kernel(graph: Graph, edge: Edge) -> Tensors | None:
    query, key, value = (graph.saved(edge, name) for name in ("query", "key", "value"))
    if query is None or key is None or query.dim() != 4 or key.dim() != 4 or query.shape[1] % key.shape[1]:
        return None
    masks = [graph.saved(edge, name) for name in ("attn_mask", "attn_bias")]
    scale = attribute(edge, "scale")
    return Tensors(
        query=query,
        key=key,
        scale=float(scale) if isinstance(scale, int | float) else 1 / math.sqrt(query.shape[-1]),
        weights=None,
        mask=next((mask for mask in masks if mask is not None), None),
        causal=bool(attribute(edge, "is_causal")),
        value=value,
    )


def allowed_by(mask: Tensor) -> Tensor:
    """Return truth values of a mask: what is not pushed down to nothing.

    Args:
        mask: Truth values, or numbers that are added to logits.
    """
    if mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2
