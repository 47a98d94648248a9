"""BatchNorm and LeakyReLU in one pass over memory each way: Triton kernels for NVIDIA GPUs.

Run eagerly, the two layers read and write the activations five times forward and eight times backward; fused,
three and five times. There are no atomics: sums are joined in a fixed order, so repeated runs agree bit for
bit. This needs Triton, which comes with CUDA builds of torch; `gradscape.train.fusion` imports this module
only where it may help, and tests it before use.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import leaky_relu

TILE = 8_192  # values that one program holds at once
MOST_STRIPES = 256  # programs that sum; a second kernel joins their results


class BatchNormLeakyReLU(nn.BatchNorm2d):
    """LeakyReLU after BatchNorm2d, with the parameters and buffers of the layer that it replaces.

    Args:
        norm: Affine layer with running statistics.
        slope: Negative slope of LeakyReLU, above 0.
    """

    def __init__(self, norm: nn.BatchNorm2d, slope: float) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.slope = slope

    def forward(self, input: Tensor) -> Tensor:
        """Return the activated output, of the shape of the input.

        Args:
            input: Features (N, C, H, W).
        """
        if not self.training:
            return leaky_relu(super().forward(input), self.slope, inplace=True)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        out: Tensor = _NormLeaky.apply(
            input, self.weight, self.bias, self.running_mean, self.running_var,
            self.momentum, self.eps, self.slope,
        )  # fmt: skip
        return out


class _NormLeaky(torch.autograd.Function):
    """Ioffe & Szegedy (2015), Algorithm 1 and its gradients (§3), followed by LeakyReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        slope: float,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        size = _Size(x)
        out, partial = torch.empty_like(x), size.partial(x, 3)
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        _stripe_moments[(size.stripes,)](x, partial, size.rows, size.channels, **size.tile)
        _join_moments[(1,)](
            partial, mean, scale, running_mean, running_var, size.stripes, size.rows, size.channels,
            momentum, eps, **size.joined,
        )  # fmt: skip
        _apply_norm[(size.blocks,)](
            x, out, mean, scale, weight, bias, slope, size.rows, size.channels, **size.tile
        )
        ctx.save_for_backward(x, mean, scale, weight, bias)
        ctx.slope = slope
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight, bias = ctx.saved_tensors
        of_out = gradients[0].contiguous(memory_format=torch.channels_last)
        size = _Size(x)
        of_x, partial = torch.empty_like(x), size.partial(x, 2)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        known = x, of_out, mean, scale, weight, bias
        _stripe_gradients[(size.stripes,)](*known, partial, ctx.slope, size.rows, size.channels, **size.tile)
        _join_gradients[(1,)](partial, of_weight, of_bias, size.stripes, size.channels, **size.joined)
        _input_gradient[(size.blocks,)](
            *known, of_weight, of_bias, of_x, ctx.slope, size.rows, size.channels, **size.tile
        )
        return of_x, of_weight, of_bias, None, None, None, None, None


