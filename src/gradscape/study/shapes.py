"""Convolutions of a configured network, without building it: its costs follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradscape.config.network import NetConfig


@dataclass(frozen=True)
class Conv:
    """One convolution.

    Attributes:
        inputs, outputs: Number of channels.
        kernel: Edge of the kernel, in pixels.
        pixels: Number of pixels of its output.
        normed: True if a normalization layer belongs to it.
    """

    inputs: int
    outputs: int
    kernel: int
    pixels: int
    normed: bool

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.kernel**2 * self.inputs * self.outputs * self.pixels


def convolutions(net: NetConfig, size: int) -> list[Conv]:
    """Return all convolutions, input to output.

    Args:
        net: Configuration of the network.
        size: Height and width of its images, in pixels.
    """
    assert net.filters is not None
    everywhere = net.norm != "none" and (net.family != "vgg" or net.norm_where == "everywhere")
    entry = Conv(3, net.filters, 3, size**2, everywhere)
    rest = {"vgg": _vgg, "resnet": _resnet, "plain": _resnet, "densenet": _densenet, "densenet_bc": _densenet}
    return [entry, *rest[net.family](net, size, everywhere)]


def features(net: NetConfig, size: int) -> int:
    """Return the number of inputs of the linear layer.

    Args:
        net: Configuration of the network.
        size: Height and width of its images, in pixels.
    """
    assert net.filters is not None
    if net.family == "vgg":
        return net.filters * ((size >> net.stages) ** 2 if net.head == "flatten" else 1)
    return net.widths[-1] if net.family in ("resnet", "plain") else net.dense_stages[-1][-1]


def _vgg(net: NetConfig, size: int, everywhere: bool) -> Iterator[Conv]:
    width = net.filters
    assert width is not None
    for stage in range(net.stages):
        pixels = (size >> stage) ** 2
        yield from [Conv(width, width, 3, pixels, net.norm != "none")] * (2 * net.blocks)
        yield Conv(width, width, 3, pixels, everywhere)
        yield Conv(width, width, 3, pixels // 4, everywhere)


def _resnet(net: NetConfig, size: int, normed: bool) -> Iterator[Conv]:
    before = net.widths[0]
    for stage, width in enumerate(net.widths):
        pixels = (size >> stage) ** 2
        for _ in range(net.blocks):
            yield Conv(before, width, 3, pixels, normed)
            yield Conv(width, width, 3, pixels, normed)
            if before != width and net.family == "resnet" and net.shortcut == "b":
                yield Conv(before, width, 1, pixels, normed)
            before = width


def _densenet(net: NetConfig, size: int, normed: bool) -> Iterator[Conv]:
    stages = net.dense_stages
    for stage, channels in enumerate(stages):
        pixels = (size >> stage) ** 2
        for inputs in channels[:-1]:
            if net.family == "densenet_bc":
                yield Conv(inputs, 4 * net.growth, 1, pixels, normed)
                inputs = 4 * net.growth
            yield Conv(inputs, net.growth, 3, pixels, normed)
        if stage + 1 < len(stages):
            yield Conv(channels[-1], stages[stage + 1][0], 1, pixels, normed)
