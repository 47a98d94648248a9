"""What a network is made of: one maker for its convolutions, norms, activations and dropout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gradscape.nets.activate import ACTIVATIONS
from gradscape.nets.normalise import NORMS


@dataclass(frozen=True)
class Layers:
    """Makes a network's layers, all of one kind.

    Attributes:
        norm, groups, activation, slope, dropout: as in `gradscape.config.NetConfig`.

    Example:
        >>> Layers(norm="none").after_conv(32)
        Identity()
    """

    norm: str = "batch"
    groups: int = 8
    activation: str = "leaky_relu"
    slope: float = 0.01
    dropout: float = 0.0

    def conv(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool) -> nn.Conv2d:
        """A convolution that keeps height and width at stride 1."""
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)

    def after_conv(self, channels: int) -> nn.Module:
        """The norm after a convolution, or before it in a DenseNet."""
        return NORMS[self.norm](channels)

    def act(self) -> nn.Module:
        return ACTIVATIONS[self.activation](self.slope)

    def drop(self) -> nn.Module:
        """Dropout (Srivastava et al. 2014); with selu, alpha dropout (Klambauer et al. 2017)."""
        if not self.dropout:
            return nn.Identity()
        return nn.AlphaDropout(self.dropout) if self.activation == "selu" else nn.Dropout(self.dropout)