class _Size:
    """Partition of (N, C, H, W) in channels_last, viewed as N·H·W rows of C, among programs."""

    def __init__(self, x: Tensor) -> None:
        self.channels = x.shape[1]
        self.rows = x.numel() // self.channels
        width = triton.next_power_of_2(self.channels)
        self.tile = {"ROWS": max(1, TILE // width), "CHANNELS": width}
        self.blocks = triton.cdiv(self.rows, self.tile["ROWS"])
        self.stripes = min(self.blocks, MOST_STRIPES)
        self.joined = {"STRIPES": triton.next_power_of_2(self.stripes), "CHANNELS": width}

    def partial(self, x: Tensor, sums: int) -> Tensor:
        return torch.empty(self.stripes, sums, self.channels, dtype=torch.float32, device=x.device)


@triton.jit
def _stripe_moments(x, partial, rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Count, mean and squared deviations of every n-th block, joined as in Chan, Golub & LeVeque (1979)."""
    stripe, stripes = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, CHANNELS)
    count = tl.zeros((CHANNELS,), tl.float32)
    mean = tl.zeros((CHANNELS,), tl.float32)
    square = tl.zeros((CHANNELS,), tl.float32)
    for first in range(stripe * ROWS, rows, stripes * ROWS):
        row = first + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (channel[None, :] < channels)
        values = tl.load(x + row[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
        more = tl.sum(inside.to(tl.float32), 0)
        here = tl.sum(values, 0) / tl.maximum(more, 1.0)
        deviation = tl.where(inside, values - here[None, :], 0.0)
        total = tl.maximum(count + more, 1.0)
        shift = here - mean
        square += tl.sum(deviation * deviation, 0) + shift * shift * (count * more / total)
        mean += shift * (more / total)
        count += more
    place = partial + stripe * 3 * channels + channel
    tl.store(place, count, mask=channel < channels)
    tl.store(place + channels, mean, mask=channel < channels)
    tl.store(place + 2 * channels, square, mask=channel < channels)


@triton.jit
def _join_moments(
    partial, mean, scale, running_mean, running_var, stripes, rows, channels, momentum, eps,
    STRIPES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / √(σ² + ε) of the batch, and the update of the running statistics."""
    stripe, channel = tl.arange(0, STRIPES), tl.arange(0, CHANNELS)
    known = channel < channels
    inside = (stripe[:, None] < stripes) & known[None, :]
    place = partial + stripe[:, None] * 3 * channels + channel[None, :]
    count = tl.load(place, mask=inside, other=0.0)
    means = tl.load(place + channels, mask=inside, other=0.0)
    squares = tl.load(place + 2 * channels, mask=inside, other=0.0)
    center = tl.sum(count * means, 0) / rows
    apart = means - center[None, :]
    square = tl.sum(squares + count * apart * apart, 0)
    tl.store(mean + channel, center, mask=known)
    tl.store(scale + channel, 1 / tl.sqrt(square / rows + eps), mask=known)
    before = tl.load(running_mean + channel, mask=known)
    tl.store(running_mean + channel, before + momentum * (center - before), mask=known)
    before = tl.load(running_var + channel, mask=known)
    tl.store(running_var + channel, before + momentum * (square / (rows - 1) - before), mask=known)


@triton.jit
def _normalized(
    x, mean, scale, weight, bias, rows, channels, first, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Offsets and mask of a block of rows, its normalized values, and BatchNorm's output for them."""
    row, channel = first + tl.arange(0, ROWS), tl.arange(0, CHANNELS)
    known = channel < channels
    inside = (row[:, None] < rows) & known[None, :]
    place = row[:, None] * channels + channel[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    center = tl.load(mean + channel, mask=known, other=0.0)
    unit = (values - center[None, :]) * tl.load(scale + channel, mask=known, other=0.0)[None, :]
    factor = tl.load(weight + channel, mask=known, other=0.0)
    shift = tl.load(bias + channel, mask=known, other=0.0)
    return place, inside, unit, unit * factor[None, :] + shift[None, :]


@triton.jit
def _apply_norm(
    x, out, mean, scale, weight, bias, slope, rows, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Equations (4) and (5) of the paper, then LeakyReLU."""
    first = tl.program_id(0) * ROWS
    place, inside, _, normed = _normalized(
        x, mean, scale, weight, bias, rows, channels, first, ROWS, CHANNELS
    )
    tl.store(out + place, tl.where(normed > 0, normed, slope * normed), mask=inside)


@triton.jit
def _stripe_gradients(
    x, of_out, mean, scale, weight, bias, partial, slope, rows, channels,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """∂L/∂γ and ∂L/∂β of every n-th block."""
    stripe, stripes = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, CHANNELS)
    of_weight = tl.zeros((CHANNELS,), tl.float32)
    of_bias = tl.zeros((CHANNELS,), tl.float32)
    for first in range(stripe * ROWS, rows, stripes * ROWS):
        place, inside, unit, normed = _normalized(
            x, mean, scale, weight, bias, rows, channels, first, ROWS, CHANNELS
        )
        gradient = tl.load(of_out + place, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.where(normed > 0, gradient, slope * gradient)
        of_weight += tl.sum(gradient * unit, 0)
        of_bias += tl.sum(gradient, 0)
    place = partial + stripe * 2 * channels + channel
    tl.store(place, of_weight, mask=channel < channels)
    tl.store(place + channels, of_bias, mask=channel < channels)


@triton.jit
def _join_gradients(
    partial, of_weight, of_bias, stripes, channels, STRIPES: tl.constexpr, CHANNELS: tl.constexpr
):
    """∂L/∂γ and ∂L/∂β of the batch."""
    stripe, channel = tl.arange(0, STRIPES), tl.arange(0, CHANNELS)
    inside = (stripe[:, None] < stripes) & (channel[None, :] < channels)
    place = partial + stripe[:, None] * 2 * channels + channel[None, :]
    tl.store(of_weight + channel, tl.sum(tl.load(place, mask=inside, other=0.0), 0), mask=channel < channels)
    place += channels
    tl.store(of_bias + channel, tl.sum(tl.load(place, mask=inside, other=0.0), 0), mask=channel < channels)


@triton.jit
def _input_gradient(
    x, of_out, mean, scale, weight, bias, of_weight, of_bias, of_x, slope, rows, channels,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """∂L/∂x: the gradient without its mean and its component along x̂, times γ / √(σ² + ε)."""
    first = tl.program_id(0) * ROWS
    place, inside, unit, normed = _normalized(
        x, mean, scale, weight, bias, rows, channels, first, ROWS, CHANNELS
    )
    gradient = tl.load(of_out + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.where(normed > 0, gradient, slope * gradient)
    channel = tl.arange(0, CHANNELS)
    known = channel < channels
    along = tl.load(of_weight + channel, mask=known, other=0.0) / rows
    level = tl.load(of_bias + channel, mask=known, other=0.0) / rows
    factor = tl.load(weight + channel, mask=known, other=0.0)
    factor *= tl.load(scale + channel, mask=known, other=0.0)
    left = gradient - level[None, :] - unit * along[None, :]
    tl.store(of_x + place, factor[None, :] * left, mask=inside)
