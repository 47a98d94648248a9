"""Find out from its graph whether a network is linear: layers in a row, and nothing else between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from dataclasses import dataclass

from torch import Tensor

from gradscape.measure.core.graph.chain import is_leaf, of_leaf
from gradscape.measure.core.graph.node import (
    UNREADABLE,
    Edge,
    edge_of,
    inputs,
    is_number,
    kind,
    saved,
    varying,
)

MOST = 600  # nodes that are looked at: a nonlinear network ends the search at its last layers
# Products of a layer's input and its weight → places of both among what the node was computed from.
_PRODUCTS = {
    "Addmm": (1, 2), "Mm": (0, 1), "Convolution": (0, 1), "MkldnnConvolution": (0, 1), "Linear": (0, 1),
    "MkldnnLinear": (0, 1), "ConvDepthwise2D": (0, 1), "ConvDepthwise3D": (0, 1), "SlowConv2D": (0, 1),
}  # fmt: skip
# What is linear in the one tensor that it was computed from, for weights and statistics as they are.
_LINEAR = frozenset(
    (
        "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Slice",
        "Select", "Clone", "Alias", "ToCopy", "Contiguous", "Expand", "Cat", "Mean", "Sum", "AvgPool2D",
        "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D", "ConstantPadNd",
        "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleBilinear2D", "NativeDropout", "NativeBatchNorm",
        "CudnnBatchNorm", "MiopenBatchNorm", "Neg", "Repeat", "Split", "Add", "Sub",
    )
)  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    """Layer of the graph: its weight and the value that it is applied to, None of a tensor without graph."""

    weight: Tensor
    given: Edge | None


def linear_widths(root: Tensor, matrices: Set[int] = frozenset()) -> tuple[int, ...]:
    """Return the widths of layers in a row, of a network with nothing nonlinear between its layers.

    The layers are those of the longest way through the graph. BatchNorm and dropout count as linear, which
    they are in eval mode; a norm over features, a product of two values and what cannot be read do not.

    Args:
        root: Loss whose backward pass is about to begin.
        matrices: Ids of the model's parameters of two axes or more: all of them, and those that the loss
            depends on, have to be weights of such layers.

    Returns:
        Numbers of features or channels from the input to the output, one more than layers; empty where the
        network is not linear, or that cannot be told.
    """
    try:
        edge = edge_of(root)
        weights = () if edge is None else _stack(edge, matrices)
        return (int(weights[0].shape[1]), *(int(each.shape[0]) for each in weights)) if weights else ()
    except UNREADABLE:  # a form that no one thought of must not end a training
        return ()


def _stack(root: Edge, matrices: Set[int]) -> tuple[Tensor, ...]:
    """Return the weights of layers in a row, input to output; empty where the network is not linear."""
    last, met = _last_layers(root)
    before: dict[Edge, list[Edge]] = {}
    layers: dict[Edge, _Layer] = {}
    remaining = deque(last)
    while remaining:
        edge = remaining.popleft()
        if edge in before:
            continue
        inner = _linear_inputs(edge)
        if inner is None or len(before) > MOST:
            return ()
        if (layer := _layer(edge)) is not None:
            layers[edge] = layer
        before[edge] = inner
        remaining += inner
    known = {id(layer.weight) for layer in layers.values()}
    if not matrices | {id(leaf) for leaf in met if leaf.dim() > 1} <= known:
        return ()
    return _longest(before, layers)


def _last_layers(root: Edge) -> tuple[list[Edge], list[Tensor]]:
    """Return the layers that are the nearest to a loss on each way, and the leaves that are nearer."""
    found: list[Edge] = []
    leaves: list[Tensor] = []
    seen, remaining = {root}, deque([root])
    while remaining:
        edge = remaining.popleft()
        if _layer(edge) is not None:
            found.append(edge)
            continue
        if is_leaf(edge):
            leaves.append(edge.node.variable)
        for each in varying(edge):
            if each not in seen:
                seen.add(each)
                remaining.append(each)
        if len(seen) > MOST:
            return [], []
    return found, leaves


def _layer(edge: Edge) -> _Layer | None:
    """Return the layer that a node computes: a product with a leaf; None for any other node."""
    places = _PRODUCTS.get(kind(edge))
    if places is None:
        return None
    given, weight = (inputs(edge)[place] for place in places)
    if weight is None or not of_leaf(weight) or (given is not None and of_leaf(given)):
        return None
    leaf = _leaf_of(weight)
    return None if leaf is None or leaf.dim() < 2 else _Layer(leaf, given)


def _leaf_of(edge: Edge) -> Tensor | None:
    """Return the leaf that a value is a view of; None where it is another function of it."""
    while not is_leaf(edge):
        if kind(edge) not in ("T", "Transpose", "View", "Unsqueeze", "Squeeze", "ToCopy", "Clone"):
            return None
        (edge,) = varying(edge)
    leaf = edge.node.variable
    return leaf if isinstance(leaf, Tensor) else None


def _linear_inputs(edge: Edge) -> list[Edge] | None:
    """Return the values that a node is linear in, without leaves; None where it is not, or is not known."""
    if (layer := _layer(edge)) is not None:
        return [] if layer.given is None else [layer.given]
    name, before = kind(edge), varying(edge)
    grown = [each for each in before if not of_leaf(each)]
    if name in ("Add", "Sub") and any(each is None for each in inputs(edge)):
        return None  # what a constant tensor holds is not known: it may be computed from the value itself
    if name in _LINEAR:
        return grown
    if name in ("Mul", "Div") and len(grown) == 1 and (len(before) == 2 or _by_constant(edge)):
        return grown if inputs(edge)[0] == grown[0] or name == "Mul" else None
    return None


def _by_constant(edge: Edge) -> bool:
    """Return True for a product with a number, or with the mask of a dropout, all of whose scales are one."""
    other = saved(edge, "other")
    if other is None or is_number(other):
        return True  # a number of Python is not saved at all
    if other.device.type != "cpu" or kind(edge) != "Mul":
        return False  # the mask of a dropout is another node there
    largest = other.max()
    return bool(largest > 1 and ((other == 0) | (other == largest)).all())


def _longest(before: dict[Edge, list[Edge]], layers: dict[Edge, _Layer]) -> tuple[Tensor, ...]:
    """Return the weights of the longest way through a graph of linear nodes."""
    ways: dict[Edge, tuple[Tensor, ...]] = {}
    for edge in sorted(before, key=lambda each: each.node._sequence_nr()):
        way = max((ways.get(each, ()) for each in before[edge]), key=len, default=())
        ways[edge] = (*way, layers[edge].weight) if edge in layers else way
    return max(ways.values(), key=len, default=())
