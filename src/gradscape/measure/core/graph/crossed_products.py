"""Products within a loss of one number a sample with another, of which one is a row and one a column."""

from __future__ import annotations

from torch import Tensor

from gradscape.measure.core.graph.chain import nearest
from gradscape.measure.core.graph.node import Edge, inputs, kind, read_at, saved, shape

Shape = tuple[int, ...]


def crossed_product(root: Tensor) -> tuple[Shape, Shape] | None:
    """Return the shapes of two factors, (N,) and (N, 1), whose product is (N, N); None without any.

    Such a product pairs each sample's number with every other sample's, as log-probabilities (N,) with
    advantages (N, 1).

    Args:
        root: Loss whose backward pass is about to begin.
    """
    return read_at(root, _first_crossed, None)


def _first_crossed(root: Edge) -> tuple[Shape, Shape] | None:
    products = (edge for edge in nearest(root) if kind(edge) in ("Mul", "Div"))
    return next((factors for edge in products if (factors := _crossed(edge)) is not None), None)


def _crossed(edge: Edge) -> tuple[Shape, Shape] | None:
    """Return the shapes of a row and a column; None for factors of any other shapes."""
    result = shape(edge)
    if len(result) != 2 or result[0] != result[1] or result[0] < 2:
        return None
    size = result[0]
    factors = []
    for before, name in zip(inputs(edge), ("self", "other"), strict=True):
        constant = saved(edge, name) if before is None else None
        factors.append(
            shape(before) if before is not None else () if constant is None else tuple(constant.shape)
        )
    row, column = sorted(factors, key=len)
    return (row, column) if (row, column) == ((size,), (size, 1)) else None
