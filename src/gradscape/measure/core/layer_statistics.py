"""Statistics of a layer's output: second moment, correlation of samples, dead and saturated fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.pieces import PIECE

RELU_LIKE = ("ReLU", "ELU", "SiLU", "Mish", "wish")  # output ≤ 0 exactly where the input is
SATURATED = 0.01  # of the largest derivative
CHANNELS_SECOND = ("BatchNorm", "BatchRenorm", "Algorithm1", "InstanceNorm", "GroupNorm")
PAIRED = 16  # samples of a batch, evenly spaced, whose pairs tell the correlation


@torch.no_grad()
def moments(values: Tensor, size: int, correlation: bool = True) -> tuple[Tensor, Tensor]:
    """Second moment and correlation of a layer's output, in few passes over it, on its device.

    q = mean of h² over samples, units and positions (Schoenholz et al. 2017, §2), infinite or NaN where a
    value is. c = mean over pairs of samples of h_a·h_b / (‖h_a‖‖h_b‖), uncentered (ibid.), of at most 16
    samples, those that are not 0; NaN for fewer than two, or where samples cannot be told apart.

    Args:
        values: Output of a layer, its samples along the first or the second axis, or folded with others into
            the first; complex values count by their modulus.
        size: Number of samples.
        correlation: Whether the correlation is computed; NaN if not.
    """
    values = values.detach().abs() if values.is_complex() else values.detach()
    unknown = _wide(values.new_full((), math.nan))
    if not values.numel():
        return unknown, unknown
    rows = _by_sample(values, size)
    parts = _columns(values.reshape(1, -1) if rows is None else rows, 4 * PIECE)
    peak = _plain(_joined([_peak(part) for part in parts], torch.amax))
    known = peak.isfinite() & (peak > 0)
    unit = _unit_for(torch.where(known, peak, 1))
    lengths = [torch.linalg.vector_norm(_over(_plain(part), unit), dim=1) for part in parts]
    total = _joined([_wide(each).square().sum() for each in lengths], torch.sum)
    total = total if unit is None else total * _wide(unit).square()
    moment = torch.where(known, total / values.numel(), _wide(peak).square())
    if rows is None or not correlation:
        return moment, unknown
    return moment, torch.where(known, _correlation_of(rows[:: -(-size // PAIRED)], unit), math.nan)


def _correlation_of(rows: Tensor, unit: Tensor | None) -> Tensor:
    """Return the mean cosine between rows that are not 0; NaN for fewer than two.

    In float64: two samples that differ by a thousandth have 1 − c = 5e-7, which float32 does not resolve.
    """
    first, *others = _columns(rows, PIECE)
    begun = _over(_wide(first), unit)

    def exact() -> Iterator[Tensor]:
        return chain([begun], (_over(_wide(part), unit) for part in others))

    lengths = _joined([torch.linalg.vector_norm(part, dim=1) for part in exact()], _root_of_squares)
    kept = lengths != 0
    count = _wide(kept.sum())
    # Over all pairs at once: the square of the sum holds each pair twice and each sample once.
    with torch.autocast(rows.device.type, enabled=False):
        weights = torch.where(kept, 1 / lengths, 0)
        total = _joined([(weights @ part).square().sum() for part in exact()], torch.sum)
    alike = (total - count) / (count * (count - 1))
    return torch.where(count > 1, alike.clamp(max=1), math.nan)


def _peak(values: Tensor) -> Tensor:
    """Return the largest |·|; in one pass where that copies nothing."""
    low, high = values.aminmax() if values.is_contiguous() else (values.amin(), values.amax())
    return torch.maximum(-low, high)


def _columns(rows: Tensor, most: int) -> Sequence[Tensor]:
    """Divide rows so that a copy of each part takes little memory: an output of logits is large."""
    return [rows] if rows.numel() <= most else torch.split(rows, max(1, most // len(rows)), dim=1)


def _joined(of_parts: list[Tensor], join: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the number of the whole from those of its parts."""
    return of_parts[0] if len(of_parts) == 1 else join(torch.stack(of_parts))


def _root_of_squares(values: Tensor) -> Tensor:
    return values.square().sum(0).sqrt()


