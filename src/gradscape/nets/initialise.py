"""Weight initialisations by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


def initialise(model: nn.Module, init: str, activation: str, slope: float) -> None:
    """Redraw convolution and linear weights in place and zero their biases; `default` leaves all as is.

    Args:
        model: any module.
        init: `default`; `he`, normal with variance gain²/fan_in (He et al. 2015, eq. 10 and 15); `glorot`,
            uniform with variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16).
        activation, slope: set He's gain: √(2/(1+slope²)) for leaky_relu.
    """
    if init == "default":
        return
    for module in model.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if init == "he":
            redraw(module, lambda w: nn.init.kaiming_normal_(w, a=slope, nonlinearity=activation))  # type: ignore[arg-type]
        else:
            redraw(module, nn.init.xavier_uniform_)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def redraw(module: nn.Conv2d | nn.Linear, draw: Callable[[Tensor], object]) -> None:
    """Draw a layer's weight in place; under weight normalisation, the g and v that make it."""
    weight = module.weight.detach()  # where it is made of others, a copy, which is then given back
    draw(weight)
    if is_parametrized(module, "weight"):
        module.weight = weight
