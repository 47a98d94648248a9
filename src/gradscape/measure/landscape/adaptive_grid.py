"""A surface on a grid from fewer points than it has: evaluated where cubic interpolation is not enough.

The grid is refined from coarse to fine by halving. At each level what interpolation of the coarser one
predicts is held against what is measured; points of the next level are measured only beside those where the
two differ (the sparse point representation of Holmström 1999, with the interpolation of Deslauriers & Dubuc
1989, whose error falls sixteenfold with each halving of a smooth function).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values

Index = tuple[int, ...]
Mask = NDArray[np.bool_]
Measure = Callable[[list[Index]], None]  # fills the array that is refined
HALVING = 2  # by which half the spacing shrinks an error at least, unless the surface has steps
COARSEST = 4  # intervals of the first grid, at least: what four-point interpolation needs


def levels_of(points: int) -> int:
    """How often a grid of so many points can be halved.

    Example:
        >>> levels_of(41), levels_of(33), levels_of(20)
        (3, 3, 0)
    """
    intervals, levels = points - 1, 0
    while intervals % 2 == 0 and intervals // 2 >= COARSEST:
        intervals, levels = intervals // 2, levels + 1
    return levels


def refine(values: Values, measure: Measure, accuracy: float) -> Mask:
    """Measure a part of a grid and interpolate the rest; returns which points were measured.

    Args:
        values: (P,) or (P, Q), NaN throughout; filled.
        measure: given indices, sets these entries of `values`.
        accuracy: what an error may be: relative where all values are above 0, whose logarithms are
            interpolated, and else a share of their range. That of the next level is not known; it is taken
            for half of this one's.
    """
    levels = min(map(levels_of, values.shape))
    known: Mask = np.zeros(values.shape, dtype=bool)
    wrong: Mask = np.zeros(values.shape, dtype=bool)
    step = 2**levels
    _take(lattice(values.shape, step), measure, known)
    scale = scale_of(values[known])
    for level in range(levels):
        half = step // 2
        guess = _predicted(scale.there(values), step)
        new = [index for index in lattice(values.shape, half) if any(i % step for i in index)]
        chosen = [i for i in new if not level or _near(wrong, i, step) or not np.isfinite(guess[i])]
        _take(chosen, measure, known)
        found = scale.there(values)
        for index in chosen:
            wrong[index] = not abs(found[index] - guess[index]) <= HALVING * accuracy * scale.unit
        left = _indexed([i for i in new if not known[i]], values.ndim)
        values[left] = scale.back(guess[left])
        step = half
    return known


def _take(indices: list[Index], measure: Measure, known: Mask) -> None:
    if indices:
        measure(indices)
        known[_indexed(indices, known.ndim)] = True


def _indexed(indices: Sequence[Index], dims: int) -> Any:
    """As numpy takes them."""
    return tuple(np.array(indices, dtype=int).reshape(-1, dims).T)


@dataclass(frozen=True)
class Scale:
    """What is interpolated in place of values, how to get back, and the unit of its errors."""

    there: Callable[[Values], Values]
    back: Callable[[Values], Values]
    unit: float


def scale_of(values: Values) -> Scale:
    """Logarithms of values above 0: a loss rises by orders of magnitude over a plane."""
    finite = values[np.isfinite(values)]
    if finite.size and (finite > 0).all():
        return Scale(_log, np.exp, 1.0)
    return Scale(np.array, np.array, float(np.ptp(finite)) if finite.size else 1.0)


def lattice(shape: Sequence[int], step: int) -> list[Index]:
    axes = [range(0, count, step) for count in shape]
    return [
        tuple(map(int, index))
        for index in np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    ]


def _near(wrong: Mask, index: Index, reach: int) -> bool:
    """Whether a point within a coarse interval was predicted wrong."""
    window: Any = tuple(slice(max(i - reach, 0), i + reach + 1) for i in index)
    return bool(wrong[window].any())


def _predicted(values: Values, step: int) -> Values:
    """What every second point of the lattice is, from those of the coarser one, axis by axis."""
    half = step // 2
    found = np.full_like(values, np.nan)
    coarse: Any = tuple(slice(None, None, step) for _ in values.shape)
    part = values[coarse]
    for axis in range(values.ndim):
        part = _doubled(part, axis)
    fine: Any = tuple(slice(None, None, half) for _ in values.shape)
    found[fine] = part
    return found


def _doubled(values: Values, axis: int) -> Values:
    """Midpoints put between points along an axis, by the cubic through the four nearest."""
    rows = np.moveaxis(values, axis, 0)
    count = len(rows)
    out = np.empty((2 * count - 1, *rows.shape[1:]))
    out[::2] = rows
    for i in range(count - 1):
        first = min(max(i - 1, 0), count - 4)
        weights = _cubic(i + 0.5 - first)
        out[2 * i + 1] = np.tensordot(weights, rows[first : first + 4], axes=1)
    return np.moveaxis(out, 0, axis)


def _cubic(x: float) -> Values:
    """Weights at x of the values at 0, 1, 2, 3: Lagrange's."""
    nodes = np.arange(4.0)
    return np.array([np.prod([(x - m) / (k - m) for m in nodes if m != k]) for k in nodes])


def interpolated(values: Values, at: Sequence[float]) -> float:
    """A grid's value between its points, in units of its spacing, by cubics along each axis."""
    part: Any = values
    for x in at:
        first = int(min(max(np.floor(x) - 1, 0), len(part) - 4))
        part = np.tensordot(_cubic(x - first), part[first : first + 4], axes=1)
    return float(part)


def _log(values: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)
