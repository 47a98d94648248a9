"""Load and entropy of the routers of experts: which experts tokens were sent to, and how sure the router was.

A router is a linear layer with as many outputs as there are experts beside it, whose largest outputs are
chosen; which they were, the graph keeps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

import torch
from torch import Tensor, nn

from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.graph.node import Edge, kind, shape, varying
from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.core.graph.walk import Graph, is_packed
from gradscape.measure.core.layer_trace import numbered
from gradscape.measure.watch.summaries import class_counts

MOST = 12  # operations between the choice and the layer
COLUMNS = ("load", "entropy", "tokens", "chosen")
_INDICES = {"Topk": "indices", "Gather": "index"}
_PASSED = (
    "ToCopy", "View", "UnsafeView", "ReshapeAlias", "Alias", "Clone", "Add", "Mul", "Div", "MaskedFill",
)  # fmt: skip
_PRODUCTS = ("Mm", "Addmm")


def read_routers(graph: Graph, owners: Owners, known: Collection[str] = ()) -> tuple[dict[str, Tensor], bool]:
    """Read the routers of a graph.

    Args:
        graph: Graph of a pass.
        owners: Modules of the model.
        known: Routers that have been read already.

    Returns:
        Numbers (4, E) of `COLUMNS` for each router, by its module; whether a checkpoint keeps some back.
    """
    found: dict[str, Tensor] = {}
    packed = False
    calls: Counter[str] = Counter()
    for edge in graph.of_kind(*_INDICES):
        scores, product = _origin(edge)
        name = _router(graph, owners, product)
        if product is None or not name or name in known:
            continue
        saved = _INDICES[kind(edge)]
        if is_packed(edge, saved) and not graph.rerun:
            packed = True
            continue
        chosen = graph.saved(edge, saved)
        if chosen is not None and chosen.dim() >= 2:
            calls[name] += 1
            probabilities = None if scores is None else graph.saved(scores, "result")
            experts = shape(product)[-1]
            found[numbered(name, calls[name])] = router_numbers(local(chosen), probabilities, experts)
    return found, packed


def _origin(edge: Edge) -> tuple[Edge | None, Edge | None]:
    """Return the softmax or sigmoid that a choice is made of, if any, and the linear layer before it."""
    scores = None
    width = shape(varying(edge)[0])[-1:] if varying(edge) else ()
    for _ in range(MOST):
        before = varying(edge)
        if len(before) != 1 and kind(edge) not in _INDICES:
            return None, None
        edge = before[0]
        if shape(edge)[-1:] != width:
            return None, None
        if kind(edge) in _PRODUCTS:
            return scores, edge
        if kind(edge) in ("Softmax", "SafeSoftmax", "Sigmoid"):
            scores = edge
        elif kind(edge) not in _PASSED:
            return None, None
    return None, None


def _router(graph: Graph, owners: Owners, product: Edge | None) -> str:
    """Return the name of a linear layer with an output for each expert beside it; empty of any other."""
    if product is None:
        return ""
    experts = shape(product)[-1]
    for name in owners.at(graph, product):
        module = name.rpartition(".")[0]
        outer = module
        for _ in range(2):
            outer = outer.rpartition(".")[0]
            block = owners.modules.get(outer)
            if block is not None and _holds_experts(block, experts):
                return module
    return ""


def _holds_experts(block: nn.Module, number: int) -> bool:
    """Return True if a block or a child has so many experts, modules in a list or stacked weights."""
    for module in (block, *block.children()):
        stacked = any(p.dim() == 3 and len(p) == number for p in module.parameters(recurse=False))
        if stacked or (isinstance(module, nn.ModuleList) and len(module) == number):
            return number > 1
    return False


@torch.no_grad()
def router_numbers(chosen: Tensor, probabilities: Tensor | None, experts: int) -> Tensor:
    """Return `COLUMNS` of each expert, (4, E), on their device.

    Args:
        chosen: (…, k) Experts of each token.
        probabilities: (…, E) Scores that they were chosen by; None where they are not known.
        experts: E.
    """
    counts = class_counts(chosen, experts).float()
    load = counts / counts.sum()
    entropy = torch.full_like(load, math.nan)
    if probabilities is not None:
        shares = local(probabilities).float()
        shares = shares / shares.sum(-1, keepdim=True)
        entropy[:] = -torch.special.xlogy(shares, shares).sum(-1).mean() / math.log(experts)
    width = chosen.shape[-1]
    tokens = torch.full_like(load, chosen.numel() / width)
    return torch.stack([load, entropy, tokens, torch.full_like(load, float(width))])
