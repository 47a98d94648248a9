"""Weights whose units begin as copies of each other."""

from __future__ import annotations

from functools import cached_property

import torch

from gradscape.measure.core.parameters import WatchedParameters, is_plain
from gradscape.records.gradients import WEIGHT_KINDS


class EqualUnits:
    """Weights whose first, second and last rows are equal and not 0 when a watch begins.

    Args:
        watched: Watched parameters.
    """

    @torch.no_grad()
    def __init__(self, watched: WatchedParameters) -> None:
        # On the weights' devices, which nothing waits for before the names are asked for.
        self._equal = {
            name: (weight[0] == weight[1]).all() & (weight[0] == weight[-1]).all() & weight[0].any()
            for name, kind, weight in zip(watched.names, watched.kinds, watched.parameters, strict=True)
            if kind in WEIGHT_KINDS and weight.dim() > 1 and weight.shape[0] > 1 and is_plain(weight)
        }

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of these weights; waits for the device."""
        return tuple(name for name, equal in self._equal.items() if bool(equal))
