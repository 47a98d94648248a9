"""Summaries of tensors, computed on their device and read later: no step waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradscape.measure.core.gradient_statistics import local
from gradscape.records.loss import TensorSummary

MOST = 16_384  # elements that are read of a larger tensor, evenly spread
RANKED = 4_096  # elements whose quantiles are taken
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
SAMPLES = 1_024  # samples that are compared with each other,
WIDTH = 4_096  # and elements of each
CLASSES = 1_000  # classes that are counted
BROKEN = 8  # rows that are named


@dataclass(frozen=True)
class Pending:
    """Summary whose numbers still are on their device.

    Attributes:
        shape, dtype: As in `TensorSummary`.
        numbers: (11,) The other fields, in their order; None of an empty or meta tensor.
        broken: (8,) First rows that are not finite, and −1; None of a tensor without several rows.
    """

    shape: tuple[int, ...]
    dtype: str
    numbers: Tensor | None
    broken: Tensor | None = None

    def read(self) -> TensorSummary:
        """Return the summary; waits for the device."""
        values = [math.nan] * 4 + [0.0, 0.0] if self.numbers is None else self.numbers.tolist()
        low, high, mean, std, nonfinite, whole, *quantiles = values
        rows = [] if self.broken is None else self.broken.tolist()
        return TensorSummary(
            shape=self.shape,
            dtype=self.dtype,
            low=low,
            high=high,
            mean=mean,
            std=std,
            nonfinite=nonfinite,
            whole=whole,
            quantiles=tuple(quantiles),
            broken=tuple(row for row in rows if row >= 0),
        )


def is_readable(values: Tensor) -> bool:
    """Return True for a tensor whose elements can be read as they lie: not sparse, nested, quantized or meta.

    Args:
        values: Tensor of any layout.
    """
    whole = values.layout is torch.strided and not values.is_nested
    return whole and not values.is_meta and not values.is_quantized


@torch.no_grad()
def summarize(values: Tensor) -> Pending:
    """Begin the summary of a tensor, of `MOST` of its elements at most.

    Args:
        values: Tensor of any shape and dtype; of a complex one the magnitudes.
    """
    shape, dtype = tuple(values.shape), str(values.dtype).removeprefix("torch.")
    values = values.detach()
    if hasattr(values, "placements"):  # sharded: the part that this process holds
        values = local(values)
    if not is_readable(values) or not values.numel():
        return Pending(shape, dtype, None)
    flat = thinned(values)
    flat = flat.abs() if flat.is_complex() else flat
    flat = flat if flat.dtype == torch.float64 else flat.float()
    finite = flat.isfinite()
    count = finite.sum()
    known = torch.where(finite, flat, 0)
    mean = known.sum() / count
    spread = torch.where(finite, (flat - mean).square(), 0).sum() / count
    low = torch.where(finite, flat, math.inf).amin()
    high = torch.where(finite, flat, -math.inf).amax()
    broken = 1 - count / flat.numel()
    whole = (finite & (flat == flat.round())).sum() / flat.numel()
    ranks = torch.nanquantile(
        torch.where(finite, flat, math.nan)[:: -(-flat.numel() // RANKED)],
        torch.tensor(QUANTILES, dtype=flat.dtype, device=flat.device),
    )
    numbers = torch.stack([low, high, mean, spread.sqrt(), broken, whole])
    return Pending(shape, dtype, torch.cat([numbers, ranks]), broken_rows(values))


@torch.no_grad()
def broken_rows(values: Tensor) -> Tensor | None:
    """Return the first rows that have an infinite value or NaN, (8,) with −1 in the end, on the device.

    Args:
        values: Tensor of any shape, of which `SAMPLES` rows and `WIDTH` numbers of each are looked at.

    Returns:
        Indices along the first axis; None of integers, and of less than two rows.
    """
    if values.dim() == 0 or len(values) < 2 or not (values.is_floating_point() or values.is_complex()):
        return None
    rows = values[:SAMPLES].reshape(min(len(values), SAMPLES), -1)[:, :WIDTH]
    rows = rows.abs() if rows.is_complex() else rows
    sums = rows.sum(1, dtype=torch.float64 if rows.dtype == torch.float64 else torch.float32)
    places = torch.arange(len(rows), device=rows.device)
    first = torch.where(sums.isfinite(), len(rows), places).sort().values[:BROKEN]
    return torch.where(first < len(rows), first, -1)


def thinned(values: Tensor, most: int = MOST) -> Tensor:
    """Return a tensor's elements in one row, evenly spread ones of a large tensor.

    Args:
        values: Tensor of any shape.
        most: Number of elements.
    """
    while values.numel() > most and values.dim():
        axis = max(range(values.dim()), key=lambda each: values.shape[each])
        step = min(-(-values.numel() // most), values.shape[axis])
        values = values[(slice(None),) * axis + (slice(None, None, step),)]
    return values.reshape(-1)


@torch.no_grad()
def equal_share(samples: Tensor) -> Tensor:
    """Return the share of samples that are equal to another one, 0 to 1, on the device.

    Samples are compared by one weighted sum each: no random number is drawn.

    Args:
        samples: Tensor whose first axis is that of N ≥ 2 samples, of any shape and dtype.
    """
    rows = samples[:SAMPLES].detach().reshape(min(len(samples), SAMPLES), -1)[:, :WIDTH].double()
    weights = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=rows.dtype).sin()
    sums = (torch.nan_to_num(rows) @ weights).sort().values
    same = sums[1:] == sums[:-1]
    none = same.new_zeros(1)
    return (torch.cat([same, none]) | torch.cat([none, same])).double().mean()


@torch.no_grad()
def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Return how often each of the first classes occurs, (classes,), without waiting for the device.

    Args:
        labels: Whole numbers; those beyond the classes are left out.
        classes: Number of classes, `CLASSES` at most.
    """
    flat = labels.detach().reshape(-1).long()
    place = torch.where((flat >= 0) & (flat < classes), flat, classes)
    counts = torch.zeros(classes + 1, dtype=torch.long, device=flat.device)
    return counts.scatter_add_(0, place, torch.ones_like(place))[:-1]


@torch.no_grad()
def feature_spread(rows: Tensor) -> Tensor:
    """Return the smallest and largest standard deviation of features over samples, (2,), on the device.

    Args:
        rows: (N, F) Samples of features, of any dtype.
    """
    spread = rows[:SAMPLES].detach().float().std(dim=0, correction=0)
    return torch.stack([spread.amin(), spread.amax()])
