"""Operations between the last layer with weights and a value, read back from the graph."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator

from torch import Tensor

from gradscape.measure.core.graph.node import Edge, attribute, axes, inputs, kind, saved, shape, varying
from gradscape.records.loss import Operation

MOST = 64  # operations without weights that a chain is read for

# Beginnings of names of nodes that are layers with weights, or that no reading goes into.
_LAYERS = (
    "Addmm", "Addmv", "Addbmm", "Addr", "Mm", "Mv", "Bmm", "Baddbmm", "Dot", "Linear", "MkldnnLinear",
    "Convolution", "MkldnnConvolution", "SlowConv", "ThnnConv", "ConvDepthwise", "Embedding", "Trilinear",
    "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "BatchNorm", "NativeLayerNorm", "NativeGroupNorm",
    "FusedRmsNorm", "RmsNorm", "CudnnRnn", "MiopenRnn", "MkldnnRnn", "ThnnFused", "LstmMps", "Scaled",
    "Cdist", "EuclideanDist", "ScaledMm", "SparseAddmm", "GroupedMm",
    "CompiledFunction", "CheckpointFunction", "AccumulateGrad", "Error", "GraphRoot", "UndefinedGrad",
)  # fmt: skip
_LAYER = re.compile(rf"_*({'|'.join(_LAYERS)})")
_OPAQUE = re.compile(r"_*(CompiledFunction|CheckpointFunction)")

# Names as in torch.nn.functional or torch where the graph has others.
_NAMES = {
    "UnsafeView": "view", "ReshapeAlias": "view", "ViewAsReal": "view", "T": "transpose", "ToCopy": "to",
    "ClampMin": "clamp", "ClampMax": "clamp", "Rsub": "sub", "LogSigmoid": "logsigmoid",
    "NativeDropout": "dropout", "PreluKernel": "prelu", "CopyBackwards": "to",
}  # fmt: skip
_UNCHANGED = {"Alias", "Clone", "Contiguous", "Identity", "DDPSink", "_DDPSink"}
_VIEWS = {"View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias", "Clone"}


def is_layer(edge: Edge) -> bool:
    """Return True for a layer with weights, a leaf, or a function that cannot be read into.

    Args:
        edge: Edge.
    """
    return bool(_LAYER.match(kind(edge))) or _splits_rows(edge) or _adds_bias(edge) or _scales_by_leaf(edge)


def nearest(root: Edge) -> Iterator[Edge]:
    """Yield a loss's edge and those before it, the nearest first, as far as the last layers and the leaves.

    Args:
        root: Edge of the loss.
    """
    seen, remaining = {root}, deque([root])
    while remaining and len(seen) <= MOST:
        edge = remaining.popleft()
        if is_layer(edge) or is_leaf(edge):
            continue
        yield edge
        new = [each for each in varying(edge) if each not in seen]
        seen.update(new)
        remaining += new


def is_opaque(edge: Edge) -> bool:
    """Return True for a compiled or checkpointed function, whose inside the graph does not have.

    Args:
        edge: Edge.
    """
    return bool(_OPAQUE.match(kind(edge)))


def is_leaf(edge: Edge) -> bool:
    """Return True for a leaf of the graph, such as a parameter.

    Args:
        edge: Edge.
    """
    return kind(edge) == "AccumulateGrad"


def _adds_bias(edge: Edge) -> bool:
    """Return True for the sum of a layer's product and its bias."""
    before = varying(edge)
    if kind(edge) != "Add" or len(before) != 2:
        return False
    return any(is_leaf(bias) and _is_product(product) for bias, product in (before, before[::-1]))


def _is_product(edge: Edge) -> bool:
    return is_layer(edge) or _splits_rows(edge)


def _splits_rows(edge: Edge) -> bool:
    """Return True for the view that ends a linear layer with inputs of more than two axes."""
    before = varying(edge)
    if kind(edge) not in ("View", "UnsafeView") or len(before) != 1 or kind(before[0]) not in ("Mm", "Addmm"):
        return False
    return shape(edge)[-1:] == shape(before[0])[-1:]


def _scales_by_leaf(edge: Edge) -> bool:
    """Return True for the product with a weight of several values; one value is a temperature."""
    return kind(edge) == "Mul" and any(is_leaf(each) and _count(shape(each)) > 1 for each in varying(edge))


def operations_before(edge: Edge | None) -> tuple[Operation, ...]:
    """Return the operations from the last layer with weights to a value, in the order of computing.

    Args:
        edge: Edge of the value; the operation that made it is the last one.
    """
    return tuple(reversed([told for _, _, told in _chain(edge) if told]))


def class_axes(edge: Edge | None, axis: int | None) -> tuple[int | None, ...]:
    """Return, for each of a value's operations, the axis of its result that becomes an axis of the value.

    Args:
        edge: Edge of the value.
        axis: Its axis.
    """
    found: list[int | None] = []
    for node, before, told in _chain(edge):
        if told:
            found.append(axis)
        axis = None if axis is None or before is None else _axis_before(node, before, axis)
    return tuple(reversed(found))


def _axis_before(edge: Edge, before: Edge, axis: int) -> int | None:
    """Return the axis of a node's input that becomes an axis of its result."""
    name, size, inner = kind(edge), shape(edge), shape(before)
    if name == "Permute":
        dims = attribute(edge, "dims")
        return int(dims[axis]) % len(size)
    if name in ("Transpose", "T"):
        ends = [attribute(edge, each) for each in ("dim0", "dim1")] if name == "Transpose" else [0, 1]
        first, second = (int(each) % len(size) for each in ends)
        return {first: second, second: first}.get(axis, axis)
    if name == "Expand":
        return axis - len(size) + len(inner) if axis >= len(size) - len(inner) else None
    if len(inner) == len(size) and name not in _VIEWS:
        return axis
    if name in ("Select", "Mean", "Sum") and (gone := axes(edge, len(inner))):
        return [each for each in range(len(inner)) if each not in gone][axis]
    same = (each for each in range(len(inner)) if _strides(inner)[each] == _strides(size)[axis])
    return next((each for each in same if inner[each] == size[axis]), None) if name in _VIEWS else None


