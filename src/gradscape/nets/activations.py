"""Activations by name, and the gain of the weights before each."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

# A dict of callables: slope → the module. relu and leaky_relu work in place: their input is the output of a
# norm or a convolution, which neither needs for its backward pass, and their own gradients follow from their
# outputs. The gradient of gelu needs the input.
ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=slope > 0),
    "relu": lambda slope: nn.ReLU(inplace=True),
    "tanh": lambda slope: nn.Tanh(),
    "sigmoid": lambda slope: nn.Sigmoid(),
    "gelu": lambda slope: nn.GELU(),
    "selu": lambda slope: nn.SELU(),
}

# A dict of callables: slope → 1/√E[φ(z)²] of the activation φ, z standard normal. Weights of variance
# gain²/fan_in keep unit variance from layer to layer: He et al. 2015, eq. 10, for any φ.
# torch.nn.init.calculate_gain agrees for relu and leaky_relu only: it returns an empirical 5/3 for tanh, 1
# for sigmoid, as if that were linear, and 3/4 for selu, and has no gelu.
GAINS: dict[str, Callable[[float], float]] = {
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
    "relu": lambda slope: math.sqrt(2),
    # By adaptive quadrature, E[φ²] = 0.394294490397841, 0.293379035858093 and 0.425221482570299.
    "tanh": lambda slope: 1.592537419722831,
    "sigmoid": lambda slope: 1.846228545338605,
    "gelu": lambda slope: 1.533530441195535,
    "selu": lambda slope: 1.0,  # the two constants of selu are chosen for this (Klambauer et al. 2017, §2)
}