def _unit_for(peak: Tensor) -> Tensor | None:
    """Return a divisor that prevents over- and underflow of squares; None if none is needed.

    The squares of 1e-30 and 1e30 are not representable in float32. Checking for such values would wait for a
    GPU; on a CPU the check is free, while the division would cost more than everything else.
    """
    return None if peak.device.type == "cpu" and 1e-12 < peak < 1e12 else peak


def _over(values: Tensor, unit: Tensor | None) -> Tensor:
    return values if unit is None else values / unit


def _by_sample(values: Tensor, size: int) -> Tensor | None:
    """Reshape to (N, everything else in any order); None if the samples cannot be separated."""
    if not values.dim():
        return None
    if values.shape[0] != size and values.dim() > 1 and values.shape[1] == size:
        values = values.transpose(0, 1)
    elif values.shape[0] % size:
        return None
    # In memory order, which needs no copy of channels-last values.
    others = sorted(range(1, values.dim()), key=values.stride, reverse=True)
    return values.permute(0, *others).reshape(size, -1)


def unit_axis(kind: str, module: nn.Module, known: int | None) -> int | None:
    """Return the axis of a layer's units: 1 for convolutions, −1 for linear layers, unchanged for others.

    Args:
        kind: Kind of the layer, from `layer_kind`.
        module: Layer.
        known: Axis after the previous layer.
    """
    if kind == "conv" or type(module).__name__.startswith(CHANNELS_SECOND):
        return 1
    return -1 if kind in ("linear", "recurrent", "attention", "embedding") else known


def dead_share(module: nn.Module, output: Tensor, axis: int | None) -> Tensor | None:
    """Return the fraction of units with output ≤ 0 on every sample and position; None for other layers.

    A unit is a channel after a convolution and a feature after a linear layer. For ReLU such a unit passes
    no gradient; for LeakyReLU, ELU, GELU and similar ones it is on its flat side for the whole batch.

    Args:
        module: Layer.
        output: Output of the layer.
        axis: Axis of the units, from `unit_axis`.
    """
    if not any(word in type(module).__name__ for word in RELU_LIKE) or output.dim() < 2:
        return None
    place = axis if axis is not None else (-1 if output.dim() == 3 else 1)
    largest = output.detach().amax(_all_but(place, output))
    return torch.where(largest.isnan().any(), math.nan, _share(largest <= 0))


def unused_share(given: Tensor, axis: int) -> Tensor:
    """Return the fraction of a layer's input units that are exactly 0 on every sample and position.

    Args:
        given: Input of the layer.
        axis: Axis of the units.
    """
    low, high = (reduce(given.detach(), _all_but(axis, given)) for reduce in (torch.amin, torch.amax))
    return _share((low == 0) & (high == 0))


def _all_but(axis: int, values: Tensor) -> list[int]:
    return [each for each in range(values.dim()) if each != axis % values.dim()]


def saturated_share(module: nn.Module, output: Tensor) -> Tensor | None:
    """Return the fraction of values with a derivative < 1 % of its maximum; None for other layers.

    It follows from the output y: tanh' = 1 − y², σ' = y(1 − y), at most 1/4, softsign' = (1 − |y|)²; hard
    activations are flat at their ends.

    Args:
        module: Layer.
        output: Output of the layer.
    """
    slope = SLOPES.get(type(module))
    if slope is None or not output.numel():
        return None
    return _share(slope(module, _plain(output)) < SATURATED)


# A dict of callables: activation → its derivative over the largest, from its output.
SLOPES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.Tanh: lambda _, y: 1 - y.square(),
    nn.Sigmoid: lambda _, y: 4 * y * (1 - y),
    nn.Softsign: lambda _, y: (1 - y.abs()).square(),
    nn.Hardtanh: lambda m, y: ((y > m.min_val) & (y < m.max_val)).double(),
    nn.Hardsigmoid: lambda _, y: ((y > 0) & (y < 1)).double(),
}


def _share(marked: Tensor) -> Tensor:
    return _wide(marked.count_nonzero()) / marked.numel()


def _plain(values: Tensor) -> Tensor:
    """Return values detached, real, in float32 at least."""
    values = values.detach()
    values = values.abs() if values.is_complex() else values
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _wide(values: Tensor) -> Tensor:
    """The same in float64, where the device has that."""
    return _plain(values).float() if values.device.type == "mps" else _plain(values).double()
