"""What VGGs, ResNets and plain nets share: an entry, stages of blocks, a pool, a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Staged(nn.Module):
    """entry → stage1 → … → pool → linear, registered in this order; logits stay float32.

    Args:
        entry: from images.
        stages: each a chain of blocks.
        pool: what comes before the linear layer, whose inputs are all values of its output.
        linear: the classifier.
    """

    def __init__(
        self, entry: nn.Module, stages: Sequence[nn.Module], pool: nn.Module, linear: nn.Linear
    ) -> None:
        super().__init__()
        self.entry = entry
        for number, stage in enumerate(stages, 1):
            self.add_module(f"stage{number}", stage)
        self.pool = pool
        self.linear = linear
        self.stages = len(stages)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{stage}")(x)
        features = self.pool(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # in mixed precision, logits stay float32
            logits: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return logits
