"""Nodes of a graph in the order of the forward pass, with what uses each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradscape.measure.core.graph.node import UNREADABLE, Edge, edge_of, kind, saved, varying

_LAST = 2**63  # leaves have no place in the order: theirs is 2**64 - 1


@dataclass(frozen=True)
class Graph:
    """Part of a graph that autograd built.

    Attributes:
        edges: Value of each node, in the order in which the forward pass made them, the leaves first.
        uses: By node, values that are computed from it.
        rerun: Whether a checkpoint runs the pass again: what it saves then is there as it is.
    """

    edges: tuple[Edge, ...]
    uses: dict[Any, list[Edge]]
    rerun: bool = False

    @classmethod
    def before(cls, values: Iterable[Tensor], most: int | None = None, rerun: bool = False) -> Graph:
        """Walk from values to what they were computed from.

        Args:
            values: Tensors, such as the losses of a backward pass.
            most: Number of nodes after which the walk ends, the nearest first; None to reach every leaf.
            rerun: Whether a checkpoint runs the pass again.
        """
        found: dict[Any, Edge] = {}
        uses: dict[Any, list[Edge]] = {}
        waiting = deque(edge for value in values if (edge := edge_of(value)) is not None)
        found.update((edge.node, edge) for edge in waiting)
        while waiting and (most is None or len(uses) < most):
            edge = waiting.popleft()
            for before in varying(edge):
                uses.setdefault(before.node, []).append(edge)
                if before.node not in found:
                    found[before.node] = before
                    waiting.append(before)
        return cls(tuple(sorted(found.values(), key=_made)), uses, rerun)

    def of_kind(self, *kinds: str) -> Iterator[Edge]:
        """Yield the values that nodes of some kinds have made, in order.

        Args:
            kinds: Kinds, as `node.kind` names them.
        """
        return (edge for edge in self.edges if kind(edge) in kinds)

    def saved(self, edge: Edge, name: str) -> Tensor | None:
        """Return a saved tensor, detached; None where there is none, or a hook would have to compute it.

        Args:
            edge: Edge.
            name: Name without its prefix `_saved_`.
        """
        found = saved(edge, name)
        return _as_packed(edge, name) if found is None and self.rerun else found

    def following(self, edge: Edge, through: frozenset[str], to: str, most: int = 12) -> Edge | None:
        """Return the nearest value of a kind that is computed from another one; None if there is none.

        Args:
            edge: Edge to begin with.
            through: Kinds of the operations in between.
            to: Kind that is looked for.
            most: Number of operations in between, at most.
        """
        waiting = deque(self.uses.get(edge.node, []))
        for _ in range(most):
            if not waiting:
                return None
            use = waiting.popleft()
            if kind(use) == to:
                return use
            if kind(use) in through:
                waiting += self.uses.get(use.node, [])
        return None


def _made(edge: Edge) -> int:
    """Return the place of a node in the order of the forward pass; leaves come first."""
    try:
        number = int(edge.node._sequence_nr())
    except UNREADABLE:
        return -1
    return -1 if number >= _LAST else number


def _as_packed(edge: Edge, name: str) -> Tensor | None:
    """Return what a hook has kept of a saved tensor, if that is the tensor itself."""
    try:
        data = getattr(edge.node, f"_raw_saved_{name}").data
    except UNREADABLE:
        return None
    return data.detach() if isinstance(data, Tensor) else None


def is_packed(edge: Edge, name: str) -> bool:
    """Return True if a hook would have to compute or copy a saved tensor, as in a checkpointed part.

    Args:
        edge: Edge.
        name: Name without its prefix `_saved_`.
    """
    try:
        return getattr(edge.node, f"_raw_saved_{name}").unpack_hook is not None
    except UNREADABLE:
        return False
