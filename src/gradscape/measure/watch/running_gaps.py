"""Distance between running statistics of BatchNorm and those of the batches that it is trained on.

Nothing is computed of a layer's input: autograd has saved the batch's statistics for the backward pass.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradscape.measure.core.graph.node import UNREADABLE, edge_of, saved
from gradscape.records.loss import RunningGap


@dataclass(frozen=True)
class PendingGaps:
    """Gaps of BatchNorm modules, whose numbers still are on their device.

    Attributes:
        names: Names of M modules.
        momenta: (M,) Weights of a batch in their running statistics.
        numbers: (M, 2) Distance, and number of batches that the running statistics are of.
    """

    names: tuple[str, ...]
    momenta: tuple[float, ...]
    numbers: Tensor

    def read(self) -> RunningGap:
        """Return the largest gap; waits for the device."""
        rows = self.numbers.nan_to_num().tolist()
        place = max(range(len(rows)), key=lambda each: rows[each][0])
        return RunningGap(self.names[place], rows[place][0], self.momenta[place], int(rows[place][1]))


class Gaps:
    """Gaps of the BatchNorm modules that were called once since the last reading, with other statistics."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, Tensor]]] = {}

    @torch.no_grad()
    def add(self, name: str, module: Any, output: Any) -> None:
        """Read the gap of a module in train mode, after its call.

        Args:
            name: Name of the module.
            module: BatchNorm module with running statistics.
            output: Its output.
        """
        with suppress(*UNREADABLE):  # a form that no one thought of must not end a training
            self._add(name, module, output)

    def _add(self, name: str, module: Any, output: Any) -> None:
        edge = edge_of(output) if isinstance(output, Tensor) else None
        if edge is None or module.momentum is None or module.num_batches_tracked is None:
            return
        mean, inverse = saved(edge, "result1"), saved(edge, "result2")
        if mean is None or inverse is None or mean.shape != module.running_mean.shape:
            return
        scale = (module.running_var.float() + module.eps).sqrt()
        shifted = (mean.float() - module.running_mean.float()) / scale
        widened = 1 / (inverse.float() * scale) - 1
        gap = (shifted.square() + widened.square()).mean().sqrt()
        numbers = torch.stack([gap, module.num_batches_tracked.to(gap)])
        self._found.setdefault(name, []).append((float(module.momentum), numbers))

    def take(self) -> PendingGaps | None:
        """Return the gaps since this was called; None without any.

        Modules that were called several times are left out: real and made samples, for instance, have
        statistics of their own, and the running ones lie between.
        """
        once = {name: each[0] for name, each in self._found.items() if len(each) == 1}
        self._found = {}
        if not once:
            return None
        device = next(iter(once.values()))[1].device
        numbers = torch.stack([each.to(device) for _, each in once.values()])
        return PendingGaps(tuple(once), tuple(momentum for momentum, _ in once.values()), numbers)
