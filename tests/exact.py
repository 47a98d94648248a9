"""Dense second derivatives in float64: what products with a matrix are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def as_function(model: nn.Module, loss: Callable[..., Tensor], x: Any, y: Any) -> tuple[Any, list[Tensor]]:
    """The loss as a function of the parameters that have a gradient, and these; the model as it is."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    held = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    held |= {name: buffer.clone() for name, buffer in model.named_buffers()}

    def value(*parameters: Tensor) -> Tensor:
        fresh = {name: values.clone() for name, values in held.items()}
        output = functional_call(model, {**fresh, **dict(zip(names, parameters, strict=True))}, (x,))
        return loss(output, y)

    return value, [p.detach() for p in model.parameters() if p.requires_grad]


def dense_hessian(model: nn.Module, loss: Callable[..., Tensor], x: Any, y: Any) -> Tensor:
    """(n, n), by PyTorch's own double backward."""
    value, parameters = as_function(model, loss, x, y)
    rows = torch.autograd.functional.hessian(value, tuple(parameters))
    sizes = [p.numel() for p in parameters]
    return torch.cat(
        [
            torch.cat([part.reshape(n, m) for part, m in zip(row, sizes, strict=True)], 1)
            for row, n in zip(rows, sizes, strict=True)
        ]
    )


def dense_gauss_newton(model: nn.Module, loss: Callable[..., Tensor], x: Any, y: Any) -> Tensor:
    """(n, n) JᵀHJ, with J of the outputs by the parameters and H of the loss by the outputs."""
    output, parameters = as_function(model, lambda out, _: out, x, y)
    jacobian = torch.autograd.functional.jacobian(output, tuple(parameters))
    f = output(*parameters)
    j = torch.cat([part.reshape(f.numel(), -1) for part in jacobian], 1)
    h = torch.autograd.functional.hessian(lambda out: loss(out, y), f).reshape(f.numel(), f.numel())
    return j.T @ h @ j
