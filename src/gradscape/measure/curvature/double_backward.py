"""Convolutions and BatchNorms with second derivatives as fast as their first.

PyTorch's double backward of a convolution exchanges samples for channels, and that of BatchNorm makes twenty
passes over its input. Within `Quick()`, autograd treats a convolution as bilinear at every order, and each
part is one call of the kernel that training uses; BatchNorm in eval mode is an affine map, folded into the
weights of the convolution before it; in train mode it has its second derivative in closed form. Values and
first derivatives are those of PyTorch's own kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradscape.measure.core.fold_batchnorm import affine

CONVOLUTIONS: dict[Callable[..., Any], tuple[int, bool]] = {
    # function → number of spatial dimensions, transposed or not
    torch.conv1d: (1, False), torch.conv2d: (2, False), torch.conv3d: (3, False),
    torch.conv_transpose1d: (1, True), torch.conv_transpose2d: (2, True), torch.conv_transpose3d: (3, True),
}  # fmt: skip


@dataclass(frozen=True)
class _Geometry:
    """Arguments of a convolution other than tensors, as for `aten::convolution`."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    def convolve(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        output: Tensor = torch.ops.aten.convolution(
            x, w, b, self.stride, self.padding, self.dilation, self.transposed, self.output_padding,
            self.groups,
        )  # fmt: skip
        return output

    def back(self, g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """Return ∂⟨g, x ∗ w⟩ by x and by w, those that are wanted; x and w determine shapes."""
        by_x, by_w, _ = torch.ops.aten.convolution_backward(
            g, x, w, None, self.stride, self.padding, self.dilation, self.transposed, self.output_padding,
            self.groups, [*wanted, False],
        )  # fmt: skip
        return by_x, by_w


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    output: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return output


class _Convolution(torch.autograd.Function):
    """x ∗ w + b, linear in x and in w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, how: _Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.how = how
        return how.convolve(x, w, b)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, w = ctx.saved_tensors
        by_x = _apply(_ByInput, g, x, w, ctx.how) if ctx.needs_input_grad[0] else None
        by_w = _apply(_ByWeight, g, x, w, ctx.how) if ctx.needs_input_grad[1] else None
        by_b = g.sum([0, *range(2, g.dim())]) if ctx.needs_input_grad[2] else None
        return by_x, by_w, by_b, None


class _ByInput(torch.autograd.Function):
    """∂⟨g, x ∗ w⟩/∂x, linear in g and w; of x only the shape matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, how: _Geometry) -> Tensor:
        ctx.save_for_backward(g, x, w)
        ctx.how = how
        return how.back(g, x, w, (True, False))[0]

    @staticmethod
    def backward(ctx: Any, z: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        g, _, w = ctx.saved_tensors
        by_g = _apply(_Convolution, z, w, None, ctx.how) if ctx.needs_input_grad[0] else None
        by_w = _apply(_ByWeight, g, z, w, ctx.how) if ctx.needs_input_grad[2] else None
        return by_g, None, by_w, None


class _ByWeight(torch.autograd.Function):
    """∂⟨g, x ∗ w⟩/∂w, linear in g and x; of w only the shape matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, how: _Geometry) -> Tensor:
        ctx.save_for_backward(g, x, w)
        ctx.how = how
        return how.back(g, x, w, (False, True))[1]

    @staticmethod
    def backward(ctx: Any, z: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        g, x, _ = ctx.saved_tensors
        by_g = _apply(_Convolution, x, z, None, ctx.how) if ctx.needs_input_grad[0] else None
        by_x = _apply(_ByInput, g, x, z, ctx.how) if ctx.needs_input_grad[1] else None
        return by_g, by_x, None, None


class _Normalized(torch.autograd.Function):
    """γ x̂ + β with x̂ = (x − μ) r, μ and 1/r² the mean and variance of each channel over the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        y, mean, r = torch.ops.aten.native_batch_norm(x, gamma, beta, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, gamma, mean, r)
        ctx.eps = eps
        output: Tensor = y
        return output

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        x, gamma, mean, r = ctx.saved_tensors
        by_x, by_gamma, by_beta = _NormalizedBack.apply(g, x, gamma, mean, r, ctx.eps)  # type: ignore[no-untyped-call]
        return by_x, by_gamma, by_beta, None  # type: ignore[return-value]


class _NormalizedBack(torch.autograd.Function):
    """γ r P(g), Σ g x̂ and Σ g, where P(u) = u − m(u) − x̂ m(u x̂), m being a channel's mean.

    Their derivative along (v, v_γ, v_β) is, with a = m(g), b = m(g x̂), c = m(v), d = m(v x̂), e = m(v g):
    by g, γ r P(v) + v_γ x̂ + v_β; by γ, N r Q with Q = e − ac − bd; by x, r P(q) − γ r² Q x̂, where
    q = v_γ g − γ r (b v + d g) is the part through x̂.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, r: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        by_x, by_gamma, by_beta = _norm_back(g, x, gamma, mean, r, eps)
        ctx.save_for_backward(g, x, gamma, mean, r, by_gamma, by_beta)
        ctx.eps = eps
        return by_x, by_gamma, by_beta

    @staticmethod
    def backward(ctx: Any, v: Tensor, v_gamma: Tensor, v_beta: Tensor) -> tuple[Tensor | None, ...]:
        g, x, gamma, mean, r, by_gamma, by_beta = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        by_g, d, c = _norm_back(v, x, gamma, mean, r, ctx.eps)
        a, b, c, d = by_beta / count, by_gamma / count, c / count, d / count
        by_g += _linear(x, v_gamma * r, v_beta - v_gamma * r * mean)
        if not ctx.needs_input_grad[1] and not ctx.needs_input_grad[2]:
            return by_g, None, None, None, None, None
        e = (v * g).sum([0, *range(2, x.dim())]) / count
        rest = e - a * c - b * d
        of_g = r * (v_gamma - gamma * r * d)
        of_hat = r * (2 * gamma * r * b * d - v_gamma * b) - gamma * r * r * rest
        constant = r * (gamma * r * (b * c + a * d) - v_gamma * a)
        by_x = _linear(x, of_hat * r, constant - of_hat * r * mean)
        by_x.addcmul_(v, _per_channel(-gamma * r * r * b, v)).addcmul_(g, _per_channel(of_g, g))
        return by_g, by_x, count * r * rest, None, None, None


def _norm_back(
    g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, r: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by x, γ and β."""
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g, x, gamma, None, None, mean, r, True, eps, [True, True, True]
    )
    return gradients


