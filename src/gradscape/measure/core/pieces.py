"""Sums over tensors of any size in little memory, and the elements kept of them until the next reading.

A copy of every weight and every gradient would take three quarters of what a training with Adam holds. Large
tensors are therefore read piece by piece, and one element in `STRIDE` is kept of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 2**20  # elements that are read at once, at most: 4 MB in float32
WHOLE = 1_000_000  # parameters of a model of which all elements are kept; each tensor then is one piece
STRIDE = 127  # of a large tensor one element in as many; a prime, so that seldom an axis is a multiple
LEAST = 2_048  # elements that are kept of a tensor, or all: for normal ones, their RMS is within 1.6 %
TINY = 2.0**-126  # smallest normal float32: below it is 0 where denormals are flushed


def strides_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return for each tensor one out of how many elements is kept.

    Args:
        sizes: Numbers of elements of all tensors of a model.
    """
    small = sum(sizes) <= WHOLE
    return tuple(1 if small or size < STRIDE * LEAST else STRIDE for size in sizes)


class Kept(NamedTuple):
    """Elements of a tensor, in the order in which they lie in memory.

    Attributes:
        elements: The whole tensor, or one in `STRIDE` elements of it.
        layout: Order of the axes in memory; empty for the whole tensor.
    """

    elements: Tensor
    layout: tuple[int, ...] = ()


def keep(tensor: Tensor, stride: int) -> Kept:
    """Return a tensor, or a view of evenly spread elements of it.

    Args:
        tensor: Dense tensor.
        stride: One out of how many elements is kept.
    """
    if stride == 1:
        return Kept(tensor)
    layout = _layout(tensor)
    return Kept(tensor.permute(layout).reshape(-1)[::stride], layout)


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least.

    Args:
        tensor: Tensor of floating-point or complex numbers.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class Sums(NamedTuple):
    """Sums over each tensor's elements, (tensors,), float64.

    Attributes:
        largest: Largest |·|.
        absolute: Sum of |·|.
        nonzero: Number of elements that are not zero.
        square: Sum of (|·| / largest)², which does not underflow: 1e-30² is 0 in float32.
        scaled: By index, tensors of stride 1 divided by their largest elements.
    """

    largest: Tensor
    absolute: Tensor
    nonzero: Tensor
    square: Tensor
    scaled: dict[int, Tensor]


def sums(tensors: Sequence[Tensor], strides: Sequence[int]) -> Sums:
    """Return sums over each tensor's elements.

    Args:
        tensors: At least one tensor; dense, of any floating-point or complex type.
        strides: Of each tensor, one out of how many elements is kept.
    """
    owners: list[int] = []
    rows: list[Tensor] = []
    scaled: dict[int, Tensor] = {}
    for places, parts in _batches(tensors):
        magnitudes = torch._foreach_abs(parts)
        largest, absolute = stacked(_largest(magnitudes)), stacked(_added_up(magnitudes))
        divisors = [d.to(p.device, p.real.dtype) for d, p in zip(largest.clamp_min(TINY), parts, strict=True)]
        divided = torch._foreach_div(parts, divisors)
        square = stacked(torch._foreach_norm(divided, 2)).square()
        scaled |= {place: part for place, part in zip(places, divided, strict=True) if strides[place] == 1}
        nonzero = stacked([torch.count_nonzero(part) for part in parts])
        rows.append(torch.stack([largest, absolute, nonzero, square]))
        owners += places
    found = torch.cat(rows, dim=1)
    if len(owners) == len(tensors):
        return Sums(found[0], found[1], found[2], found[3], scaled)
    owner = torch.tensor(owners, device=found.device)
    whole = found.new_zeros(4, len(tensors)).index_add(1, owner, found)
    largest = found.new_zeros(len(tensors)).scatter_reduce(0, owner, found[0], "amax")
    share = found[0].clamp_min(TINY) / largest.clamp_min(TINY)[owner]
    square = largest.new_zeros(len(tensors)).index_add(0, owner, found[3] * share.square())
    return Sums(largest, whole[1], whole[2], square, scaled)


def magnitudes(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of |·| of each tensor, (tensors,), float64.

    Args:
        tensors: At least one dense tensor.
    """
    return _added(tensors, lambda parts: stacked(_added_up(torch._foreach_abs(parts))))


def squares(tensors: Sequence[Tensor]) -> Tensor:
    """Return the squared L2 norm of each tensor, (tensors,), float64.

    Args:
        tensors: At least one dense tensor.
    """
    return _added(tensors, lambda parts: stacked(torch._foreach_norm(parts, 2)).square())


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Stack scalars as one float64 tensor on the first one's device.

    Args:
        values: Scalars, one per tensor.
    """
    device = values[0].device
    if any(value.device != device for value in values):
        values = [value.to(device) for value in values]
    return torch.stack(list(values)).double()


def _largest(magnitudes: tuple[Tensor, ...]) -> Sequence[Tensor]:
    """Return the largest of each part; in one operation on a GPU, where a CPU would take 25 times as long."""
    on_cpu = magnitudes[0].device.type == "cpu"
    return [each.amax() for each in magnitudes] if on_cpu else torch._foreach_norm(magnitudes, math.inf)


def _added_up(magnitudes: tuple[Tensor, ...]) -> Sequence[Tensor]:
    """Return the sum of each part; in one operation on a GPU, where a CPU would take 6 times as long."""
    on_cpu = magnitudes[0].device.type == "cpu"
    return [each.sum() for each in magnitudes] if on_cpu else torch._foreach_norm(magnitudes, 1)


def _added(tensors: Sequence[Tensor], of_parts: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """Add up the numbers of each tensor's pieces."""
    owners, rows = [], []
    for places, parts in _batches(tensors):
        rows.append(of_parts(parts))
        owners += places
    found = torch.cat(rows)
    if len(owners) == len(tensors):
        return found
    return found.new_zeros(len(tensors)).index_add(0, torch.tensor(owners, device=found.device), found)


def _batches(tensors: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield indices of tensors and elements, `PIECE` elements at a time; a large one comes in pieces."""
    places: list[int] = []
    parts: list[Tensor] = []
    room = PIECE
    for place, tensor in enumerate(tensors):
        for part in _parts(tensor):
            if parts and part.numel() > room:
                yield places, parts
                places, parts, room = [], [], PIECE
            places.append(place)
            parts.append(widened(part))
            room -= part.numel()
    yield places, parts


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    """Divide a large tensor, without copying it if it lies densely in memory."""
    if tensor.numel() <= PIECE:
        return [tensor]
    return torch.split(tensor.permute(_layout(tensor)).reshape(-1), PIECE)


def _layout(tensor: Tensor) -> tuple[int, ...]:
    """Return the axes of a tensor in the order in which it lies in memory."""
    return tuple(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
