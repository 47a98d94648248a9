"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

# In place where it can be: the activation's input is BatchNorm's or the convolution's output, which neither
# needs for its backward pass, and these activations' gradients follow from their outputs.
ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=slope > 0),
    "relu": lambda slope: nn.ReLU(inplace=True),
    "tanh": lambda slope: nn.Tanh(),
}
