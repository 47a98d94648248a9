"""Fixup: residual networks without normalization, by Zhang et al. (2019), §3 and Figure 1.

Its rules: 1. the classifier and the last layer of every branch start at 0; 2. other layers start as usual,
those inside branches scaled by L^(-1/(2m-2)); 3. a scalar multiplier in every branch, and a scalar bias
before each convolution, linear layer and activation. Layers outside residual blocks, such as a network's
entry and the reduction blocks of a VGG, keep their own biases and are initialized as in He et al. (2015).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradscape.nets.backbone import StagedNet
from gradscape.nets.initialization import initialize
from gradscape.nets.layers import Layers
from gradscape.nets.residual import make_shortcut, make_stochastic

M = 2  # layers in a branch


class ScalarBias(nn.Module):
    """x + b: one trainable number for all values, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + b, of the shape of x.

        Args:
            x: Features of any shape.
        """
        return x + self.bias


class ScalarMultiplier(nn.Module):
    """g · x: one trainable number for all values, 1 at first, in the place of a norm's γ."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return g · x, of the shape of x.

        Args:
            x: Features of any shape.
        """
        return x * self.weight


class FixupBlock(nn.Module):
    """Residual block of Figure 1, right: biases around each layer, a multiplier, no norm.

    As in the authors' code, a shortcut other than the identity has the same input as conv1, and the bias
    before the last activation is added before the sum.

    Args:
        inputs, filters, stride, kind, survival: See `ResidualBlock`.
        layers: Maker of the layers, without a norm.
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        layers: Layers,
        stride: int = 1,
        kind: str = "a",
        survival: float = 1.0,
    ) -> None:
        super().__init__()
        self.bias1a = ScalarBias()
        self.conv1 = layers.conv(inputs, filters, stride=stride, bias=False)
        self.bias1b = ScalarBias()
        self.drop = layers.drop()
        self.bias2a = ScalarBias()
        self.conv2 = layers.conv(filters, filters, bias=False)
        self.multiplier = ScalarMultiplier()
        self.bias2b = ScalarBias()
        self.depth = make_stochastic(survival)
        self.shortcut = make_shortcut(kind, inputs, filters, stride, layers, bias=False)
        self.activation = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H / stride, W / stride).

        Args:
            x: Features (N, inputs, H, W).
        """
        shifted = self.bias1a(x)
        branch = self.activation(self.bias1b(self.conv1(shifted)))
        branch = self.bias2b(self.multiplier(self.conv2(self.bias2a(self.drop(branch)))))
        straight = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(shifted)
        out: Tensor = self.activation(self.depth(branch) + straight)
        return out


def fixup(model: StagedNet, activation: str, slope: float) -> None:
    """Initialize a network of `FixupBlock`s in place, by rules 1 and 2, with He et al. (2015) as the start.

    Args:
        model: Network; its convolutions outside residual branches have He's initialization.
        activation, slope: See `initialize`.
    """
    initialize(model, "he", activation, slope)
    blocks = [module for module in model.modules() if isinstance(module, FixupBlock)]
    with torch.no_grad():
        for block in blocks:
            block.conv1.weight *= len(blocks) ** (-1 / (2 * M - 2))
            block.conv2.weight.zero_()
        model.linear.weight.zero_()
        model.linear.bias.zero_()
