"""Constant tensors that a loss divides by, such as the targets in a mean absolute percentage error."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from gradscape.measure.core.graph_node import UNREADABLE, Edge, edge_of, inputs, kind, saved, varying
from gradscape.measure.core.loss_chain import is_layer, is_leaf

MOST = 64  # nodes between a loss and the last layers


def divisor_of(root: Tensor) -> Tensor | None:
    """Return the sizes of the numbers that a loss divides its elements by, detached; None without any.

    Args:
        root: Loss whose backward pass is about to begin.
    """
    try:
        edge = edge_of(root)
        return None if edge is None else _nearest(edge)
    except UNREADABLE:  # a form that no one thought of must not end a training
        return None


def _nearest(root: Edge) -> Tensor | None:
    seen, remaining = {root}, deque([root])
    while remaining and len(seen) <= MOST:
        edge = remaining.popleft()
        if is_layer(edge) or is_leaf(edge):
            continue
        if kind(edge) == "Div" and inputs(edge)[1:] == [None]:
            other = saved(edge, "other")
            if other is not None and other.numel() > 1 and not other.is_complex():
                return other.abs()
        new = [each for each in varying(edge) if each not in seen]
        seen.update(new)
        remaining += new
    return None