def _linear(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x times a scale plus a shift, per channel."""
    return torch.addcmul(_per_channel(shift, x), x, _per_channel(scale, x))


class Quick(TorchFunctionMode):
    """Mode that replaces convolutions and BatchNorms by those of this module, without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[Tensor, int, _Call] | None = None  # output of the last convolution, and its version

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in CONVOLUTIONS and (call := _Call.of(func, *args, **named)) is not None:
            output = call.output()
            self.last = (output, output._version, call)
            return output
        if func is F.batch_norm:
            return self._batch_norm(*args, **named)
        return func(*args, **named)

    def _batch_norm(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if training or mean is None or variance is None:
            if x.numel() == x.shape[1]:
                return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)  # raises
            gamma = x.new_ones(x.shape[1]) if weight is None else weight
            return _apply(_Normalized, x, gamma, torch.zeros_like(gamma) if bias is None else bias, eps)
        scale, shift = affine(mean, variance, weight, bias, eps)
        if self.last is not None and self.last[0] is x and self.last[1] == x._version:
            return self.last[2].scaled(scale, shift).output()  # the convolution's own output is not used
        return _linear(x, scale, shift)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


@dataclass(frozen=True)
class _Call:
    """Call of a convolution."""

    x: Tensor
    w: Tensor
    b: Tensor | None
    how: _Geometry

    @classmethod
    def of(
        cls,
        func: Callable[..., Any],
        input: Tensor,  # by the names that torch has, since a model may call it by them
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        *rest: Any,
        **named: Any,
    ) -> _Call | None:
        """Return the call, or None for string padding and unbatched inputs, which are left to PyTorch."""
        dimensions, transposed = CONVOLUTIONS[func]
        if isinstance(padding, str) or input.dim() != dimensions + 2:
            return None
        order = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
        further = (
            {"output_padding": 0, "groups": 1, "dilation": 1} | dict(zip(order, rest, strict=False)) | named
        )
        how = _Geometry(
            _several(stride, dimensions),
            _several(padding, dimensions),
            _several(further["dilation"], dimensions),
            transposed,
            _several(further["output_padding"], dimensions),
            further["groups"],
        )
        return cls(input, weight, bias, how)

    def output(self) -> Tensor:
        return _apply(_Convolution, self.x, self.w, self.b, self.how)

    def scaled(self, scale: Tensor, shift: Tensor) -> _Call:
        """Return the call with its output times a scale plus a shift, per channel."""
        if self.how.transposed:
            groups = self.how.groups
            per_weight = scale.view(groups, 1, -1, *[1] * (self.w.dim() - 2))
            w = (self.w.reshape(groups, -1, *self.w.shape[1:]) * per_weight).flatten(0, 1)
        else:
            w = self.w * scale.view(-1, *[1] * (self.w.dim() - 1))
        return _Call(self.x, w, shift if self.b is None else shift + self.b * scale, self.how)


def _several(value: Any, dimensions: int) -> list[int]:
    return [value] * dimensions if isinstance(value, int) else list(value)
