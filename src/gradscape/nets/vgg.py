"""VGG of the paper (§5.2), of any depth 2 + stages × (2 × blocks + 2)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from gradscape.nets.backbone import StagedNet
from gradscape.nets.blocks import ConvBlock, EntryBlock, ReductionBlock
from gradscape.nets.fixup import FixupBlock, ScalarBias
from gradscape.nets.layers import Layers
from gradscape.nets.residual import ResidualBlock, survival_probabilities
from gradscape.nets.seeded import build_seeded


def vgg(
    *,
    blocks: int,
    classes: int,
    image_size: int,
    seed: int | None = None,
    filters: int = 32,
    stages: int = 3,
    layers: Layers | None = None,
    norm_where: str = "blocks",
    entry_norm: bool = False,
    conv_bias: str = "reduction",
    head: str = "average",
    skip: bool = False,
    stochastic_depth: float = 0.0,
    init: str = "default",
) -> VGG:
    """Build a VGG as in §5.2 of the paper; a `seed` alone decides its initial weights.

    Args:
        blocks: Convolutional blocks per stage (5 gives VGG38, 0 gives VGG08).
        classes: Outputs of the linear layer.
        image_size: Height and width of the images, divisible by 2**stages.
        seed: Seed of the initial weights, which preserves the state of torch's generators; by default torch's
            generator draws them, as for torch's own modules.
        filters: Channels of every convolution.
        stages: Number of stages; each ends in a reduction block that halves height and width.
        layers: Norm, activation and dropout; by default BatchNorm and LeakyReLU.
        norm_where, entry_norm, conv_bias, head: See `gradscape.config.network.NetConfig`.
        skip: Whether convolutional blocks add their input to their output. Reduction blocks never do: with
            no norm and default weights, the gradient of the first convolution on 100 images is then about
            1e-6 and that of the last 4e-5, as is known of this network; with pooled skips around reduction
            blocks they would be 1e-3 and 5e-4.
        stochastic_depth: Probability that the last block is skipped, see `survival_probabilities`; needs
            `skip`.
        init: Name of the initialization, see `initialize`; `fixup` needs `skip`.

    Returns:
        Module from (N, 3, image_size, image_size) images to (N, classes) logits.

    Example:
        >>> sum(p.numel() for p in vgg(blocks=0, classes=100, image_size=32, seed=0).parameters())
        59652
    """
    layers = layers or Layers()
    make = partial(
        VGG,
        blocks=blocks,
        classes=classes,
        pixels=(image_size >> stages) ** 2 if head == "flatten" else 1,
        filters=filters,
        stages=stages,
        layers=layers,
        norm_where=norm_where,
        entry_norm=entry_norm,
        conv_bias=conv_bias,
        skip=skip,
        stochastic_depth=stochastic_depth,
        with_fixup=init == "fixup",
    )
    return build_seeded(make, seed, init, layers)


class VGG(StagedNet):
    """Entry block, stages, linear layer; `vgg` has the arguments."""

    def __init__(
        self,
        *,
        blocks: int,
        classes: int,
        pixels: int,
        filters: int,
        stages: int,
        layers: Layers,
        norm_where: str,
        entry_norm: bool,
        conv_bias: str,
        skip: bool,
        stochastic_depth: float,
        with_fixup: bool,
    ) -> None:
        reducing = layers if norm_where == "everywhere" else replace(layers, norm="none")
        first = replace(layers, norm="batch") if entry_norm and reducing.norm == "none" else reducing
        alive = iter(survival_probabilities(stages * blocks, stochastic_depth))

        def bias(here: Layers, in_reduction: bool) -> bool:
            return in_reduction if conv_bias == "reduction" else here.bias

        def block() -> nn.Module:
            if with_fixup:
                return FixupBlock(filters, filters, layers, survival=next(alive))
            if skip:
                return ResidualBlock(filters, filters, layers, bias(layers, False), survival=next(alive))
            return ConvBlock(filters, layers, bias(layers, False))

        entry = EntryBlock(filters, first, bias(first, False) and not with_fixup)
        inside = [
            nn.Sequential(
                *(block() for _ in range(blocks)), ReductionBlock(filters, reducing, bias(reducing, True))
            )
            for _ in range(stages)
        ]
        pool: nn.Module = nn.AdaptiveAvgPool2d(1) if pixels == 1 else nn.Identity()
        if with_fixup:
            entry.norm = ScalarBias()
            pool = nn.Sequential(pool, ScalarBias())
        super().__init__(entry, inside, pool, nn.Linear(filters * pixels, classes))
