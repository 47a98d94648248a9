"""What a network is made of: one maker for its convolutions, norms, activations and dropout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from gradscape.nets.activations import ACTIVATIONS
from gradscape.nets.normalization import NORMS, PAPER_STEPS


@dataclass(frozen=True)
class Layers:
    """Makes a network's layers, all of one kind.

    Attributes:
        norm, groups, activation, slope, dropout: as in `gradscape.config.run.NetConfig`.
        steps: mini-batches of the whole training, of which Batch Renormalization's schedule takes shares.

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
        """Whether a convolution needs a bias: a norm that shifts would take it away again."""
        return self.norm in ("none", "weight")

    def conv(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool) -> nn.Conv2d:
        """A convolution that keeps height and width at stride 1; of norm weight, its w = g v/‖v‖.

        That is equation (2) of Salimans & Kingma (2016), with a g for each output channel.
        """
        made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
        if self.norm == "weight":
            weight_norm(made)
        return made

    def after_conv(self, channels: int) -> nn.Module:
        """The norm after a convolution, or before it in a DenseNet."""
        return NORMS[self.norm](channels, self.groups, self.steps)

    def act(self) -> nn.Module:
        return ACTIVATIONS[self.activation](self.slope)

    def drop(self) -> nn.Module:
        """Dropout (Srivastava et al. 2014); with selu, alpha dropout (Klambauer et al. 2017)."""
        if not self.dropout:
            return nn.Identity()
        return nn.AlphaDropout(self.dropout) if self.activation == "selu" else nn.Dropout(self.dropout)
