"""Loss functions that a backward pass begins with, read from the graph that autograd built."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from gradscape.measure.core.graph.chain import is_layer, is_leaf, is_opaque, of_leaf, operations_before
from gradscape.measure.core.graph.factor import SUMS, constant_of, front
from gradscape.measure.core.graph.formulas import likelihood_at
from gradscape.measure.core.graph.functions import SeenTerm, function_at
from gradscape.measure.core.graph.margins import margin_at
from gradscape.measure.core.graph.node import UNREADABLE, Edge, axes, edge_of, inputs, kind, shape, varying

MOST_TERMS = 64
MOST_ADDENDS = 2_000  # penalties of parameters among them
MOST_STEPS = 64  # nodes between the loss and one of its functions
_THROUGH = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Expand", "Permute", "Transpose", "T",
    "ToCopy", "CopyBackwards", "Clone", "Alias", "Slice", "Select", "Index", "IndexSelect", "MaskedSelect",
    "MaskedFill", "Where", "Gather", "Stack", "Cat", "NanToNum",
)  # fmt: skip


@dataclass(frozen=True)
class SeenLoss:
    """Loss as the graph tells it.

    Attributes:
        terms: Its functions, in the order of the sum; several penalties of parameters count as one.
        factor: Constant in front of all of it, such as a GradScaler's scale or one over the number of
            micro-batches: the loss is the root over it. A tensor stays on its device.
        complete: False where the graph ends in a compiled or checkpointed function before any loss function,
            or has more terms or steps than are read.
    """

    terms: tuple[SeenTerm, ...]
    factor: float | Tensor
    complete: bool


@dataclass(frozen=True)
class _Path:
    """Way from the loss to an expression in it.

    Attributes:
        weight: Constant in front, with its sign.
        reductions: Reductions with their axes, the outermost first; no axes for one over all.
        weighted: Whether a tensor multiplies elements.
        shifted: Whether a constant tensor is added.
    """

    weight: float | Tensor = 1.0
    reductions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    weighted: bool = False
    shifted: bool = False

    def reduced(self, name: str, over: tuple[int, ...] = ()) -> _Path:
        """Return the path below a reduction."""
        return replace(self, reductions=(*self.reductions, (name, over)))

    def reduction(self, term: SeenTerm) -> str:
        """Return the outermost reduction of a function; its own sum over classes is none."""
        own = self.reductions
        if own and own[-1] == ("sum", (term.class_axis,)):
            own = own[:-1]
        return own[0][0] if own else ""


def factor_of(root: Tensor) -> float | Tensor:
    """Return the constant factor in front of a loss, at the cost of a few nodes.

    Divisors that make a sum a mean do not count, and neither does a sign.

    Args:
        root: Tensor whose backward pass is about to begin.
    """
    try:
        edge = edge_of(root)
        return 1.0 if edge is None else front(edge).factor
    except UNREADABLE:
        return 1.0


def read_loss(root: Tensor) -> SeenLoss:
    """Return what a loss was made of; the graph, its saved tensors and the device's queue stay as they are.

    Args:
        root: Tensor whose backward pass is about to begin.
    """
    try:
        edge = edge_of(root)
        return SeenLoss((), 1.0, not root.requires_grad) if edge is None else _read(edge)
    except UNREADABLE:  # a form that no one thought of must not end a training
        return SeenLoss((), 1.0, False)


def _read(edge: Edge) -> SeenLoss:
    whole = front(edge)
    start = _Path(float(whole.sign), (("mean", ()),) if whole.averaged else ())
    terms: list[SeenTerm] = []
    for count, (addend, path) in enumerate(_addends(whole.rest, start)):
        if len(terms) == MOST_TERMS or count == MOST_ADDENDS:
            return SeenLoss(tuple(terms), whole.factor, False)
        penalties = any(each.name == "penalty" for each in terms)
        terms += [each for each in _terms(addend, path) if each.name != "penalty" or not penalties]
    known = tuple(each for each in terms if each is not _CUT)
    return SeenLoss(known, whole.factor, len(known) == len(terms))


_NONE = SeenTerm("unknown")
_CUT = SeenTerm("cut")  # stands for what could not be read


def _addends(edge: Edge, path: _Path) -> Iterator[tuple[Edge, _Path]]:
    """Yield the expressions that a loss is the sum of, with what stands in front of each, in order."""
    remaining = [(edge, path)]
    while remaining:
        edge, path = remaining.pop()
        if math.prod(shape(edge)) != 1 or _function(edge, path.shifted):
            yield edge, path
            continue
        if kind(edge) in ("Add", "Sub") and len(varying(edge)) == 2:
            remaining += reversed(list(_sides(edge, path)))
        elif (inner := _stacked(edge)) is not None:
            remaining += [(each, path) for each in reversed(inner)]
        elif (constant := front(edge)).rest != edge:
            below = path.reduced("mean") if constant.averaged else path
            weight = path.weight * (constant.sign * constant.factor)
            remaining.append((constant.rest, replace(below, weight=weight)))
        elif kind(edge) in ("Add", "Sub", "Rsub") and len(varying(edge)) == 1:
            remaining.append((varying(edge)[0], _shift(edge, path)))
        else:
            yield edge, path


def _sides(edge: Edge, path: _Path) -> Iterator[tuple[Edge, _Path]]:
    """Yield both sides of a sum or difference."""
    first, second = varying(edge)
    yield first, path
    yield second, replace(path, weight=-path.weight) if kind(edge) == "Sub" else path


def _shift(edge: Edge, path: _Path) -> _Path:
    """Return the path below a sum with a constant."""
    negative = kind(edge) == "Rsub" or (kind(edge) == "Sub" and inputs(edge)[0] is None)
    shifted = path.shifted or (kind(edge) != "Rsub" and math.prod(shape(edge)) > 1)
    return replace(path, weight=-path.weight if negative else path.weight, shifted=shifted)


def _stacked(edge: Edge) -> list[Edge] | None:
    """Return the losses that a sum or mean of a stack of single values was taken over."""
    before = varying(edge)
    if kind(edge) not in (*SUMS, "Mean") or len(before) != 1 or kind(before[0]) not in ("Stack", "Cat"):
        return None
    inner = varying(before[0])
    return inner if all(math.prod(shape(each)) == 1 for each in inner) else None


def _function(edge: Edge, shifted: bool = False) -> SeenTerm | None:
    return function_at(edge) or likelihood_at(edge, shifted) or margin_at(edge)


def _terms(edge: Edge, path: _Path) -> list[SeenTerm]:
    """Return the functions of one addend: several where their elements are summed."""
    start, first = edge, path
    for _ in range(MOST_STEPS):
        if found := _function(edge, path.shifted):
            return [_finished(found, path)]
        if is_opaque(edge):
            return [_CUT]
        if is_layer(edge):
            break
        before = varying(edge)
        if len(before) == 2 and kind(edge) in ("Add", "Sub"):
            both = [term for each, side in _sides(edge, path) for term in _terms(each, side)]
            if any(each.name != "unknown" for each in both):
                return both
            break
        if len(before) == 2 and kind(edge) in ("Mul", "Div") and any(map(of_leaf, before)):
            edge = before[1] if of_leaf(before[0]) else before[0]  # a term's learned weight
            continue
        if len(before) != 1 or (inner := _inside(edge, path)) is None:
            break
        edge, path = before[0], inner
    return [_unknown(start, first)]


def _inside(edge: Edge, path: _Path) -> _Path | None:
    """Return the path below a linear node with one input; None for any other node."""
    name = kind(edge)
    if name in (*SUMS, "Mean"):
        over = axes(edge, len(shape(varying(edge)[0])))
        return path.reduced("mean" if name == "Mean" else "sum", over)
    if (constant := constant_of(edge)) is not None:
        value, divides = constant
        if isinstance(value, Tensor) and value.dim():
            return replace(path, weighted=True)
        whole = front(edge)
        if whole.averaged and isinstance(value, float) and abs(value) != 1:
            return path.reduced("mean")
        return replace(path, weight=path.weight / value if divides else path.weight * value)
    if name in ("Add", "Sub", "Rsub"):
        return _shift(edge, path)
    return path if name in _THROUGH else None


def _finished(term: SeenTerm, path: _Path) -> SeenTerm:
    """Return a function with what lies between the loss and it."""
    outer = path.reduction(term)
    reduction = outer or term.reduction or "none"
    if term.reduction == "mean":
        reduction = "mean"
    weight, name = term.weight * path.weight, term.name
    if name == "mse_loss" and path.shifted and path.weighted:  # (log σ² + (output - target)² / σ²) / 2
        name, weight = "gaussian_nll_loss", weight * 2
    weighted = term.weighted or (path.weighted and name != "ctc_loss")  # whose mean divides by lengths
    return replace(term, name=name, reduction=reduction, weight=weight, weighted=weighted)


def _unknown(edge: Edge, path: _Path) -> SeenTerm:
    """Return a term without a name, with the tensors of the only function inside it."""
    if of_leaf(edge):
        return SeenTerm("penalty", operations_before(edge), weight=path.weight)
    if (inner := _only_function(edge)) is not None:
        return replace(inner, name="unknown", reduction="", weight=path.weight, within=inner.name)
    return SeenTerm("unknown", operations_before(edge), path.reduction(_NONE), weight=path.weight)


def _only_function(edge: Edge) -> SeenTerm | None:
    """Return the loss function nearest to an expression, of the nodes before any layer."""
    remaining, seen = deque([edge]), {edge}
    while remaining and len(seen) <= MOST_STEPS:
        edge = remaining.popleft()
        if is_layer(edge) or is_leaf(edge):
            continue
        if found := _function(edge):
            return found
        for before in varying(edge):
            if before not in seen:
                seen.add(before)
                remaining.append(before)
    return None


def leaves_of(root: Tensor, most: int = 5_000) -> tuple[tuple[Tensor, ...], bool]:
    """Return the leaves that a backward pass would add gradients to, and whether all nodes were seen.

    Args:
        root: Tensor with or without a graph.
        most: Number of nodes that are looked at.
    """
    if root.grad_fn is None:
        return ((root,) if root.requires_grad else ()), True
    found: list[Tensor] = []
    seen, remaining = {root.grad_fn}, deque([root.grad_fn])
    while remaining and len(seen) <= most:
        node = remaining.popleft()
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            found.append(leaf)
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                remaining.append(before)
    return tuple(found), not remaining
