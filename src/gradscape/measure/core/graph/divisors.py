"""Constant tensors that a loss divides by, such as the targets in a mean absolute percentage error."""

from __future__ import annotations

from torch import Tensor

from gradscape.measure.core.graph.chain import nearest
from gradscape.measure.core.graph.node import Edge, inputs, kind, read_at, saved


def divisor_of(root: Tensor) -> Tensor | None:
    """Return the sizes of the numbers that a loss divides its elements by, detached; None without any.

    Args:
        root: Loss whose backward pass is about to begin.
    """
    return read_at(root, _first_divisor, None)


def _first_divisor(root: Edge) -> Tensor | None:
    for edge in nearest(root):
        if kind(edge) == "Div" and inputs(edge)[1:] == [None]:
            other = saved(edge, "other")
            if other is not None and other.numel() > 1 and not other.is_complex():
                return other.abs()
    return None
