"""Weight initialisations by name."""

from __future__ import annotations

from torch import nn


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
            nn.init.kaiming_normal_(module.weight, a=slope, nonlinearity=activation)  # type: ignore[arg-type]
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
