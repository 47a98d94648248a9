"""Statistics of many tensors in a few operations, on their device; sharded tensors count as whole tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STATISTICS = ("mean_abs", "max_abs", "rms", "zeros", "nonfinite", "agreement")
TINY = 2.0**-126  # smallest normal float32: below it is 0 where denormals are flushed


@dataclass(frozen=True)
class Shards:
    """Process groups over which tensors are sharded, if any.

    Attributes:
        groups: A group for each mesh dimension along which the tensors are sharded.
        columns: 1 for a sharded tensor, 0 for one that is whole on every process, (tensors,).
        sizes: Numbers of elements of the whole tensors, (tensors,).
    """

    groups: tuple[Any, ...]
    columns: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Shards:
        """Find the process groups of tensors.

        Args:
            tensors: At least one tensor.
        """
        device = local(tensors[0]).device
        sharded = [tensor for tensor in tensors if _is_sharded(tensor)]
        groups: tuple[Any, ...] = ()
        if sharded:
            mesh, placements = sharded[0].device_mesh, sharded[0].placements  # type: ignore[attr-defined]
            groups = tuple(mesh.get_group(dim) for dim, kind in enumerate(placements) if kind.is_shard())
        return cls(
            groups,
            torch.tensor([_is_sharded(tensor) for tensor in tensors], device=device),
            torch.tensor([max(1, tensor.numel()) for tensor in tensors], dtype=torch.float64, device=device),
        )

    def part(self, places: Sequence[int]) -> Shards:
        """Return the shards of some of the tensors.

        Args:
            places: Indices of the tensors.
        """
        return Shards(self.groups, self.columns[places], self.sizes[places])

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

    def _joined(self, values: Tensor, how: str) -> Tensor:
        if not self.groups:
            return values
        import torch.distributed as dist

        whole = values.clone()
        for group in self.groups:
            dist.all_reduce(whole, op=getattr(dist.ReduceOp, how), group=group)
        return torch.where(self.columns, whole, values)


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """Return the elements that this process holds, in float32 at least; of a sparse tensor, its values.

    Args:
        tensor: Tensor of any layout, perhaps sharded.
    """
    held: Tensor = tensor.to_local() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    if held.is_sparse:
        held = held.coalesce().values()
    if held.dtype in (torch.float16, torch.bfloat16):
        held = held.float()
    return held if held.numel() else held.new_zeros(1)


@dataclass(frozen=True)
class Scaled:
    """Gradients divided by their largest elements, so that squares do not underflow: 1e-30² is 0 in float32.

    Attributes:
        tensors: Parts that this process holds.
        square: ‖·‖₂² of the whole tensors, (tensors,).
    """

    tensors: list[Tensor]
    square: Tensor


@torch.no_grad()
def read_gradients(
    gradients: Sequence[Tensor], shards: Shards, last: Sequence[tuple[Tensor, Tensor] | None]
) -> tuple[Tensor, Scaled]:
    """Return the statistics of gradients, and the scaled gradients for the next reading's agreement.

    Args:
        gradients: Gradients of all tensors; dense, sparse, complex or sharded.
        shards: Shards of the same tensors.
        last: Entries of an earlier `Scaled` for each tensor; None without one.

    Returns:
        (6, tensors) in the order of `STATISTICS`, float64, and the scaled gradients. `nonfinite` is 1 if an
        element is not finite, and `agreement` the cosine of the angle to the last reading.
    """
    held = [local(gradient) for gradient in gradients]
    largest = shards.largest(stacked(torch._foreach_norm(held, math.inf)))
    absolute = shards.total(stacked(torch._foreach_norm(held, 1)))
    nonzero = shards.total(stacked([torch.count_nonzero(each) for each in held]))
    divisors = [d.to(h.device, h.real.dtype) for d, h in zip(largest.clamp_min(TINY), held, strict=True)]
    tensors = list(torch._foreach_div(held, divisors))
    scaled = Scaled(tensors, shards.total(stacked(torch._foreach_norm(tensors, 2)).square()))
    statistics = [
        absolute / shards.sizes,
        largest,
        largest * (scaled.square / shards.sizes).sqrt(),
        1 - nonzero / shards.sizes,
        (~largest.isfinite()).double(),
        _agreement(gradients, scaled, last, shards),
    ]
    return torch.stack(statistics), scaled


def _agreement(
    gradients: Sequence[Tensor],
    now: Scaled,
    last: Sequence[tuple[Tensor, Tensor] | None],
    shards: Shards,
) -> Tensor:
    """Return cosines of the angles between gradients of two readings; NaN without another, or if sparse."""
    unknown = torch.full_like(now.square, math.nan)
    if not any(last):
        return unknown
    none = (now.tensors[0].real.new_zeros(()), now.square.new_ones(()))
    pairs = [none if each is None else each for each in last]
    product = shards.total(
        stacked([_inner(tensor, other) for tensor, (other, _) in zip(now.tensors, pairs, strict=True)])
    )
    square = torch.stack([each for _, each in pairs])
    known = [
        each is not None and not gradient.is_sparse for each, gradient in zip(last, gradients, strict=True)
    ]
    there = torch.tensor(known, device=product.device)
    return torch.where(there, product / (now.square * square).sqrt(), unknown)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product as real vectors; 0 if shapes differ, as those of sparse gradients may."""
    if a.shape != b.shape:
        return a.real.new_zeros(())
    return (a * b.conj()).sum().real


@torch.no_grad()
def norms(tensors: Sequence[Tensor], shards: Shards) -> Tensor:
    """Return the L2 norms (tensors,), float64.

    Args:
        tensors: Tensors of any layout.
        shards: Shards of these tensors.
    """
    return shards.total(stacked(torch._foreach_norm([local(each) for each in tensors], 2)).square()).sqrt()


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Stack scalars as one float64 tensor on the first one's device.

    Args:
        values: Scalars, one per tensor.
    """
    device = values[0].device
    if any(value.device != device for value in values):
        values = [value.to(device) for value in values]
    return torch.stack(list(values)).double()
