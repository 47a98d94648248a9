"""Size of the residual stream through depth, and the share of the embedding in it, of a few tokens.

Normalization layers are given the stream itself, and the graph keeps what they are given.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.graph.chain import is_leaf, is_opaque
from gradscape.measure.core.graph.node import Edge, attribute, axes, kind, shape, varying
from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.core.graph.walk import Graph, is_packed
from gradscape.measure.core.layer_trace import numbered

SAMPLES, PLACES = 4, 4  # tokens: places in each of the first samples
COLUMNS = ("size", "share")
_WHOLE = ("NativeLayerNorm", "FusedRmsNorm")
_BEGINS = ("Embedding", "Cat", "RegisterPostBackwardFunction")  # the last one of FSDP2, before a block
NEAR = 12  # operations between the square of an input and the gain, or between a sum and a layer
_PASSED = ("View", "UnsafeView", "ReshapeAlias", "ToCopy", "Alias", "Clone", "Slice", "Mul", "NativeDropout")
Tokens = dict[str, tuple[torch.Size, Tensor]]  # by layer: shape of the whole stream, and a few of its tokens


def read_tokens(graph: Graph, owners: Owners, known: Collection[str] = ()) -> tuple[Tokens, bool]:
    """Read a few tokens of what each normalization layer is given.

    Args:
        graph: Graph of a pass.
        owners: Modules of the model.
        known: Layers that have been read already.

    Returns:
        Tokens by layer; whether a checkpoint keeps some back.
    """
    found: Tokens = {}
    packed = False
    calls: Counter[str] = Counter()
    for edge in graph.of_kind(*_WHOLE, "Pow"):
        whole = kind(edge) in _WHOLE
        if not (whole or _is_mean_square(graph, edge)) or not _is_sum(varying(edge)[0]):
            continue
        saved = "input" if whole else "self"
        if is_packed(edge, saved) and not graph.rerun:
            packed = True
            continue
        name = _name(graph, owners, edge, whole)
        given = graph.saved(edge, saved)
        if given is None or given.dim() != 3 or not name or name in known:
            continue
        calls[name] += 1
        found[numbered(name, calls[name])] = given.shape, _few(local(given))
    return found, packed


def _is_mean_square(graph: Graph, edge: Edge) -> bool:
    """Return True for the square in a mean over the last axis, as RMSNorm computes it."""
    if attribute(edge, "exponent") != 2:
        return False
    rank = len(shape(edge))
    means = [use for use in graph.uses.get(edge.node, []) if kind(use) == "Mean"]
    return any(axes(mean, rank) == (rank - 1,) for mean in means)


def _is_sum(edge: Edge) -> bool:
    """Return True for a sum of values, an embedding, or what a checkpointed part is given: a residual stream.

    A branch that is normalized before it is added comes from a layer with weights.
    """
    for _ in range(NEAR):
        before = varying(edge)
        if kind(edge) == "Add" and len(before) == 2:
            return not any(is_leaf(each) and len(shape(each)) == 1 for each in before)  # a layer's bias
        if kind(edge) in _BEGINS or is_leaf(edge) or is_opaque(edge):
            return True
        if len(before) != 1 or kind(edge) not in _PASSED:
            return False
        edge = before[0]
    return False


def _name(graph: Graph, owners: Owners, edge: Edge, whole: bool) -> str:
    """Return the name of the module whose gain a normalization uses; empty where it has none."""
    waiting = deque([edge] if whole else graph.uses.get(edge.node, []))
    for _ in range(NEAR):
        if not waiting:
            break
        use = waiting.popleft()
        own = owners.at(graph, use) if kind(use) in (*_WHOLE, "Mul") else []
        if own:
            return own[0].rpartition(".")[0]
        waiting += graph.uses.get(use.node, [])
    return ""


def _few(given: Tensor) -> Tensor:
    """Return a few tokens of a stream (B, L, D), (N, D)."""
    length = given.shape[1]
    number = min(PLACES, length)
    places = (torch.arange(1, number + 1, device=given.device) * length) // number - 1
    few = given[:SAMPLES, places].flatten(0, 1)
    return few if few.dtype == torch.float64 else few.float()


@torch.no_grad()
def stream_numbers(tokens: Tokens, inside: Collection[str]) -> Mapping[str, Tensor]:
    """Return `COLUMNS` (2, 1) of the layers that are given the stream.

    Args:
        tokens: Tokens of each layer, in the order in which layers run.
        inside: Names of attention: their own normalization layers are given queries and keys.
    """
    outer = {
        name: each
        for name, each in tokens.items()
        if not any(name.startswith(f"{owner}.") for owner in inside)
    }
    sizes = Counter(size for size, _ in outer.values())
    common = sizes.most_common(1)[0][0] if sizes else None
    stream = {name: few for name, (size, few) in outer.items() if size == common}
    if len(stream) < 2:
        return {}
    first = next(iter(stream.values()))
    return {name: _of_tokens(few, first.to(few.device)) for name, few in stream.items()}


def _of_tokens(few: Tensor, first: Tensor) -> Tensor:
    square = few.square().mean()
    return torch.stack([square.sqrt(), (few * first).mean() / square])[:, None]
