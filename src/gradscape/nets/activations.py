"""Activations by name, and the gain of weights that each asks for."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

# A dict of callables: slope → the module. In place where it can be: the activation's input is the output of a
# norm or a convolution, which neither needs for its backward pass, and the gradients of the first two follow
# from their outputs. gelu's needs its input.
ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=slope > 0),
    "relu": lambda slope: nn.ReLU(inplace=True),
    "tanh": lambda slope: nn.Tanh(),
    "sigmoid": lambda slope: nn.Sigmoid(),
    "gelu": lambda slope: nn.GELU(),
    "selu": lambda slope: nn.SELU(),
}

# A dict of callables: slope → 1/√E[φ(z)²] of the activation φ, z standard normal. Weights of variance
# gain²/fan_in then keep outputs of unit variance at unit variance: He et al. 2015, eq. 10, for any φ.
# torch.nn.init.calculate_gain agrees on relu and leaky_relu alone: it has 5/3 for tanh, by experience, 1 for
# sigmoid, as if that were linear, 3/4 for selu, and knows no gelu.
GAINS: dict[str, Callable[[float], float]] = {
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
    "relu": lambda slope: math.sqrt(2),
    # By adaptive quadrature, E[φ²] = 0.394294490397841, 0.293379035858093 and 0.425221482570299.
    "tanh": lambda slope: 1.592537419722831,
    "sigmoid": lambda slope: 1.846228545338605,
    "gelu": lambda slope: 1.533530441195535,
    "selu": lambda slope: 1.0,  # what its two constants are chosen for (Klambauer et al. 2017, §2)
}
