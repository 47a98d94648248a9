"""Fold BatchNorm in eval mode into the convolution before it, which saves a pass over its output.

One pass of the model reveals which norm follows which convolution: a pair counts if the norm takes the
convolution's whole output, nothing else reads that, and both are called once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradscape.measure.core.containers import tensors

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
# Methods and attributes that describe a tensor without reading its values.
METHODS = {"dim", "size", "numel", "is_contiguous", "stride", "ndimension"}
ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda"}


@dataclass(frozen=True)
class ConvNormPair:
    """Parameters of a convolution and of the eval-mode BatchNorm after it."""

    w: Tensor
    b: Tensor | None
    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of both as one convolution, as of now (Jacob et al. 2018, §3.2)."""
        scale, shift = affine(self.mean, self.variance, self.gamma, self.beta, self.eps)
        bias = shift if self.b is None else self.b * scale + shift
        return self.w * scale.view(-1, *[1] * (self.w.dim() - 1)), bias


def affine(
    mean: Tensor, variance: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift (C,) that an eval-mode BatchNorm applies.

    Args:
        mean, variance: Running statistics (C,).
        gamma, beta: Weight and bias (C,), or None.
        eps: ε.
    """
    scale = torch.rsqrt(variance + eps)
    scale = scale if gamma is None else scale * gamma
    return scale, -mean * scale if beta is None else beta - mean * scale


class Reading(TorchFunctionMode):
    """Mode that records which eval-mode BatchNorm takes which convolution's output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.own = {id(p) for p in model.parameters()}
        self.outputs: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}  # id → output, weight, bias
        self.pairs: dict[int, ConvNormPair] = {}  # id of the convolution's output → pair
        self.calls: dict[int, int] = {}  # id of a weight or a running mean → calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in CONVOLUTIONS:
            self._forget(args, named)
            output = func(*args, **named)
            weight, bias = _read_convolution(*args, **named)
            self._count(weight)
            if id(weight) in self.own and (bias is None or id(bias) in self.own):
                self.outputs[id(output)] = output, weight, bias
            return output
        if func is F.batch_norm and self._pair(*args, **named):
            return func(*args, **named)
        if not _only_metadata(func):
            self._forget(args, named)
        return func(*args, **named)

    def _pair(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> bool:
        """Record a norm in eval mode on a convolution's output; return True if it is one."""
        if mean is None or variance is None:
            return False
        self._count(mean)
        if training or id(x) not in self.outputs or id(x) in self.pairs:
            return False
        _, w, b = self.outputs[id(x)]
        self.pairs[id(x)] = ConvNormPair(w, b, mean, variance, weight, bias, eps)
        return True

    def _count(self, tensor: Tensor) -> None:
        self.calls[id(tensor)] = self.calls.get(id(tensor), 0) + 1

    def _forget(self, *values: Any) -> None:
        """Drop outputs that an operation other than a norm reads."""
        for tensor in tensors(values):
            if id(tensor) in self.outputs:
                del self.outputs[id(tensor)]
                self.pairs.pop(id(tensor), None)

    def found(self, output: Any) -> list[ConvNormPair]:
        """Return the pairs after a pass of the model.

        Args:
            output: Output of the model.
        """
        self._forget(output)
        return [p for p in self.pairs.values() if self.calls[id(p.w)] == self.calls[id(p.mean)] == 1]


def _only_metadata(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    attribute = getattr(getattr(func, "__self__", None), "__name__", "")
    return name in METHODS or (name == "__get__" and attribute in ATTRIBUTES)


def _read_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor | None]:
    return weight, bias


class Folded(TorchFunctionMode):
    """Mode that calls the pairs' convolutions with folded weights and skips their norms."""

    def __init__(self, pairs: Iterable[ConvNormPair]) -> None:
        super().__init__()
        self.folded = {id(pair.w): pair.folded() for pair in pairs}
        self.skipped = {id(pair.mean) for pair in pairs}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in CONVOLUTIONS:
            return self._convolve(func, *args, **named)
        if func is F.batch_norm and len(args) > 1 and id(args[1]) in self.skipped:
            return args[0]
        return func(*args, **named)

    def _convolve(
        self,
        func: Callable[..., Any],
        input: Tensor,  # by the names that torch has, since a model may call it by them
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: Any,
        **named: Any,
    ) -> Any:
        weight, bias = self.folded.get(id(weight), (weight, bias))
        return func(input, weight, bias, *rest, **named)


@contextmanager
def reading(model: nn.Module) -> Iterator[Reading]:
    """Detect the pairs in one pass of the model inside the block.

    Args:
        model: Module in eval mode.
    """
    with Reading(model) as reader:
        yield reader
