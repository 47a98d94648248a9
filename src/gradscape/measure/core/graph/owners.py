"""Names of the modules whose weights made a value, read from the graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from torch import nn

from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.graph.node import UNREADABLE, Edge, inputs, kind, varying
from gradscape.measure.core.graph.walk import Graph
from gradscape.measure.core.parameters import named, strip_wrappers, unwrapped
from gradscape.records.adapters import low_rank

T = TypeVar("T")
NEAR = 48  # operations between a value and the layer that made it, at most
_PRODUCTS = {"Mm": ("self", "mat2"), "Addmm": ("mat1", "mat2"), "Bmm": ("self", "mat2")}
_BARE = {"T", "Transpose", "Permute", "View", "ReshapeAlias", "ToCopy", "Alias", "Unsqueeze", "Select"}
_BARE |= {"Add"}  # of a constant, as to gains that are kept less 1


class Owners:
    """Modules of a model by the parameters in a graph.

    Args:
        model: Model, possibly wrapped.

    Attributes:
        modules: Modules by their names, without those of wrappers.
        parameters: Names of the parameters, in the order of registration.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = unwrapped(model)
        self.modules = {strip_wrappers(name): module for name, module in inner.named_modules()}
        entries = named(model)
        self.parameters = [name for name, _, _ in entries]
        self._by_id = {id(parameter): name for name, _, parameter in entries}
        self._tensors = [(name, parameter) for name, _, parameter in entries]
        self._by_place: dict[int, str] = {}

    def begin(self) -> None:
        """Look up where parameters lie now, by which frozen ones are known, and gathered ones."""
        self._by_id |= _gathered(self.modules.values(), self._by_id)
        self._by_place = {_place_of(parameter): name for name, parameter in self._tensors}
        self._by_place.pop(0, None)

    def own(self, graph: Graph) -> bool:
        """Return True if a graph has a parameter of the model, which its backward pass will reach.

        Args:
            graph: Graph of a pass.
        """
        return any(self._of_leaf(edge) for edge in graph.of_kind("AccumulateGrad"))

    def nearest(self, graph: Graph, edges: Iterable[Edge | None]) -> list[str]:
        """Return the names of the parameters of the last layers that values come from.

        Args:
            graph: Graph with them.
            edges: Edges of values; None for constants.
        """
        waiting = deque(edge for edge in edges if edge is not None)
        seen, found = set(waiting), []
        for _ in range(NEAR):
            if not waiting:
                break
            edge = waiting.popleft()
            own = [name for name in self.at(graph, edge) if name]
            found += [name for name in own if name not in found]
            if own or kind(edge) in ("AccumulateGrad", *_PRODUCTS):
                continue
            new = [each for each in inputs(edge) if each is not None and each not in seen]
            seen.update(new)
            waiting += new
        return found

    def at(self, graph: Graph, edge: Edge) -> list[str]:
        """Return the names of the parameters that a node uses itself, also frozen ones that it saved.

        Args:
            graph: Graph with the node.
            edge: Edge.
        """
        if kind(edge) == "AccumulateGrad":
            return [self._of_leaf(edge)]
        found = [self._of_leaf(leaf) for each in inputs(edge) if (leaf := _leaf_of(each)) is not None]
        for name in _PRODUCTS.get(kind(edge), ("weight", "other", "self")):
            value = graph.saved(edge, name)
            if value is not None:
                found.append(self._by_place.get(value.data_ptr(), ""))
        return [name for name in dict.fromkeys(found) if name]

    def _of_leaf(self, edge: Edge) -> str:
        try:
            return self._by_id.get(id(edge.node.variable), "")
        except UNREADABLE:
            return ""

    def module_of(self, names: Sequence[str]) -> str:
        """Return the innermost module that has all of some parameters, and calls the layers that use them.

        Args:
            names: Names of parameters.

        Returns:
            Name of the module; empty where there is none but the model.
        """
        if not names:
            return ""
        parts = [_without_adapter(name).split(".")[:-1] for name in names]
        shared: list[str] = []
        for level in zip(*parts, strict=False):
            if len(set(level)) > 1:
                break
            shared.append(level[0])
        module = self.modules.get(".".join(shared))
        if module is not None and _is_bare(module) and len(shared) > 1:
            shared.pop()  # a layer with weights, such as one for query, key and value
        return ".".join(shared)

    def in_order(self, values: dict[str, T]) -> dict[str, T]:
        """Return values by modules in the order in which these are registered.

        Args:
            values: Values by names of modules.
        """
        places = {name: place for place, name in enumerate(self.modules)}
        return dict(sorted(values.items(), key=lambda each: places.get(each[0], len(places))))


def _gathered(modules: Iterable[Any], names: dict[int, str]) -> dict[int, str]:
    """Return the names of the parameters that FSDP2 computes with, by their ids; each belongs to a shard."""
    found = {}
    for module in modules:
        try:
            group = module._get_fsdp_state()._fsdp_param_group
            for each in () if group is None else group.fsdp_params:
                found[id(each._unsharded_param)] = names[id(each.sharded_param)]
        except UNREADABLE:  # no FSDP2, or none whose inside is known
            continue
    return found


def _place_of(parameter: nn.Parameter) -> int:
    """Return the address of a parameter's memory; 0 of one without, on meta or packed by a library."""
    try:
        return local(parameter).data_ptr()
    except UNREADABLE:
        return 0


def _without_adapter(name: str) -> str:
    """Return the name of a parameter as it would be without an adapter of low rank around its layer."""
    place = low_rank(name)
    return name.replace(".base_layer.", ".") if place is None else f"{place.layer}.weight"


def _is_bare(module: nn.Module) -> bool:
    """Return True for a layer that calls no other, or none but an adapter's."""
    children = [name for name, _ in module.named_children()]
    return not children or any(name == "base_layer" or name.startswith("lora_") for name in children)


def _leaf_of(edge: Edge | None) -> Edge | None:
    """Return the leaf that a value is a mere view or copy of; None if there is none."""
    for _ in range(6):
        if edge is None or kind(edge) == "AccumulateGrad":
            return edge
        before = varying(edge)
        if len(before) != 1 or kind(edge) not in _BARE:
            return None
        edge = before[0]
    return None
