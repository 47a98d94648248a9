"""Reads every layer of a network as it runs: its output, and the gradient that comes back to it."""

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
    """One call of a layer: what was read as it ran, then its gradients."""

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
    """Reads every layer's output as it is made, and asks to be told of the gradient that comes back to it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.layers: list[Layer] = []
        self.origin = ""
        self.axis: int | None = None
        self.calls: dict[str, int] = {}

    def seen(self, call: Running, output: Any) -> None:
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
            self.origin = self.origin_of(layer, call)
        if values.requires_grad:
            values.register_hook(partial(_keep, layer))  # type: ignore[no-untyped-call]

    def origin_of(self, layer: Layer, call: Running) -> str:
        given = main_tensor(call.given)
        if given is None or bool(given.detach().isfinite().all()):
            bad = any(not bool(p.detach().isfinite().all()) for p in layer.module.parameters())
            return f"{layer.name}, whose weights are not finite" if bad else layer.name
        before = self.layers[-2].name if len(self.layers) > 1 else ""
        return f"{layer.name}, which was given it by what lies between {before or 'the batch'} and it"


def _keep(layer: Layer, gradient: Tensor) -> None:
    layer.gradient = float(moments(gradient, 1)[0])


def _number(value: Tensor | None) -> float:
    return math.nan if value is None else float(value)


def weight_gradient(module: nn.Module) -> float:
    """Mean (∂L/∂W)² over a layer's parameters but for biases; 0 for those the loss does not reach."""
    total, count = 0.0, 0
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not name.rsplit(".", 1)[-1].startswith("bias"):
            count += parameter.numel()
            if (gradient := parameter.grad) is not None:
                values = gradient.coalesce().values() if gradient.is_sparse else gradient
                total += float(moments(values, 1)[0]) * values.numel() if values.numel() else 0.0
    return total / count if count else math.nan
