"""Reshapes that tear axes apart, as a `view` in place of a `transpose`, read from autograd's graph.

A reshape keeps the order of the elements, so it can split an axis or merge neighbors. Between shapes for
which neither is so, such as (32, 10, 64) and (10, 32, 64), a new row is made of pieces of several old ones.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from gradscape.measure.core.graph.node import Edge, kind, read_at, shape, varying

MOST = 5_000  # nodes that are looked at
RESHAPES = ("View", "UnsafeView", "ReshapeAlias")
# A row that is made longer or shorter by one before or after it is a shift of each row against the last,
# as in attention over relative positions (Dai et al. 2019, Appendix B): torn on purpose.
ON_PURPOSE = ("ConstantPadNd", "Cat", "Slice", "Index", "IndexSelect", "Split", "SplitWithSizes", "AsStrided")

Shape = tuple[int, ...]


def tears_axes(before: Sequence[int], after: Sequence[int]) -> bool:
    """Return True if no way to split and merge axes makes one shape of the other.

    An axis is cut where a product of the last sizes of a shape is; both shapes are merges of a finer one if,
    in ascending order, each of these products divides the next.

    Args:
        before: Sizes of the axes.
        after: Sizes of the axes afterwards, with as many elements.
    """
    cuts = sorted({math.prod(sizes[place:]) for sizes in (before, after) for place in range(len(sizes))})
    return 0 not in cuts and any(larger % smaller for smaller, larger in pairwise(cuts))


def torn_reshapes(root: Tensor) -> tuple[tuple[Shape, Shape], ...]:
    """Return the shapes before and after each reshape that tears axes, those nearest to the loss first.

    Args:
        root: Loss whose backward pass is about to begin.
    """
    return read_at(root, _torn, ())


def _torn(root: Edge) -> tuple[tuple[Shape, Shape], ...]:
    found = []
    seen, remaining = {root}, deque([(root, "")])
    while remaining and len(seen) <= MOST:
        edge, after = remaining.popleft()
        name, before = kind(edge), varying(edge)
        if name in RESHAPES and len(before) == 1 and after not in ON_PURPOSE:
            shapes = shape(before[0]), shape(edge)
            if tears_axes(*shapes) and _origin(before[0]) not in ON_PURPOSE:
                found.append(shapes)
        for each in before:
            if each not in seen:
                seen.add(each)
                remaining.append((each, after if name == "Clone" else name))
    return tuple(dict.fromkeys(found))


def _origin(edge: Edge) -> str:
    """Return what made a value, not what copied it."""
    while kind(edge) == "Clone":
        (edge,) = varying(edge)
    return kind(edge)
