"""Record activations that a network calls as functions, such as `F.relu`, like layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradscape.measure.core.layer_trace import Running, Trace, layer_kind

# function → equivalent module
FUNCTIONS: dict[Callable[..., Any], nn.Module] = {
    **dict.fromkeys((torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu), nn.ReLU()),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), nn.LeakyReLU()),
    **dict.fromkeys((F.elu, F.elu_), nn.ELU()),
    **dict.fromkeys((torch.tanh, Tensor.tanh), nn.Tanh()),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid), nn.Sigmoid()),
    F.selu: nn.SELU(),
    F.gelu: nn.GELU(),
    F.silu: nn.SiLU(),
    F.mish: nn.Mish(),
}


class Functions(TorchFunctionMode):
    """Mode that reports every such call to a trace as a layer named `module function`.

    Args:
        trace: Active trace. Functions called inside an activation module are not reported again.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        module, stack = FUNCTIONS.get(func), self.trace.stack
        if module is not None and stack and layer_kind(stack[-1].module) != "activation":
            name = func.__name__.rstrip("_")
            self.trace.seen(Running(f"{stack[-1].name} {name}".strip(), module, args), output)
        return output
