"""Read every layer of a network as it runs: its output, and the gradient of its output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.batch import main_tensor
from gradscape.measure.core.layer_statistics import (
    dead_share,
    moments,
    saturated_share,
    unit_axis,
)
from gradscape.measure.core.layer_trace import Running, layer_kind, numbered


@dataclass
class Layer:
    """Statistics of one call of a layer: of its output, then of its gradients."""

    name: str
    kind: str
    module: nn.Module
    width: int
    second_moment: float = math.nan
    correlation: float = math.nan
    dead: float = math.nan
    saturated: float = math.nan
    nonfinite: bool = False
    gradient: float = math.nan
    weight_gradient: float = math.nan


class Reader:
    """Recorder of every layer's output and of its gradient, for a `Trace`.

    Args:
        size: Number of samples in the batch.

    Attributes:
        layers: Calls so far, in order.
        origin: First layer with an output that is not finite, in words; empty without one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.layers: list[Layer] = []
        self.origin = ""
        self.axis: int | None = None
        self.calls: dict[str, int] = {}

    def read(self, call: Running, output: Any) -> None:
        """Record an output, and its gradient once it is computed.

        Args:
            call: Call of the layer.
            output: Output of the call.
        """
        values, module = main_tensor(output), call.module
        if isinstance(module, nn.Identity):
            return
        self.calls[call.name] = count = self.calls.get(call.name, 0) + 1
        name, kind = call.name or type(module).__name__, layer_kind(module)
        layer = Layer(numbered(name, count), kind, module, 0)
        self.layers.append(layer)
        # Within torch.func (vmap, grad, …) what a layer gives has no numbers of its own.
        if values is None or not values.numel() or torch._C._functorch.is_functorch_wrapped_tensor(values):
            return
        self.axis = unit_axis(kind, module, self.axis)
        layer.width = values.numel() // self.size
        layer.second_moment, layer.correlation = map(float, moments(values, self.size))
        layer.nonfinite = not math.isfinite(layer.second_moment)
        layer.dead = _number(dead_share(module, values, self.axis))
        layer.saturated = _number(saturated_share(module, values))
        if layer.nonfinite and not self.origin:
            self.origin = self._origin_of(layer, call)
        if values.requires_grad:
            values.register_hook(partial(_record_gradient, layer))  # type: ignore[no-untyped-call]

    def _origin_of(self, layer: Layer, call: Running) -> str:
        inputs = main_tensor(call.given)
        if inputs is None or bool(inputs.detach().isfinite().all()):
            bad = any(not bool(p.detach().isfinite().all()) for p in layer.module.parameters())
            return f"{layer.name}, whose weights are not finite" if bad else layer.name
        before = self.layers[-2].name if len(self.layers) > 1 else ""
        return f"{layer.name}, whose input comes from operations after {before or 'the batch'}"


def _record_gradient(layer: Layer, gradient: Tensor | None) -> None:
    # None: what follows has no derivative, as a quantized layer has none, so that nothing comes back.
    layer.gradient = 0.0 if gradient is None else float(moments(gradient, 1)[0])


def _number(value: Tensor | None) -> float:
    return math.nan if value is None else float(value)


def weight_gradient(module: nn.Module) -> float:
    """Return the mean of (∂L/∂W)² over a layer's parameters without biases; 0 for those without a gradient.

    Args:
        module: Layer after the backward pass.
    """
    total, count = 0.0, 0
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not name.rsplit(".", 1)[-1].startswith("bias"):
            count += parameter.numel()
            if (gradient := parameter.grad) is not None:
                values = gradient.coalesce().values() if gradient.is_sparse else gradient
                total += float(moments(values, 1)[0]) * values.numel() if values.numel() else 0.0
    return total / count if count else math.nan
