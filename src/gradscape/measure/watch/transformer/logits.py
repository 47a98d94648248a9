"""Largest output logit and log Z of a few tokens, of a cross-entropy of a linear layer's output.

The softmax keeps neither: the layer's own inputs and weights are multiplied once more, for a few tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.graph.attention import factor_of
from gradscape.measure.core.graph.node import UNREADABLE, Edge, axes, inputs, kind, shape, varying
from gradscape.measure.core.graph.walk import Graph

TOKENS = 16
MOST = 16  # operations between the layer and the softmax
COLUMNS = ("largest", "log_z")
_PRODUCTS = {"Mm": ("self", "mat2"), "Addmm": ("mat1", "mat2")}
_PASSED = (
    "View", "UnsafeView", "ReshapeAlias", "Clone", "ToCopy", "Alias", "Slice", "Select", "Index",
    "IndexSelect", "Permute", "Transpose", "Unsqueeze", "Squeeze", "Contiguous",
)  # fmt: skip


@torch.no_grad()
def read_logits(graph: Graph) -> dict[str, Tensor]:
    """Read the output logits of a graph, of the cross-entropy with most classes.

    Args:
        graph: Graph of a pass.

    Returns:
        Numbers (2, 1) of `COLUMNS` by `output`; empty where they are not known.
    """
    found = [(_classes(edge), edge) for edge in graph.of_kind("LogSoftmax")]
    for classes, edge in sorted(found, key=lambda each: -each[0]):
        logits = _logits(graph, edge, classes)
        if logits is not None:
            return {"output": torch.stack([logits.amax(), logits.logsumexp(1).mean()])[:, None]}
    return {}


def _classes(edge: Edge) -> int:
    sizes = shape(edge)
    along = axes(edge, len(sizes))
    return sizes[along[0]] if len(along) == 1 and sizes else 0


def _logits(graph: Graph, softmax: Edge, classes: int) -> Tensor | None:
    """Return the logits of a few tokens (N, classes), or None."""
    edge: Edge = varying(softmax)[0]
    after: list[float | None] = []  # factors between the layer and the softmax; None for a tanh
    for _ in range(MOST):
        name = kind(edge)
        if name in _PRODUCTS:
            logits = _product(graph, edge)
            if logits is None or logits.shape[1] != classes:
                return None
            for factor in reversed(after):
                logits = logits.tanh() if factor is None else logits * factor
            return logits
        before = varying(edge)
        if len(before) != 1:
            return None
        if name in ("Mul", "Div"):
            if not (number := factor_of(edge)):
                return None
            after.append(number if name == "Mul" else 1 / number)
        elif name == "Tanh":
            after.append(None)
        elif name not in _PASSED:
            return None
        edge = before[0]
    return None


def _product(graph: Graph, edge: Edge) -> Tensor | None:
    """Compute a linear layer's output for a few of its inputs, evenly spaced."""
    given, weight = (graph.saved(edge, name) for name in _PRODUCTS[kind(edge)])
    if given is None or weight is None:
        return None
    given, weight = local(given), local(weight)
    number = min(TOKENS, len(given))
    places = (torch.arange(1, number + 1, device=given.device) * len(given)) // number - 1
    found = given[places] @ weight
    found = found if found.dtype == torch.float64 else found.float()
    if kind(edge) == "Mm":
        return found
    bias = _bias_of(inputs(edge)[0])
    return None if bias is None else found + bias


def _bias_of(edge: Edge | None) -> Tensor | None:
    """Return the bias of a layer, which the product does not keep; None of a frozen one."""
    while edge is not None and kind(edge) in ("ToCopy", "View", "Alias"):
        edge = inputs(edge)[0]
    try:
        return None if edge is None else local(edge.node.variable.detach())
    except UNREADABLE:
        return None
