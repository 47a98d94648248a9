"""Adaptive grid: evaluate points only where cubic interpolation is not accurate enough.

The grid is refined from coarse to fine by halving. Each level compares values with the interpolation of the
coarser level; the next level evaluates points only near those that differ (the sparse point representation of
Holmström 1999, with the interpolation of Deslauriers & Dubuc 1989, whose error falls sixteenfold with each
halving for a smooth function). Within a level the middles of cells come first, where the errors of both axes
add up, and the middles of edges only near those that differ: a plateau takes 41 points of a plane, not 81.
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
Measure = Callable[[list[Index]], None]  # fills entries of the array that is refined
HALVING = 2  # minimal factor by which halving reduces an error, unless the surface has steps
COARSEST = 4  # minimal number of intervals of the first grid, for four-point interpolation


def levels_of(points: int) -> int:
    """Return how often a grid can be halved.

    Args:
        points: Number of points along an axis.

    Example:
        >>> levels_of(41), levels_of(33), levels_of(20)
        (3, 3, 0)
    """
    intervals, levels = points - 1, 0
    while intervals % 2 == 0 and intervals // 2 >= COARSEST:
        intervals, levels = intervals // 2, levels + 1
    return levels


def refine(values: Values, errors: Values, measure: Measure, accuracy: float) -> Mask:
    """Measure a part of a grid, interpolate the rest, and return a mask of the measured points.

    Args:
        values: Array (P,) or (P, Q) of NaN, which is filled.
        errors: Array of the same shape, of standard errors of the measured values; NaN where not known.
        measure: Function that sets the entries of `values` and `errors` at some indices.
        accuracy: Largest error allowed: relative if all values are above 0, whose logarithms are
            interpolated, otherwise a fraction of their range. The error of the next level is estimated as
            half of this one's. Where the standard error is larger, it is allowed instead: finer detail would
            be that of the samples.
    """
    levels = min(map(levels_of, values.shape))
    measured: Mask = np.zeros(values.shape, dtype=bool)
    wrong: Mask = np.ones(values.shape, dtype=bool)  # of the level before; the first has to be searched whole
    step = 2**levels
    _take(lattice(values.shape, step), measure, measured)
    scale = scale_of(values[measured])
    for _ in range(levels):
        half = step // 2
        guess = _predicted(scale.there(values), step)
        new = [index for index in lattice(values.shape, half) if any(i % step for i in index)]
        differing: Mask = np.zeros(values.shape, dtype=bool)
        for middles in (True, False):
            near = wrong if middles else differing.copy()
            part = [i for i in new if all(k % step for k in i) is middles]
            chosen = [i for i in part if _near(near, i, step) or not np.isfinite(guess[i])]
            _take(chosen, measure, measured)
            allowed = np.fmax(accuracy * scale.unit, errors * scale.slope(values))
            off = np.abs(scale.there(values) - guess)
            for index in chosen:
                differing[index] = not off[index] <= HALVING * allowed[index]
        wrong = differing
        rest = _indexed([i for i in new if not measured[i]], values.ndim)
        values[rest] = scale.back(guess[rest])
        step = half
    return measured


def _take(indices: list[Index], measure: Measure, measured: Mask) -> None:
    if indices:
        measure(indices)
        measured[_indexed(indices, measured.ndim)] = True


def _indexed(indices: Sequence[Index], dims: int) -> Any:
    """Convert indices to a numpy index."""
    return tuple(np.array(indices, dtype=int).reshape(-1, dims).T)


@dataclass(frozen=True)
class Scale:
    """Transformation under which values are interpolated.

    Attributes:
        there: Function from values to interpolated quantities.
        back: Its inverse.
        slope: Its derivative.
        unit: Unit of interpolation errors.
    """

    there: Callable[[Values], Values]
    back: Callable[[Values], Values]
    slope: Callable[[Values], Values]
    unit: float


def scale_of(values: Values) -> Scale:
    """Return a logarithmic scale for values above 0, otherwise a linear one: losses span orders of magnitude.

    Args:
        values: Values on the grid; those that are not finite are ignored.
    """
    finite = values[np.isfinite(values)]
    if finite.size and (finite > 0).all():
        return Scale(_log, np.exp, _reciprocal, 1.0)
    return Scale(np.array, np.array, np.ones_like, float(np.ptp(finite)) if finite.size else 1.0)


def lattice(shape: Sequence[int], step: int) -> list[Index]:
    """Return the indices of every `step`-th point along each axis.

    Args:
        shape: Shape of the grid.
        step: Distance between indices.
    """
    axes = [range(0, count, step) for count in shape]
    return [
        tuple(map(int, index))
        for index in np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    ]


def _near(wrong: Mask, index: Index, reach: int) -> bool:
    """Return True if a point within a coarse interval was predicted wrong."""
    window: Any = tuple(slice(max(i - reach, 0), i + reach + 1) for i in index)
    return bool(wrong[window].any())


def _predicted(values: Values, step: int) -> Values:
    """Interpolate the points of the finer lattice from the coarser one, axis by axis."""
    half = step // 2
    predicted = np.full_like(values, np.nan)
    coarse: Any = tuple(slice(None, None, step) for _ in values.shape)
    part = values[coarse]
    for axis in range(values.ndim):
        part = _doubled(part, axis)
    fine: Any = tuple(slice(None, None, half) for _ in values.shape)
    predicted[fine] = part
    return predicted


def _doubled(values: Values, axis: int) -> Values:
    """Insert midpoints along an axis, by the cubic through the four nearest points."""
    rows = np.moveaxis(values, axis, 0)
    count = len(rows)
    out = np.empty((2 * count - 1, *rows.shape[1:]))
    out[::2] = rows
    for i in range(count - 1):
        first = min(max(i - 1, 0), count - 4)
        weights = _cubic(i + 0.5 - first, np.arange(4.0))
        out[2 * i + 1] = np.tensordot(weights, rows[first : first + 4], axes=1)
    return np.moveaxis(out, 0, axis)


def _cubic(x: float, nodes: Values) -> Values:
    """Return Lagrange's weights at x of the values at four nodes."""
    return np.array([np.prod([(x - m) / (k - m) for m in nodes if m != k]) for k in nodes])


def interpolated(values: Values, axes: Sequence[Values], at: Sequence[float]) -> float:
    """Interpolate a grid between its points by cubics along each axis.

    Args:
        values: Grid, of four points or more along each axis.
        axes: Coordinates along each axis, increasing; a line between models has some between even ones.
        at: Coordinates of the position.
    """
    part: Any = values
    for axis, x in zip(axes, at, strict=True):
        first = min(max(int(np.searchsorted(axis, x)) - 2, 0), len(axis) - 4)
        part = np.tensordot(_cubic(x, axis[first : first + 4]), part[first : first + 4], axes=1)
    return float(part)


def _log(values: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)


def _reciprocal(values: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / values
