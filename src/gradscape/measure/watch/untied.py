"""Embeddings and output layers that begin with the same weights, without being one parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradscape.measure.core.parameters import is_plain, strip_wrappers
from gradscape.measure.watch.summaries import thinned

COMPARED = 1_024  # elements that are compared before all of them are


@dataclass(frozen=True)
class _Pair:
    """Embedding and linear layer of equal weights, by the names of these."""

    names: tuple[str, str]
    weights: tuple[nn.Parameter, nn.Parameter]


class Untied:
    """Pairs of an embedding and a linear layer whose weights are equal when a watch begins.

    Other modules are not compared: copies of a layer, of an encoder or of a head begin equal on purpose.

    Args:
        model: Watched model.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = [(strip_wrappers(name), module) for name, module in model.named_modules()]
        tables = [each for each in modules if isinstance(each[1], nn.Embedding)]
        layers = [each for each in modules if isinstance(each[1], nn.Linear)] if tables else []
        self._pairs = [
            _Pair((f"{one}.weight", f"{other}.weight"), (table.weight, layer.weight))
            for one, table in tables
            for other, layer in layers
            if _are_copies(table.weight, layer.weight)
        ]

    def parted(self) -> tuple[tuple[str, str], ...]:
        """Return the names of pairs whose weights are no longer equal; waits for the device."""
        return tuple(pair.names for pair in self._pairs if not _equal(*pair.weights))


def _are_copies(one: Tensor, other: Tensor) -> bool:
    """Return True for two trained tensors of the same numbers, which are not all alike."""
    if one is other or one.shape != other.shape or not (one.requires_grad and other.requires_grad):
        return False
    first = thinned(one.detach(), COMPARED) if is_plain(one) and is_plain(other) else one.new_zeros(0)
    if first.numel() < 2 or one.data_ptr() == other.data_ptr() or bool((first == first[0]).all()):
        return False
    return _equal(first, thinned(other.detach(), COMPARED)) and _equal(one, other)


def _equal(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.device == other.device and one.dtype == other.dtype
    return same and torch.equal(one.detach(), other.detach())