def _strides(sizes: tuple[int, ...]) -> list[int]:
    """Return the number of values that an axis steps over, of a contiguous tensor."""
    return [_count(sizes[axis + 1 :]) for axis in range(len(sizes))]


def _chain(edge: Edge | None) -> Iterator[tuple[Edge, Edge | None, Operation | None]]:
    """Yield nodes from a value back to the last layer, each with its main input and its operation."""
    for _ in range(MOST):
        if edge is None or is_layer(edge):
            return
        before = _main_input(edge)
        told = _operation(edge, before)
        if before is not None and told and told.name == "softmax" and kind(edge) == "Div":
            before = _main_input(before)  # of its exponential
        yield edge, before, told
        edge = before


def _main_input(edge: Edge) -> Edge | None:
    """Return the one input of a node, or where its branches begin; None where it has several."""
    if kind(edge).endswith("DDPSink"):
        return [*inputs(edge), None][edge.number]  # as many inputs as results
    before = varying(edge)
    if len(before) < 2:
        return before[0] if before else None
    grown = [each for each in before if not of_leaf(each)]
    if len(grown) == 1:
        return grown[0]
    paths = [_path(each) for each in grown]
    return next((each for each in paths[0] if all(each in path for path in paths)), None) if paths else None


def _path(edge: Edge) -> list[Edge]:
    """Return an edge and those before it, as long as each has one input."""
    path = [edge]
    while len(path) < 8 and not is_layer(path[-1]) and len(before := varying(path[-1])) == 1:
        path += before
    return path


def of_leaf(edge: Edge) -> bool:
    """Return True for a leaf, or a function of one alone, as the scale or shift of a layer is.

    Args:
        edge: Edge.
    """
    return is_leaf(_path(edge)[-1])


def _operation(edge: Edge, before: Edge | None) -> Operation | None:
    """Return what a node does; None where it changes nothing."""
    name, size = kind(edge), shape(edge)
    if name in _UNCHANGED or (name in _VIEWS and before is not None and size == shape(before)):
        return None
    rank = len(shape(before)) if before is not None else len(size)
    if before is not None and (axis := _normalized_by_hand(edge, before)) is not None:
        return Operation("softmax" if name == "Div" else "log_softmax", axis, size)
    if before is not None and _is_softsign(edge, before):
        return Operation("softsign", None, size)
    own = axes(edge, rank + 1 if name == "Unsqueeze" else rank)
    dim = own[0] if len(own) == 1 else None
    return Operation(_NAMES.get(name) or snake(name), dim, size, _bounds(edge))


def _bounds(edge: Edge) -> tuple[float, ...]:
    """Return the smallest and largest value that a clamp or hardtanh gives; empty for anything else."""
    ends = [
        next((value for name in names if isinstance(value := attribute(edge, name), int | float)), None)
        for names in (("min", "min_val"), ("max", "max_val"))
    ]
    low, high = ends
    if not re.match("Clamp|Hardtanh", kind(edge)) or low is high is None:
        return ()
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))


def _normalized_by_hand(edge: Edge, before: Edge) -> int | None:
    """Return the axis of exp(z) / exp(z).sum(axis) or z - logsumexp(z, axis); None for anything else."""
    wanted = {"Div": "Sum", "Sub": "Logsumexp"}.get(kind(edge))
    parts = varying(edge)
    if wanted is None or len(parts) != 2 or kind(parts[1]) != wanted or parts[0] != before:
        return None
    if varying(parts[1]) != [before] or (wanted == "Sum" and kind(before) != "Exp"):
        return None
    own = axes(parts[1], len(shape(before)))
    return own[0] if len(own) == 1 else None


def _is_softsign(edge: Edge, before: Edge) -> bool:
    """Return True for x / (1 + |x|)."""
    parts = varying(edge)
    if kind(edge) != "Div" or len(parts) != 2 or parts[0] != before or kind(parts[1]) != "Add":
        return False
    sizes = varying(parts[1])
    return len(sizes) == 1 and kind(sizes[0]) == "Abs" and varying(sizes[0]) == [before]


def snake(name: str) -> str:
    """Return a node's kind in the spelling of functions: `LeakyRelu` as `leaky_relu`.

    Args:
        name: Kind.
    """
    name = re.sub(r"(\d)D", r"\1d", name)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def value_of(edge: Edge | None) -> Tensor | None:
    """Return a value itself, detached, where its node saved it or the leaf has it; None elsewhere.

    Args:
        edge: Edge of the value.
    """
    if edge is None:
        return None
    if is_leaf(edge):
        leaf = getattr(edge.node, "variable", None)
        return leaf.detach() if isinstance(leaf, Tensor) else None
    if (result := saved(edge, "result")) is not None:
        return result
    before = varying(edge)
    if kind(edge) in _VIEWS and len(before) == 1 and (inner := value_of(before[0])) is not None:
        return inner.reshape(shape(edge)) if inner.numel() == _count(shape(edge)) else None
    return None


def _count(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def sizes_before(edge: Edge) -> tuple[int, ...]:
    """Return the shape that a node's first input had, as it saved it; empty where it did not.

    Args:
        edge: Edge.
    """
    sizes = attribute(edge, "self_sym_sizes")
    return tuple(map(int, sizes)) if isinstance(sizes, tuple) else ()
