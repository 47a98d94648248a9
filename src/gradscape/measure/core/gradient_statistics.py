"""Statistics of many tensors in a few operations, on their device; sharded tensors count as whole tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradscape.measure.core.gathered import is_sharded, own_part
from gradscape.measure.core.pieces import TINY, Kept, Sums, keep, stacked, strides_of, sums, widened

STATISTICS = ("mean_abs", "max_abs", "rms", "zeros", "nonfinite", "agreement")


@dataclass(frozen=True)
class Shards:
    """Process groups over which tensors are sharded, if any.

    Attributes:
        groups: A group of processes for each mesh dimension along which any of the tensors is sharded.
        columns: True for a tensor that is sharded along a group's dimension, (groups, tensors).
        sizes: Numbers of elements of the whole tensors, (tensors,).
        strides: Of each tensor, one out of how many elements is kept until the next reading.
    """

    groups: tuple[Any, ...]
    columns: Tensor
    sizes: Tensor
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Shards:
        """Find the process groups of tensors.

        Args:
            tensors: At least one tensor.
        """
        device = local(tensors[0]).device
        along = [_dimensions(tensor) for tensor in tensors]
        found = {name: group for dimensions in along for name, group in dimensions.items()}
        columns = torch.tensor(
            [[name in dimensions for dimensions in along] for name in found], device=device
        )
        return cls(
            tuple(found.values()),
            columns.reshape(len(found), len(tensors)).bool(),
            torch.tensor([max(1, tensor.numel()) for tensor in tensors], dtype=torch.float64, device=device),
            strides_of([tensor.numel() for tensor in tensors]),
        )

    def part(self, places: Sequence[int]) -> Shards:
        """Return the shards of some of the tensors.

        Args:
            places: Indices of the tensors.
        """
        strides = tuple(self.strides[place] for place in places)
        return Shards(self.groups, self.columns[:, places], self.sizes[places], strides)

    def total(self, values: Tensor) -> Tensor:
        """Sum values over all processes that hold a part.

        Args:
            values: Values (…, tensors) of this process.
        """
        return self._joined(values, "SUM")

    def largest(self, values: Tensor) -> Tensor:
        """Return the maximum of values over all processes that hold a part.

        Args:
            values: Values (…, tensors) of this process.
        """
        return self._joined(values, "MAX")

    def agreed(self, number: int) -> int:
        """Return the largest of the numbers that the processes give; waits for all of them, and the device.

        Args:
            number: Number of this process.
        """
        import torch.distributed as dist

        largest = torch.tensor(number, device=self.sizes.device)
        for group in self.groups:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        return int(largest)

    def _joined(self, values: Tensor, how: str) -> Tensor:
        if not self.groups:
            return values
        import torch.distributed as dist

        for group, columns in zip(self.groups, self.columns, strict=True):
            whole = values.clone()
            dist.all_reduce(whole, op=getattr(dist.ReduceOp, how), group=group)
            values = torch.where(columns, whole, values)
        return values


def _dimensions(tensor: Tensor) -> dict[str, Any]:
    """Return the groups of the mesh dimensions along which a tensor is sharded over processes, by name."""
    if not is_sharded(tensor):
        return {}
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    groups = [
        mesh.get_group(dim) for dim, kind in enumerate(placements) if kind.is_shard() and mesh.size(dim) > 1
    ]
    return {group.group_name: group for group in groups}


def local(tensor: Tensor) -> Tensor:
    """Return the elements that this process holds, in float32 at least; of a sparse tensor, its values.

    Args:
        tensor: Tensor of any layout, perhaps sharded.
    """
    return widened(held(tensor))


def held(tensor: Tensor) -> Tensor:
    """Return the elements that this process holds, of a sparse tensor its values; a zero where it has none.

    Args:
        tensor: Tensor of any layout, perhaps sharded.
    """
    part = own_part(tensor)
    return part if part.numel() else part.new_zeros(1)


class Scaled(NamedTuple):
    """Elements of a gradient that are kept for its agreement with the next one.

    They are divided by the largest, so that products do not underflow: 1e-30² is 0 in float32.

    Attributes:
        kept: Elements that this process holds, all or evenly spread ones.
        square: ‖·‖₂² of the elements that all processes keep, a scalar.
    """

    kept: Kept
    square: Tensor


@torch.no_grad()
def read_gradients(
    gradients: Sequence[Tensor], shards: Shards, last: Sequence[Scaled | None]
) -> tuple[Tensor, list[Scaled]]:
    """Return the statistics of gradients, and what is kept of them for the next reading's agreement.

    Args:
        gradients: Gradients of all tensors; dense, sparse, complex or sharded.
        shards: Shards of the same tensors.
        last: What an earlier reading kept of each tensor; None without one.

    Returns:
        (6, tensors) in the order of `STATISTICS`, float64, and what is kept. `nonfinite` is 1 if an element
        is not finite, and `agreement` the cosine of the angle to the last reading, of a large model's large
        tensors that of the elements kept.
    """
    parts = [held(gradient) for gradient in gradients]
    found = sums(parts, shards.strides)
    largest = shards.largest(found.largest)
    share = found.largest.clamp_min(TINY) / largest.clamp_min(TINY) if shards.groups else None
    square = shards.total(found.square if share is None else found.square * share.square())
    scaled = _scaled(parts, found, share, shards)
    statistics = [
        shards.total(found.absolute) / shards.sizes,
        largest,
        largest * (square / shards.sizes).sqrt(),
        1 - shards.total(found.nonzero) / shards.sizes,
        (~largest.isfinite()).double(),
        _agreement(gradients, scaled, last, shards),
    ]
    return torch.stack(statistics), scaled


def _scaled(parts: Sequence[Tensor], found: Sums, share: Tensor | None, shards: Shards) -> list[Scaled]:
    """Return what is kept of gradients, divided by their largest elements.

    Args:
        parts: Parts that this process holds.
        found: Sums over them.
        share: Their largest elements over those of the whole tensors; None if they are whole.
        shards: Shards of the tensors.
    """
    kept, squares = [], list(found.square)
    for place, part in enumerate(parts):
        if place in found.scaled:
            kept.append(Kept(found.scaled[place]))
            continue
        some, layout = keep(part, shards.strides[place])
        some = widened(some) / found.largest[place].clamp_min(TINY).to(some.device, some.real.dtype)
        kept.append(Kept(some, layout))
        squares[place] = some.norm(2).double().square().to(found.square.device)
    square = torch.stack(squares)
    if share is not None:
        for each, factor in zip(kept, share, strict=True):
            each.elements.mul_(factor.to(each.elements.device, each.elements.real.dtype))
        square = square * share.square()
    return list(map(Scaled, kept, shards.total(square)))


def _agreement(
    gradients: Sequence[Tensor], now: Sequence[Scaled], last: Sequence[Scaled | None], shards: Shards
) -> Tensor:
    """Return cosines of the angles between gradients of two readings; NaN without another, or if sparse."""
    square = torch.stack([each.square for each in now])
    unknown = torch.full_like(square, math.nan)
    if not any(last):
        return unknown
    others = [scaled if before is None else before for scaled, before in zip(now, last, strict=True)]
    product = shards.total(stacked(list(map(_inner, now, others))))
    known = [
        before is not None and before.kept.layout == scaled.kept.layout and not gradient.is_sparse
        for gradient, scaled, before in zip(gradients, now, last, strict=True)
    ]
    there = torch.tensor(known, device=product.device)
    return torch.where(
        there, product / (square * torch.stack([each.square for each in others])).sqrt(), unknown
    )


def _inner(now: Scaled, before: Scaled) -> Tensor:
    """Return the inner product as real vectors; 0 if shapes differ, as those of sparse gradients may."""
    a, b = now.kept.elements, before.kept.elements
    if a.shape != b.shape:
        return a.real.new_zeros(())
    return (a * b.conj()).sum().real
