"""Backbone that VGGs, ResNets and plain nets share: an entry, stages of blocks, a pool, a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StagedNet(nn.Module):
    """Network entry → stage1 → … → pool → linear; the submodules have these names and this order.

    Args:
        entry: Block applied to the images.
        stages: Chains of blocks, in order.
        pool: Module before the linear layer; its output is flattened.
        linear: Classifier.
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
        """Return logits (N, classes), in float32.

        Args:
            x: Images (N, 3, H, W).
        """
        x = self.entry(x)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{stage}")(x)
        features = self.pool(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # in mixed precision, logits stay float32
            logits: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return logits
