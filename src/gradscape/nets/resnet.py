"""ResNets for CIFAR of He et al. (2016), §4.2, and plain nets, with 2 × stages × blocks + 2 layers."""

from __future__ import annotations

from functools import partial

from torch import nn

from gradscape.nets.backbone import StagedNet
from gradscape.nets.blocks import ConvBlock, EntryBlock
from gradscape.nets.fixup import FixupBlock, ScalarBias
from gradscape.nets.layers import Layers
from gradscape.nets.residual import ResidualBlock, survival_probabilities
from gradscape.nets.seeded import build_seeded


def resnet(
    *,
    blocks: int,
    classes: int,
    seed: int | None = None,
    filters: int = 16,
    stages: int = 3,
    layers: Layers | None = None,
    skips: bool = True,
    shortcut: str = "a",
    stochastic_depth: float = 0.0,
    init: str = "default",
) -> ResNet:
    """Build a ResNet or a plain net as in §4.2 of He et al. (2016); a `seed` decides its initial weights.

    Args:
        blocks: Blocks per stage (3 gives ResNet-20, 18 gives ResNet-110).
        classes: Outputs of the linear layer.
        seed: Seed of the initial weights, which preserves the state of torch's generators; by default torch's
            generator draws them, as for torch's own modules.
        filters: Channels of the first stage; each later stage has twice as many, at half the height and
            width.
        stages: Number of stages.
        layers: Norm and activation; by default BatchNorm and LeakyReLU (the paper: ReLU).
        skips: Whether blocks add their input to their output; False gives the plain net.
        shortcut: Option `a` or `b` where the shape changes, see `make_shortcut`; needs skips.
        stochastic_depth: Probability that the last block is skipped, see `survival_probabilities`; needs
            skips.
        init: Name of the initialization, see `initialize`; `fixup` needs skips.

    Returns:
        Module from (N, 3, height, width) images to (N, classes) logits.

    Example:
        >>> sum(p.numel() for p in resnet(blocks=3, classes=10, seed=0).parameters())
        269722
    """
    layers = layers or Layers()
    make = partial(
        ResNet,
        blocks=blocks,
        classes=classes,
        filters=filters,
        stages=stages,
        layers=layers,
        skips=skips,
        shortcut=shortcut,
        stochastic_depth=stochastic_depth,
        with_fixup=init == "fixup",
    )
    return build_seeded(make, seed, init, layers)


class ResNet(StagedNet):
    """3×3 convolution, stages, global average pooling, linear layer; `resnet` has the arguments."""

    def __init__(
        self,
        *,
        blocks: int,
        classes: int,
        filters: int,
        stages: int,
        layers: Layers,
        skips: bool,
        shortcut: str,
        stochastic_depth: float,
        with_fixup: bool,
    ) -> None:
        bias = layers.bias and not with_fixup
        alive = iter(survival_probabilities(stages * blocks, stochastic_depth))

        def block(inputs: int, outputs: int, stride: int) -> nn.Module:
            if not skips:
                return ConvBlock(outputs, layers, bias, inputs, stride)
            if with_fixup:
                return FixupBlock(inputs, outputs, layers, stride, shortcut, next(alive))
            return ResidualBlock(inputs, outputs, layers, bias, stride, shortcut, next(alive))

        entry = EntryBlock(filters, layers, bias)
        inside = []
        for stage in range(stages):
            width = filters * 2**stage
            first = block(width // 2, width, 2) if stage else block(width, width, 1)
            inside.append(nn.Sequential(first, *(block(width, width, 1) for _ in range(blocks - 1))))
        pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        if with_fixup:
            entry.norm = ScalarBias()
            pool = nn.Sequential(pool, ScalarBias())
        super().__init__(entry, inside, pool, nn.Linear(filters * 2 ** (stages - 1), classes))
