"""Sketches of the values of tensors: how many lie in each of some thousand buckets, counted on their device.

The buckets are those of DDSketch (Masson, Rim & Lee, VLDB 2019), equal in width relative to their values,
here with bounds that float32 itself has: sign, exponent and the first three bits of the mantissa. So a bucket
is found by a shift of an element's bits, with no logarithm and no rounding, the same on every device. Every
number has its bucket, from 2^−129 to the largest: there is no range to choose, and the sketch of several
tensors is the sum of their sketches, exactly, in whatever parts and order they come.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradscape.measure.core.gathered import is_sharded

BITS = 3  # of the mantissa
SHIFT = 23 - BITS
SIGN = 256 << BITS  # buckets of a sign,
FINITE = 255 << BITS  # the first of which are of finite values
BUCKETS = 2 * FINITE - 1  # of both signs, by value; the middle one has what is nearer to 0 than 2^−129
COLUMNS = BUCKETS + 4  # and then numbers of exact zeros, of −∞, of ∞ and of NaN
# Of a value's estimate, for values of 2^−126 and above; below it the error is 2^−129 at most.
RELATIVE_ERROR = 2.0**-BITS / (2 + 2.0**-BITS)
LARGEST = torch.finfo(torch.float32).max
CHUNK = {"cpu": 2**18}  # elements counted at once: on a processor, as many as lie in its cache
OTHER_CHUNK = 2**22


def bounds() -> Tensor:
    """Return the bounds of the buckets, ascending, (BUCKETS + 1,) float64."""
    place = torch.arange(FINITE + 1, dtype=torch.float64)
    exponent, fraction = (place / 2**BITS).floor(), place % 2**BITS
    normal = torch.ldexp(fraction + 2**BITS, exponent - 127 - BITS)
    upper = torch.where(exponent == 0, torch.ldexp(fraction, torch.tensor(-126.0 - BITS)), normal)[1:]
    return torch.cat([-upper.flip(0), upper])


def middles() -> Tensor:
    """Return the value that stands for each bucket, (BUCKETS,) float32.

    It is 2 · lower · upper / (lower + upper), as far from both bounds in parts of them (Masson et al., §2.1).
    """
    edges = bounds()
    lower, upper = edges[:-1], edges[1:]
    found = 2 * lower * upper / (lower + upper)
    found[FINITE - 1] = 0.0
    return found.float()


def held(tensor: Tensor) -> Tensor:
    """Return the elements of a tensor that this process holds; of a sparse tensor, its values.

    Args:
        tensor: Tensor of any layout, perhaps sharded.
    """
    part: Tensor = tensor.detach()
    if is_sharded(part):
        part = part.to_local()  # type: ignore[attr-defined]
    return part.coalesce().values() if part.is_sparse else part


@torch.no_grad()
def sketch(tensors: Sequence[Tensor], divisor: Tensor | None = None) -> Tensor:
    """Return a sketch of each tensor, (tensors, COLUMNS) integers, on the device of the first.

    Args:
        tensors: Tensors of any shape and dtype, one at least: of float64, what float32 cannot hold counts as
            its largest number or as nearly 0; of complex ones, magnitudes. Of a sharded tensor, the part
            that this process holds; a sparse one's other elements are zeros.
        divisor: Number by which all elements are divided first.
    """
    parts = [held(each) for each in tensors]
    device = parts[0].device
    # Whole tensors: sums over processes must have room too.
    most = max(each.numel() for each in tensors)
    dtype = torch.int32 if most < 2**31 else torch.int64
    counts = torch.zeros(len(parts), 2 * SIGN, dtype=dtype, device=device)
    zeros = torch.stack([_count(each, row, divisor) for each, row in zip(parts, counts, strict=True)])
    absent = [
        each.numel() - part.numel() if each.is_sparse else 0
        for each, part in zip(tensors, parts, strict=True)
    ]
    if any(absent):
        unheld = torch.tensor(absent, device=device)
        zeros += unheld
        counts[:, SIGN] += unheld
    return _in_order(counts, zeros.to(dtype))


def _count(values: Tensor, counts: Tensor, divisor: Tensor | None) -> Tensor:
    """Count the elements of a tensor by their first bits, and return the number of exact zeros."""
    nonzero = torch.zeros((), dtype=torch.int64, device=counts.device)
    one = torch.ones((), dtype=counts.dtype, device=counts.device)
    for chunk in torch.split(values.reshape(-1), CHUNK.get(values.device.type, OTHER_CHUNK)):
        nonzero += chunk.count_nonzero().to(counts.device)
        chunk = chunk if divisor is None else chunk / divisor.to(chunk.device)
        bits = _as_float32(chunk).view(torch.int32) >> SHIFT  # from −SIGN: negative numbers come first
        counts.scatter_add_(0, bits.add_(SIGN).long().to(counts.device), one.expand(len(bits)))
    return values.numel() - nonzero


def _as_float32(values: Tensor) -> Tensor:
    values = values.abs() if values.is_complex() else values
    if values.dtype == torch.float64:
        values = torch.where(values.isfinite(), values.clamp(-LARGEST, LARGEST), values)
    return values.float()


def _in_order(counts: Tensor, zeros: Tensor) -> Tensor:
    """Return sketches of counts by sign and size (tensors, 2 · SIGN), and of numbers of zeros."""
    below, above = counts[:, :SIGN], counts[:, SIGN:]
    nan = below[:, FINITE + 1 :].sum(1) + above[:, FINITE + 1 :].sum(1)
    return torch.cat(
        [
            below[:, 1:FINITE].flip(1),
            below[:, :1] + above[:, :1],
            above[:, 1:FINITE],
            torch.stack([zeros, below[:, FINITE], above[:, FINITE], nan.to(counts.dtype)], dim=1),
        ],
        dim=1,
    )


@torch.no_grad()
def quantiles(sketches: Tensor, at: Sequence[float]) -> Tensor:
    """Return estimates of quantiles of the finite values, (tensors, len(at)) float32; NaN of none.

    The q-quantile of n values is the one of rank ⌊q (n − 1)⌋, counted from 0 (Masson et al., §1); its
    estimate is within `RELATIVE_ERROR` of it.

    Args:
        sketches: (tensors, COLUMNS) Sketches.
        at: Shares, 0 to 1.
    """
    below = sketches[:, :BUCKETS].cumsum(1)
    count = below[:, -1:]
    shares = torch.tensor(at, dtype=torch.float64, device=sketches.device)
    ranks = (shares * (count - 1).clamp_min(0)).floor().long()
    places = torch.searchsorted(below, ranks, right=True).clamp_max(BUCKETS - 1)
    values = middles().to(sketches.device)[places]
    return torch.where(count > 0, values, torch.nan)


@torch.no_grad()
def shares(sketches: Tensor) -> Tensor:
    """Return the shares of exact zeros, of infinite values and of NaN, (tensors, 3) float32; NaN of nothing.

    Args:
        sketches: (tensors, COLUMNS) Sketches.
    """
    zeros, low, high, nan = sketches[:, BUCKETS:].double().unbind(1)
    total = sketches[:, :BUCKETS].sum(1).double() + low + high + nan
    return (torch.stack([zeros, low + high, nan], dim=1) / total[:, None]).float()
