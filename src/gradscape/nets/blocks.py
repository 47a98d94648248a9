"""Blocks of the paper's VGG (§5.2) and of plain nets: every convolution is 3×3 with padding 1."""

from __future__ import annotations

from torch import Tensor, nn

from gradscape.nets.layers import Layers


class EntryBlock(nn.Module):
    """Conv2D → (norm) → activation, from 3 channels."""

    def __init__(self, filters: int, layers: Layers, bias: bool) -> None:
        super().__init__()
        self.conv = layers.conv(3, filters, bias=bias)
        self.norm = layers.after_conv(filters)
        self.activation = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H, W).

        Args:
            x: Images (N, 3, H, W).
        """
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class ConvBlock(nn.Module):
    """Conv2D → (norm) → activation → (dropout), twice.

    Args:
        filters: Output channels of both convolutions.
        layers: Maker of the layers.
        bias: Whether the convolutions have a bias.
        inputs: Input channels; `filters` by default.
        stride: Stride of the first convolution.
    """

    def __init__(
        self, filters: int, layers: Layers, bias: bool, inputs: int | None = None, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv(inputs or filters, filters, stride=stride, bias=bias)
        self.norm1 = layers.after_conv(filters)
        self.conv2 = layers.conv(filters, filters, bias=bias)
        self.norm2 = layers.after_conv(filters)
        self.activation = layers.act()
        self.drop1, self.drop2 = layers.drop(), layers.drop()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H / stride, W / stride).

        Args:
            x: Features (N, inputs, H, W).
        """
        x = self.drop1(self.activation(self.norm1(self.conv1(x))))
        x = self._between(x)
        out: Tensor = self.drop2(self.activation(self.norm2(self.conv2(x))))
        return out

    def _between(self, x: Tensor) -> Tensor:
        return x


class ReductionBlock(ConvBlock):
    """`ConvBlock` with average pooling by 2 after its first half: halves height and width."""

    def __init__(self, filters: int, layers: Layers, bias: bool) -> None:
        super().__init__(filters, layers, bias)
        self.pool = nn.AvgPool2d(2)

    def _between(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)
        return out
