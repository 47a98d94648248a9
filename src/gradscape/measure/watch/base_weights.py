"""Weights below adapters of low rank, which a training is to leave as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradscape.measure.core.parameters import is_plain, named
from gradscape.measure.watch.summaries import thinned
from gradscape.records.adapters import AdapterFacts, low_rank

COMPARED = 64  # numbers of each weight, evenly spread


class BaseWeights:
    """Frozen weights of the layers that have adapters, as they are when a watch begins.

    Args:
        model: Watched model.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = {name: parameter for name, _, parameter in named(model)}
        found = [place.layer for name in parameters if (place := low_rank(name)) is not None]
        self.layers = tuple(dict.fromkeys(found))
        own = [f"{layer}{rest}" for layer in self.layers for rest in (".base_layer.weight", ".weight")]
        self._frozen = {
            name: parameters[name]
            for name in own
            if name in parameters and not parameters[name].requires_grad and is_plain(parameters[name])
        }
        self._before = {name: _few(parameter).clone() for name, parameter in self._frozen.items()}

    def facts(self) -> AdapterFacts | None:
        """Return what became of the weights, or None without adapters; waits for the device."""
        if not self.layers:
            return None
        changed = {
            name: (_few(parameter).to(before.device, before.dtype) != before).any()
            for (name, parameter), before in zip(self._frozen.items(), self._before.values(), strict=True)
        }
        moved = torch.stack([each.cpu() for each in changed.values()]).tolist() if changed else []
        names = tuple(name for name, flag in zip(changed, moved, strict=True) if flag)
        return AdapterFacts(self.layers, len(self._frozen), names)


@torch.no_grad()
def _few(parameter: Tensor) -> Tensor:
    return thinned(parameter.detach(), COMPARED)
