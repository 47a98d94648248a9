"""Weight initializations by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import EllipsisType

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gradscape.nets.activations import GAINS


@torch.no_grad()
def initialize(model: nn.Module, init: str, activation: str, slope: float) -> None:
    """Redraw convolution and linear weights in place and zero their biases; `default` changes nothing.

    Weights under torch's weight_norm are drawn like others, and g and v follow.

    Args:
        model: Any module.
        init: Name: `default`; `he`, normal with variance gain²/fan_in (He et al. 2015, eq. 10 and 15),
            LeCun's for selu; `glorot`, uniform with variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, eq.
            16); `orthogonal` times gain (Saxe et al. 2014), a kernel as the matrix (outputs, everything
            else); `delta_orthogonal` times gain (Xiao et al. 2018, Algorithm 1); `lsuv`, orthogonal without
            gain, for `gradscape.measure.check.reinitialize.unit_variance` to scale (Mishkin & Matas 2016).
        activation, slope: Name and negative slope that set the gain, 1/√E[φ(z)²] of `GAINS`: √2 for
            relu, √(2/(1+slope²)) for leaky_relu, 1.5925 for tanh, 1.8462 for sigmoid, 1.5335 for gelu, 1 for
            selu. `torch.nn.init.calculate_gain` differs: it returns 5/3 for tanh and 1 for sigmoid.

    Example:
        >>> initialize(model, "orthogonal", "tanh", 0.0)
    """
    if init == "default":
        return
    assert init in DRAWS, f"init: expected one of {', '.join(DRAWS)}; got {init}"
    gain = GAINS[activation](slope)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _redraw(module, DRAWS[init], gain)


def _redraw(module: nn.Conv2d | nn.Linear, draw: WeightInitializer, gain: float) -> None:
    weight = module.weight  # if parametrized, a tensor computed from others
    draw(weight, gain)
    if parametrize.is_parametrized(module, "weight"):
        module.weight = weight  # the parametrization's right inverse takes it
    if module.bias is not None:
        module.bias.zero_()


def _he_normal(weight: Tensor, gain: float) -> None:
    weight.normal_(0, gain / math.sqrt(weight[0].numel()))


def _delta_orthogonal(weight: Tensor, gain: float) -> None:
    """Draw an orthogonal matrix at the kernel's center and zeros elsewhere; a linear layer is all center.

    With no more inputs than outputs the columns are orthonormal times gain, which preserves norms; the paper
    defines no other case. With more inputs, the rows are.
    """
    weight.zero_()
    matrix = weight.new_empty(weight.shape[:2])
    center: tuple[EllipsisType | int, ...] = (..., *(size // 2 for size in weight.shape[2:]))
    weight[center] = nn.init.orthogonal_(matrix, gain)


WeightInitializer = Callable[[Tensor, float], object]

# A dict of callables: fill weight in place, with gain.
DRAWS: dict[str, WeightInitializer] = {
    "he": _he_normal,
    "glorot": lambda weight, gain: nn.init.xavier_uniform_(weight),
    "orthogonal": nn.init.orthogonal_,
    "delta_orthogonal": _delta_orthogonal,
    "lsuv": lambda weight, gain: nn.init.orthogonal_(weight),
}
