"""What a layer's output says: second moment, correlation of samples, dead and saturated shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

RELU_LIKE = ("ReLU", "ELU", "SiLU", "Mish", "wish")  # output ≤ 0 exactly where the input is
SATURATED = 0.01  # of the largest derivative


def moments(values: Tensor, size: int) -> tuple[float, float]:
    """Second moment and correlation of a layer's output, in few passes over it.

    q = mean of h² over samples, units and positions (Schoenholz et al. 2017, §2), infinite or NaN where a
    value is. c = mean over pairs of samples of h_a·h_b / (‖h_a‖‖h_b‖), uncentred (ibid.), from −1/(N − 1) to
    1 over the samples that are not 0; NaN for fewer than two, or where samples cannot be told apart.

    Args:
        values: for `size` samples, whose axis is the first or the second, or is folded with others into the
            first; complex values count by their modulus.
    """
    values = plain(values)
    if not values.numel():
        return math.nan, math.nan
    low, high = values.aminmax()
    peak = max(-float(low), float(high)) if float(low) == float(low) else math.nan
    if not math.isfinite(peak) or peak == 0:
        return peak * peak, math.nan
    rows = by_sample(values, size)
    # Over the largest, in the values' own precision: squares of 1e-30 or 1e30 are no numbers of float32.
    scaled = (values.reshape(1, -1) if rows is None else rows) / peak
    lengths = torch.linalg.vector_norm(scaled, dim=1)
    moment = peak * peak * float(wide(lengths).square().sum()) / scaled.numel()
    kept = lengths != 0
    count = int(kept.sum())
    if rows is None or count < 2:
        return moment, math.nan
    # Over all pairs at once: the square of the sum holds each pair twice and each sample once.
    total = torch.where(kept, 1 / lengths, 0) @ scaled
    return moment, (float(wide(total).square().sum()) - count) / (count * (count - 1))


def by_sample(values: Tensor, size: int) -> Tensor | None:
    """(N, everything else), or None where the samples cannot be told apart."""
    if values.shape[0] == size:
        return values.reshape(size, -1)
    if values.dim() > 1 and values.shape[1] == size:
        return values.transpose(0, 1).reshape(size, -1)
    return values.reshape(size, -1) if values.shape[0] % size == 0 else None


def unit_axis(kind: str, module: nn.Module, known: int | None) -> int | None:
    """Where a layer puts its units: 1 for convolutions, −1 for linear layers; others leave it as it was."""
    if kind == "conv" or type(module).__name__.startswith(("BatchNorm", "InstanceNorm", "GroupNorm")):
        return 1
    return -1 if kind in ("linear", "recurrent", "attention", "embedding") else known


def dead_share(module: nn.Module, output: Tensor, axis: int | None) -> float:
    """Share of units whose output is ≤ 0 on every sample and at every position; NaN for other layers.

    A unit is a channel after a convolution and a feature after a linear layer. For ReLU such a unit passes
    no gradient; for LeakyReLU, ELU, GELU and their like it is on its flat side for the whole batch.
    """
    if not any(word in type(module).__name__ for word in RELU_LIKE) or output.dim() < 2:
        return math.nan
    place = axis if axis is not None else (-1 if output.dim() == 3 else 1)
    largest = output.detach().amax([axis for axis in range(output.dim()) if axis != place % output.dim()])
    return share(largest <= 0)


def saturated_share(module: nn.Module, output: Tensor) -> float:
    """Share of values where the activation's derivative is < 1 % of its largest; NaN for other layers.

    Known from the output y: tanh' = 1 − y², σ' = y(1 − y), of largest 1/4, softsign' = (1 − |y|)²; the hard
    ones are flat at their ends.
    """
    slope = SLOPES.get(type(module))
    if slope is None or not output.numel():
        return math.nan
    return share(slope(module, wide(output)) < SATURATED)


# A dict of callables: activation → its derivative over the largest, from its output.
SLOPES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.Tanh: lambda _, y: 1 - y.square(),
    nn.Sigmoid: lambda _, y: 4 * y * (1 - y),
    nn.Softsign: lambda _, y: (1 - y.abs()).square(),
    nn.Hardtanh: lambda m, y: ((y > m.min_val) & (y < m.max_val)).double(),
    nn.Hardsigmoid: lambda _, y: ((y > 0) & (y < 1)).double(),
}


def share(marked: Tensor) -> float:
    return float(marked.count_nonzero()) / marked.numel()


def plain(values: Tensor) -> Tensor:
    """Detached, real, in float32 at least."""
    values = values.detach()
    values = values.abs() if values.is_complex() else values
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def wide(values: Tensor) -> Tensor:
    """The same in float64, where the device has that."""
    return plain(values) if values.device.type == "mps" else plain(values).double()
