"""Fixup: residual networks without normalisation, by Zhang et al. (2019), §3 and Figure 1.

Their rules: 1. the classifier and the last layer of every branch start at 0; 2. other layers start as usual,
those inside branches scaled by L^(-1/(2m-2)); 3. a scalar multiplier in every branch, and a scalar bias
before each convolution, linear layer and activation. What is not a residual block, as a network's entry and
the reduction blocks of a VGG, keeps its own biases and is initialised as He et al. (2015) have it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradscape.nets.backbone import Staged
from gradscape.nets.initialization import initialise
from gradscape.nets.layers import Layers
from gradscape.nets.residual import shortcut, stochastic

M = 2  # layers in a branch


class ScalarBias(nn.Module):
    """x + b, one number for all values, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class ScalarMultiplier(nn.Module):
    """g · x, one number for all values, 1 at first: in the place of a norm's γ."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class FixupBlock(nn.Module):
    """A `ResidualBlock` of Figure 1, right: biases around each layer, a multiplier, no norm.

    As in the authors' code a shortcut that is not the identity is given what conv1 is given, and the bias
    before the last activation comes before the sum.

    Args:
        inputs, filters, layers, stride, kind, survival: as of `ResidualBlock`; `layers` without a norm.
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
        self.depth = stochastic(survival)
        self.shortcut = shortcut(kind, inputs, filters, stride, layers, bias=False)
        self.activation = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        shifted = self.bias1a(x)
        branch = self.activation(self.bias1b(self.conv1(shifted)))
        branch = self.bias2b(self.multiplier(self.conv2(self.bias2a(self.drop(branch)))))
        straight = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(shifted)
        out: Tensor = self.activation(self.depth(branch) + straight)
        return out


def fixup(model: Staged, activation: str, slope: float) -> None:
    """Initialise a network of `FixupBlock`s in place, by rules 1 and 2; He et al. (2015) is the usual way.

    Args:
        model: its convolutions outside of branches stay He's.
        activation, slope: as of `initialise`.
    """
    initialise(model, "he", activation, slope)
    blocks = [module for module in model.modules() if isinstance(module, FixupBlock)]
    with torch.no_grad():
        for block in blocks:
            block.conv1.weight *= len(blocks) ** (-1 / (2 * M - 2))
            block.conv2.weight.zero_()
        model.linear.weight.zero_()
        model.linear.bias.zero_()
