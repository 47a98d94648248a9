"""Nodes of the graph that autograd built: their kinds, edges, shapes and saved values, read without effect.

Nothing here raises for a node that torch does not describe: it returns None or an empty value. A saved tensor
with a hook is not read, since unpacking it would compute a forward pass again or copy it between devices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

# Errors of nodes that torch does not describe.
UNREADABLE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError, ArithmeticError)
T = TypeVar("T")
_WRAPPED = 2**63  # axes and indices are stored unsigned: -1 is 2**64 - 1


class Edge(NamedTuple):
    """Value in the graph: the node that made it, and its number among the node's results."""

    node: Any
    number: int


def edge_of(value: Tensor) -> Edge | None:
    """Return a tensor's edge; None where it has no graph.

    Args:
        value: Tensor.
    """
    node = value.grad_fn
    return None if node is None else Edge(node, value.output_nr)


def read_at(root: Tensor, read: Callable[[Edge], T], nothing: T) -> T:
    """Return what a function reads from a loss's edge; nothing without a graph, or where it cannot be read.

    Args:
        root: Loss whose backward pass is about to begin.
        read: Function of its edge.
        nothing: Value without a reading.
    """
    try:
        edge = edge_of(root)
        return nothing if edge is None else read(edge)
    except UNREADABLE:  # a form that no one thought of must not end a training
        return nothing


def kind(edge: Edge) -> str:
    """Return what made a value, as autograd names it without its suffix: `Relu`, `AccumulateGrad`, ….

    Args:
        edge: Edge.
    """
    try:
        return _kind(edge.node.name())
    except UNREADABLE:
        return ""


@cache
def _kind(name: str) -> str:
    return re.sub(r"Backward\d*$", "", name.rpartition("::")[2])


def inputs(edge: Edge) -> list[Edge | None]:
    """Return the edges that a value was computed from; None in place of constants.

    Args:
        edge: Edge.
    """
    return [None if node is None else Edge(node, number) for node, number in edge.node.next_functions]


def varying(edge: Edge) -> list[Edge]:
    """Return the edges that a value was computed from, without constants.

    Args:
        edge: Edge.
    """
    return [before for before in inputs(edge) if before is not None]


def shape(edge: Edge) -> tuple[int, ...]:
    """Return the shape of a value; empty where it is not known, as for nested tensors.

    Args:
        edge: Edge.
    """
    try:
        return tuple(int(size) for size in edge.node._input_metadata[edge.number].shape)
    except UNREADABLE:
        return ()


def attribute(edge: Edge, name: str) -> Any:
    """Return a saved number or tuple of numbers; None where there is none.

    Args:
        edge: Edge.
        name: Name without its prefix `_saved_`.
    """
    try:
        if hasattr(edge.node, f"_raw_saved_{name}"):  # a tensor, which a hook may unpack
            return None
        value = getattr(edge.node, f"_saved_{name}")
    except UNREADABLE:
        return None
    if isinstance(value, int) and value >= _WRAPPED:
        return value - 2 * _WRAPPED
    if isinstance(value, tuple) and all(isinstance(each, int) for each in value):
        return tuple(each - 2 * _WRAPPED if each >= _WRAPPED else each for each in value)
    return value


def axes(edge: Edge, rank: int) -> tuple[int, ...]:
    """Return the axes that a node works over, from 0; empty where it has none.

    Args:
        edge: Edge.
        rank: Number of axes that negative ones count from.
    """
    value = attribute(edge, "dim")
    if isinstance(value, bool) or not isinstance(value, int | tuple):
        return ()
    value = value if isinstance(value, tuple) else (value,)
    return tuple(axis % rank if rank else 0 for axis in value if isinstance(axis, int))


def saved(edge: Edge, name: str) -> Tensor | None:
    """Return a saved tensor, detached; None where there is none, it was freed, or a hook would unpack it.

    Args:
        edge: Edge.
        name: Name without its prefix `_saved_`.
    """
    value = _read(edge, name, lambda raw: raw.unpack_hook is None)
    return value if isinstance(value, Tensor) else None


def saved_list(edge: Edge, name: str) -> tuple[Tensor | None, ...]:
    """Return a saved list of tensors, as `saved` does; empty where there is none.

    Args:
        edge: Edge.
        name: Name without its prefix `_saved_`.
    """
    return _read(edge, name, lambda raw: all(each.unpack_hook is None for each in raw)) or ()


def _read(edge: Edge, name: str, plain: Callable[[Any], bool]) -> Any:
    try:
        if not plain(getattr(edge.node, f"_raw_saved_{name}")):
            return None
        value = getattr(edge.node, f"_saved_{name}")
        if isinstance(value, tuple):
            return tuple(None if each is None else each.detach() for each in value)
        return value.detach() if isinstance(value, Tensor) else None
    except UNREADABLE:
        return None


def is_number(value: Tensor) -> bool:
    """Return True for a tensor that stands for a Python number, as torch wraps those.

    Args:
        value: Tensor.
    """
    if value.dim() or value.device.type != "cpu" or value.dtype not in _NUMBERS:
        return False  # torch.result_type would not tell
    return torch.result_type(value, _NUMBERS[value.dtype]) != value.dtype


# A wrapped number does not widen a tensor of its category; a tensor without axes does.
_NUMBERS = {
    torch.float64: torch.zeros((), dtype=torch.float16),
    torch.int64: torch.zeros((), dtype=torch.int8),
    torch.complex128: torch.zeros((), dtype=torch.complex64),
}

Pattern = Any  # "*", or a tuple of a kind and the patterns of its edges


def match(edge: Edge, pattern: Pattern) -> list[Edge] | None:
    """Return the edges where a pattern has `*`, in its order; None where the graph has another form.

    A pattern is `*` for anything, or a tuple of a kind and the patterns of its edges, constants left out.

    Args:
        edge: Edge to begin with.
        pattern: Pattern.
    """
    if pattern == "*":
        return [edge]
    before = varying(edge)
    if kind(edge) != pattern[0] or len(before) != len(pattern) - 1:
        return None
    found = []
    for each, inner in zip(before, pattern[1:], strict=True):
        if (part := match(each, inner)) is None:
            return None
        found += part
    return found
