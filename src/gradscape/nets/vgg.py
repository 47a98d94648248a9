"""The paper's VGG at any depth 2 + stages × (2 × blocks + 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gradscape.nets.blocks import ConvBlock, EntryBlock, ReductionBlock
from gradscape.nets.initialise import initialise
from gradscape.nets.layers import Layers


def vgg(
    *,
    blocks: int,
    classes: int,
    image_size: int,
    seed: int,
    filters: int = 32,
    stages: int = 3,
    layers: Layers | None = None,
    norm_where: str = "blocks",
    entry_norm: bool = False,
    conv_bias: str = "reduction",
    head: str = "average",
    init: str = "default",
) -> VGG:
    """A VGG as in §5.2 of the paper, its weights drawn from `seed` alone.

    Args:
        blocks: convolutional blocks per stage (5 gives VGG38, 0 gives VGG08).
        classes: outputs of the linear layer.
        image_size: height and width of the images, divisible by 2**stages.
        seed: of the initial weights; torch's global generator is left as found.
        layers: its norm, activation and dropout; by default BatchNorm and LeakyReLU.
        filters, stages, norm_where, entry_norm, conv_bias, head, init: as in `gradscape.config.NetConfig`.

    Returns:
        A module from (N, 3, image_size, image_size) images to (N, classes) logits.

    Example:
        >>> sum(p.numel() for p in vgg(blocks=0, classes=100, image_size=32, seed=0).parameters())
        59652
    """
    layers = layers or Layers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VGG(
            blocks=blocks,
            classes=classes,
            pixels=(image_size >> stages) ** 2 if head == "flatten" else 1,
            filters=filters,
            stages=stages,
            layers=layers,
            norm_where=norm_where,
            entry_norm=entry_norm,
            conv_bias=conv_bias,
        )
        initialise(model, init, layers.activation, layers.slope)
    return model


class VGG(nn.Module):
    """InputBlock, stages, fully connected layer; see `vgg` for the arguments."""

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
    ) -> None:
        super().__init__()
        reducing = layers if norm_where == "everywhere" else replace(layers, norm="none")
        entry = replace(layers, norm="batch") if entry_norm and reducing.norm == "none" else reducing

        def bias(here: Layers, in_reduction: bool) -> bool:
            return in_reduction if conv_bias == "reduction" else here.bias

        self.entry = EntryBlock(filters, entry, bias(entry, False))
        for stage in range(1, stages + 1):
            inside = [ConvBlock(filters, layers, bias(layers, False)) for _ in range(blocks)]
            last = ReductionBlock(filters, reducing, bias(reducing, True))
            self.add_module(f"stage{stage}", nn.Sequential(*inside, last))
        self.pool = nn.AdaptiveAvgPool2d(1) if pixels == 1 else nn.Identity()
        self.linear = nn.Linear(filters * pixels, classes)
        self.stages = stages

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{stage}")(x)
        features = self.pool(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # in mixed precision, logits stay float32
            logits: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return logits
