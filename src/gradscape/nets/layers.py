"""One maker for a network's convolutions, norms, activations and dropout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from gradscape.nets.activations import ACTIVATIONS
from gradscape.nets.normalization import NORMS, PAPER_STEPS


@dataclass(frozen=True)
class Layers:
    """Maker of a network's layers, all of one kind.

    Attributes:
        norm: Name of the norm, see `gradscape.nets.normalization.NORMS`.
        groups: Groups of GroupNorm.
        activation: Name of the activation, see `gradscape.nets.activations.ACTIVATIONS`.
        slope: Negative slope of LeakyReLU.
        dropout: Probability of dropout, 0 for none.
        steps: Mini-batches of the whole training; Batch Renormalization's schedule is scaled to them.

    Example:
        >>> Layers(norm="none").after_conv(32)
        Identity()
    """

    norm: str = "batch"
    groups: int = 8
    activation: str = "leaky_relu"
    slope: float = 0.01
    dropout: float = 0.0
    steps: int = PAPER_STEPS

    @property
    def bias(self) -> bool:
        """True if a convolution needs a bias: a norm that shifts would cancel it."""
        return self.norm in ("none", "weight")

    def conv(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool) -> nn.Conv2d:
        """Return a convolution that preserves height and width at stride 1.

        Under the norm `weight`, w = g v/‖v‖ with one g per output channel: Salimans & Kingma (2016), eq. 2.

        Args:
            inputs, outputs: Numbers of channels.
            kernel: Height and width of the kernel.
            stride: Stride in both directions.
            bias: Whether it has a bias.
        """
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
        if self.norm == "weight":
            weight_norm(conv)
        return conv

    def after_conv(self, channels: int) -> nn.Module:
        """Return the norm after a convolution (in a DenseNet, before it).

        Args:
            channels: C of its input (N, C, H, W).
        """
        return NORMS[self.norm](channels, self.groups, self.steps)

    def act(self) -> nn.Module:
        """Return the activation."""
        return ACTIVATIONS[self.activation](self.slope)

    def drop(self) -> nn.Module:
        """Return dropout (Srivastava et al. 2014); with selu, alpha dropout (Klambauer et al. 2017)."""
        if not self.dropout:
            return nn.Identity()
        return nn.AlphaDropout(self.dropout) if self.activation == "selu" else nn.Dropout(self.dropout)
