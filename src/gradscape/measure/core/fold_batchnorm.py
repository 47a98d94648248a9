"""BatchNorm in eval mode folded into the convolution before it: one pass over the activations less for each.

Which norm follows which convolution is read off one pass of the model, not guessed from its layout: a pair
counts where the norm has the convolution's whole output, nothing else looks at it, and both are called once.
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
# What tells of a tensor without looking at its values: methods and attributes.
METHODS = {"dim", "size", "numel", "is_contiguous", "stride", "ndimension"}
ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda"}


@dataclass(frozen=True)
class Pair:
    """A convolution's parameters and those of the eval-mode BatchNorm after it."""

    w: Tensor
    b: Tensor | None
    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of both in one, as they are now (Jacob et al. 2018, §3.2)."""
        scale, shift = affine(self.mean, self.variance, self.gamma, self.beta, self.eps)
        bias = shift if self.b is None else self.b * scale + shift
        return self.w * scale.view(-1, *[1] * (self.w.dim() - 1)), bias


def affine(
    mean: Tensor, variance: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel: what an eval-mode BatchNorm is."""
    scale = torch.rsqrt(variance + eps)
    scale = scale if gamma is None else scale * gamma
    return scale, -mean * scale if beta is None else beta - mean * scale


class Reading(TorchFunctionMode):
    """Notes which eval-mode BatchNorm takes which convolution's output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.own = {id(p) for p in model.parameters()}
        self.outputs: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}  # id → output, weight, bias
        self.pairs: dict[int, Pair] = {}  # id of the convolution's output → pair
        self.calls: dict[int, int] = {}  # id of a weight or a running mean → calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in CONVOLUTIONS:
            self.forget(args, named)
            output = func(*args, **named)
            weight, bias = _read_convolution(*args, **named)
            self.count(weight)
            if id(weight) in self.own and (bias is None or id(bias) in self.own):
                self.outputs[id(output)] = output, weight, bias
            return output
        if func is F.batch_norm and self.pair(*args, **named):
            return func(*args, **named)
        if not _only_metadata(func):
            self.forget(args, named)
        return func(*args, **named)

    def pair(
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
        """Whether this norm is one of eval mode on a convolution's output, which then is noted."""
        if mean is None or variance is None:
            return False
        self.count(mean)
        if training or id(x) not in self.outputs or id(x) in self.pairs:
            return False
        _, w, b = self.outputs[id(x)]
        self.pairs[id(x)] = Pair(w, b, mean, variance, weight, bias, eps)
        return True

    def count(self, tensor: Tensor) -> None:
        self.calls[id(tensor)] = self.calls.get(id(tensor), 0) + 1

    def forget(self, *values: Any) -> None:
        """Outputs that something else looks at are not a norm's alone."""
        for tensor in tensors(values):
            if id(tensor) in self.outputs:
                del self.outputs[id(tensor)]
                self.pairs.pop(id(tensor), None)

    def found(self, output: Any) -> list[Pair]:
        """The pairs, once the model has given its output."""
        self.forget(output)
        return [p for p in self.pairs.values() if self.calls[id(p.w)] == self.calls[id(p.mean)] == 1]


def _only_metadata(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    attribute = getattr(getattr(func, "__self__", None), "__name__", "")
    return name in METHODS or (name == "__get__" and attribute in ATTRIBUTES)


def _read_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> tuple[Tensor, Tensor | None]:
    return weight, bias


class Folded(TorchFunctionMode):
    """Calls the pairs' convolutions with folded weights, and their norms not at all."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        super().__init__()
        self.folded = {id(pair.w): pair.folded() for pair in pairs}
        self.skipped = {id(pair.mean) for pair in pairs}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in CONVOLUTIONS:
            return self.convolve(func, *args, **named)
        if func is F.batch_norm and len(args) > 1 and id(args[1]) in self.skipped:
            return args[0]
        return func(*args, **named)

    def convolve(
        self,
        func: Callable[..., Any],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: Any,
        **named: Any,
    ) -> Any:
        weight, bias = self.folded.get(id(weight), (weight, bias))
        return func(x, weight, bias, *rest, **named)


@contextmanager
def reading(model: nn.Module) -> Iterator[Reading]:
    """One pass of the model within it tells the pairs."""
    with Reading(model) as found:
        yield found
