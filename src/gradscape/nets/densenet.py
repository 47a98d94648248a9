"""DenseNet and DenseNet-BC for CIFAR: every layer sees the outputs of all before it (Huang et al. 2017)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from gradscape.nets.layers import Layers
from gradscape.nets.seeded import build_seeded

WIDENING = 4  # channels of a bottleneck, in units of growth (§3)


def densenet(
    *,
    blocks: int,
    classes: int,
    seed: int | None = None,
    filters: int = 16,
    stages: int = 3,
    growth: int = 12,
    bottleneck: bool = False,
    compression: float = 1.0,
    layers: Layers | None = None,
    init: str = "default",
) -> DenseNet:
    """Build a DenseNet as in §3 of Huang et al. (2017); a `seed` alone decides its initial weights.

    Args:
        blocks: Layers per stage, which the paper calls a dense block: 12 give its L = 40; 16, with
            bottlenecks, its DenseNet-BC of L = 100.
        classes: Outputs of the linear layer.
        seed: Seed of the initial weights, which preserves the state of torch's generators; by default torch's
            generator draws them, as for torch's own modules.
        filters: Channels of the first convolution: 16 in the paper, 2 × growth for DenseNet-BC.
        stages: Number of stages; height and width halve between them.
        growth: k, the channels that each layer adds.
        bottleneck: Whether a 1×1 convolution to 4k channels precedes each 3×3 one (the B of BC).
        compression: θ, the fraction of channels that a transition passes on (the C of BC: 0.5).
        layers: Norm, activation and dropout; by default BatchNorm and LeakyReLU.
        init: Name of the initialization, see `gradscape.nets.initialization.initialize`.

    Returns:
        Module from (N, 3, H, W) images, H and W divisible by 2**(stages - 1), to (N, classes) logits.

    Example:
        >>> sum(p.numel() for p in densenet(blocks=12, classes=10, seed=0).parameters())
        1019722
    """
    layers = layers or Layers()
    make = partial(
        DenseNet,
        blocks=blocks,
        classes=classes,
        filters=filters,
        stages=stages,
        growth=growth,
        bottleneck=bottleneck,
        compression=compression,
        layers=layers,
    )
    return build_seeded(make, seed, init, layers)


class DenseNet(nn.Module):
    """Convolution, stages with a transition between each two, linear layer; `densenet` has the arguments."""

    def __init__(
        self,
        *,
        blocks: int,
        classes: int,
        filters: int,
        stages: int,
        growth: int,
        bottleneck: bool,
        compression: float,
        layers: Layers,
    ) -> None:
        super().__init__()
        self.entry = layers.conv(3, filters, bias=layers.bias)
        channels = filters
        for stage in range(1, stages + 1):
            inside = [DenseLayer(channels + b * growth, growth, layers, bottleneck) for b in range(blocks)]
            self.add_module(f"stage{stage}", nn.Sequential(*inside))
            channels += blocks * growth
            if stage < stages:
                passed = int(compression * channels)
                reduced = PreActivation(channels, passed, 1, layers)
                self.add_module(f"transition{stage}", nn.Sequential(reduced, nn.AvgPool2d(2)))
                channels = passed
        self.norm = layers.after_conv(channels)
        self.activation = layers.act()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, classes)
        self.stages = stages

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes), in float32.

        Args:
            x: Images (N, 3, H, W).
        """
        x = self.entry(x)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{stage}")(x)
            if stage < self.stages:
                x = self.get_submodule(f"transition{stage}")(x)
        features = self.pool(self.activation(self.norm(x))).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # in mixed precision, logits stay float32
            logits: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return logits


class DenseLayer(nn.Module):
    """Layer from [x_0, …, x_{l−1}] to [x_0, …, x_l], concatenated by channel: x_l = H_l(…), equation (2)."""

    def __init__(self, channels: int, growth: int, layers: Layers, bottleneck: bool) -> None:
        super().__init__()
        wide = WIDENING * growth
        parts = [PreActivation(channels, wide, 1, layers)] if bottleneck else []
        parts.append(PreActivation(wide if bottleneck else channels, growth, 3, layers))
        self.composite = nn.Sequential(*parts)  # H_l

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C + growth, H, W).

        Args:
            x: Features (N, C, H, W).
        """
        return torch.cat([x, self.composite(x)], dim=1)


class PreActivation(nn.Module):
    """(norm) → activation → Conv2D → (dropout)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, layers: Layers) -> None:
        super().__init__()
        self.norm = layers.after_conv(inputs)
        self.activation = layers.act()
        if isinstance(self.norm, nn.Identity):
            # In place, it would overwrite features that later layers and the backward pass need.
            vars(self.activation).update(inplace=False)
        self.conv = layers.conv(inputs, outputs, kernel, bias=layers.bias)
        self.dropout = layers.drop()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H, W).

        Args:
            x: Features (N, inputs, H, W).
        """
        out: Tensor = self.dropout(self.conv(self.activation(self.norm(x))))
        return out
