"""Sketches of the values of tensors: how many lie in each of some thousand buckets, counted on their device.

The buckets are those of DDSketch (Masson, Rim & Lee, VLDB 2019), equal in width relative to their values,
here with bounds that float32 itself has: sign, exponent and the first three bits of the mantissa. So a bucket
is found by a shift of an element's bits, with no logarithm and no rounding, the same on every device. Every
number has its bucket, from 2^−129 to the largest: there is no range to choose, and the sketch of several
tensors is the sum of their sketches, exactly, in whatever parts and order they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gradscape.measure.core.gathered import own_part
from gradscape.measure.core.pieces import widened

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


@torch.no_grad()
def sketch(tensors: Sequence[Tensor], divisor: Tensor | None = None) -> Tensor:
    """Return a sketch of each tensor, (tensors, COLUMNS) integers, on the device of the first.

    Args:
        tensors: Tensors of any shape and dtype, one at least: of float64, what float32 cannot hold counts as
            its largest number or as nearly 0; of complex ones, magnitudes. Of a sharded tensor, the part
            that this process holds; a sparse one's other elements are zeros.
        divisor: Number by which all elements are divided first.
    """
    parts = [own_part(each.detach()) for each in tensors]
    device = parts[0].device
    # Whole tensors: sums over processes must have room too.
    dtype = torch.int32 if max(each.numel() for each in tensors) < 2**31 else torch.int64
    counts = torch.zeros(len(parts) * 2 * SIGN, dtype=dtype, device=device)
    zeros = torch.zeros(len(parts), dtype=dtype, device=device)
    for first, last in _batches(parts):
        _count(parts[first:last], first, counts, zeros, divisor)
    absent = [
        each.numel() - part.numel() if each.is_sparse else 0
        for each, part in zip(tensors, parts, strict=True)
    ]
    counts = counts.view(len(parts), 2 * SIGN)
    if any(absent):
        unheld = torch.tensor(absent, dtype=dtype, device=device)
        zeros += unheld
        counts[:, SIGN] += unheld
    return _in_order(counts, zeros)


def _chunk(part: Tensor) -> int:
    return CHUNK.get(part.device.type, OTHER_CHUNK)


def _batches(parts: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of tensors that are counted together: one large one, or small ones of a kind."""
    first = 0
    while first < len(parts):
        size, last = parts[first].numel(), first + 1
        while last < len(parts) and _is_alike(parts[first], parts[last]):
            size += parts[last].numel()
            if size > _chunk(parts[first]):
                break
            last += 1
        yield first, last
        first = last


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device


def _count(
    parts: Sequence[Tensor], first: int, counts: Tensor, zeros: Tensor, divisor: Tensor | None
) -> None:
    """Count the elements of tensors by their first bits, and exact zeros, from a row on."""
    if len(parts) == 1:
        for chunk in map(_countable, torch.split(parts[0].reshape(-1), _chunk(parts[0]))):
            zeros[first] += len(chunk) - chunk.count_nonzero().to(zeros.device)
            _count_bits(chunk, first * 2 * SIGN, counts, divisor)
        return
    sizes = torch.tensor([each.numel() for each in parts], device=counts.device)
    numbers = torch.arange(first, first + len(parts), device=counts.device)
    values = _countable(torch.cat([each.reshape(-1) for each in parts]))
    rows = torch.repeat_interleave(numbers, sizes, output_size=len(values))
    zeros.scatter_add_(0, rows, (values == 0).to(counts.device, zeros.dtype))
    _count_bits(values, rows * (2 * SIGN), counts, divisor)


def _count_bits(values: Tensor, offset: Tensor | int, counts: Tensor, divisor: Tensor | None) -> None:
    """Count elements by their first bits, from an offset on."""
    if divisor is not None:  # in float16 the quotient would be 0
        values = widened(values) / divisor.to(values.device)
    bits = _as_float32(values).view(torch.int32) >> SHIFT  # from −SIGN: negative numbers come first
    places = bits.add_(SIGN).long().to(counts.device).add_(offset)
    counts.scatter_add_(
        0, places, torch.ones((), dtype=counts.dtype, device=counts.device).expand(len(places))
    )


def _as_float32(values: Tensor) -> Tensor:
    values = values.abs() if values.is_complex() else values
    if values.dtype == torch.float64:
        values = torch.where(values.isfinite(), values.clamp(-LARGEST, LARGEST), values)
    return values.float().resolve_neg()


def _countable(values: Tensor) -> Tensor:
    """Return elements that torch can compare: those of eight bits in float32."""
    return values.float() if values.is_floating_point() and values.itemsize == 1 else values


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
