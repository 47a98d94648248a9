"""Loss over lines and planes of parameters, with numbers that describe it; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.errors import ConfigError
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.norm_statistics import describe_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINER = 8  # times as fine as the grid: where a basin's area is counted
LEVELS = 24  # of a filled contour
WIDE = 3  # times the least value, beyond which a scale is one of logarithms
ROUNDING = 1e-9  # ups and downs below it are those of sums


@dataclass(frozen=True)
class Basin:
    """Regions around the middle in which the loss is no more than so much above its value there.

    Attributes:
        width: (K,) For each surface half the length of a slice's basin, or the radius of the circle that has
            the area of a plane's, in units of the directions.
        whole: (K,) True if it ends within the range, and beside no point that time was too short for; else
            the width is a lower bound.
    """

    width: Values
    whole: NDArray[np.bool_]


@dataclass(frozen=True)
class Check:
    """Error of interpolation between the points.

    Attributes:
        points: Number of points off the grid, drawn evenly over all of it.
        typical: Root mean square of the error, relative where all losses are above 0, or of their range.
        worst: Largest error.
        kind: Unit of the errors, `relative` or `of the range`.
    """

    points: int
    typical: float
    worst: float
    kind: str

    def __str__(self) -> str:
        return (
            f"between the points interpolation is off by {100 * self.typical:.2g} % (typical) to "
            f"{100 * self.worst:.2g} % (worst of {self.points}), {self.kind}"
        )


@dataclass(frozen=True, repr=False)
class TrainingPath(Record):
    """Checkpoints of a training, on the plane that is nearest to them (Li et al. 2018, §7.2).

    Attributes:
        coordinates: (T, 2) Coordinates of their projections, in units of the parameters.
        residual: (T,) Share of the distance from the last one that lies off the plane.
        explained: (2,) Shares of the variation along the two directions.
        loss: (T,) Loss of the checkpoints themselves.
        on_plane: (T,) Loss of their projections, which a contour shows there.
    """

    coordinates: Values
    residual: Values
    explained: Values
    loss: Values
    on_plane: Values

    def __str__(self) -> str:
        return (
            f"path of {count_noun(len(self.loss), 'checkpoint')}: the plane explains "
            f"{100 * self.explained.sum():.3g} % of its variation, and at most "
            f"{100 * self.residual.max():.3g} % of a checkpoint's distance lies off it"
        )


@dataclass(frozen=True, repr=False)
class Convexity(Record):
    """Extreme eigenvalues of the whole Hessian over a plane (Li et al. 2018, §5 and Fig. 7).

    Attributes:
        coordinates: (M, 2), or (M, 1) on a slice: coordinates of the points.
        largest, smallest: (M,) Extreme eigenvalues.
    """

    coordinates: Values
    largest: Values
    smallest: Values

    @property
    def ratio(self) -> Values:
        """(M,) |λmin / λmax|: near 0 where the loss is nearly convex."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(self.smallest / self.largest)

    def __str__(self) -> str:
        known, points = self.ratio[~np.isnan(self.ratio)], count_noun(len(self.largest), "point")
        if not known.size:
            return f"|λmin / λmax| not known at any of {points}"
        return f"|λmin / λmax| {known.min():.3g} to {known.max():.3g} over {points}"


@dataclass(frozen=True, eq=False, repr=False)
class LandscapeRecord(Displayable, Record):
    """Loss at θ + Σ c_i d_i over a grid of c, for K pairs of directions (or single ones).

    Values that are not finite stay as they are.

    Attributes:
        directions: Kinds of the directions, one or two.
        axes: (P,) or (P,), (Q,) Coordinates, in units of the directions.
        loss: (K, P) or (K, P, Q) Mean over the samples.
        error: Standard error, of the same shape, over samples where the loss is the mean of theirs, else over
            parts of them in random order (with `batch` statistics over the batches); NaN for fewer than five,
            and where interpolated.
        metrics: Values of the same shape per name.
        measured: True, in the same shape, where a point was evaluated; the others are interpolated.
        lengths: (K, dims) ‖d_i‖₂, in units of the parameters.
        middle: (K,) Loss at c = 0.
        between: True if the other models lie at c = 1.
        bn: Statistics that BatchNorm took: `running`, `batch` or `recalibrated`; `none` without BatchNorm.
        precision: `fp32` or `bf16`.
        parameters, samples: Numbers of parameters and samples.
        check: Error of the interpolation; None unless requested.
        path: Path of a training; None likewise.
        convexity: Extreme eigenvalues over the first surface; None likewise.
        evaluations: Number of points at which the loss was evaluated.
        seconds: Time of the measurement.
        complete: True if there was time for everything.
        notes: Remarks on how it was measured.
        error_n: Number of samples, or parts of them, that `error` is over; 0 if not known.
    """

    directions: tuple[str, ...]
    axes: tuple[Values, ...]
    loss: Values
    error: Values
    metrics: Mapping[str, Values]
    measured: NDArray[np.bool_]
    lengths: Values
    middle: Values
    between: bool
    bn: str
    precision: str
    parameters: int
    samples: int
    check: Check | None
    path: TrainingPath | None
    convexity: Convexity | None
    evaluations: int
    seconds: float
    complete: bool
    notes: tuple[str, ...]
    error_n: int

    @property
    def dims(self) -> int:
        """Number of axes, 1 or 2."""
        return len(self.axes)

    @property
    def has_barrier(self) -> bool:
        """True for lines that have both models on them."""
        return self.between and self.dims == 1 and {0.0, 1.0} <= set(self.axes[0].tolist())

    @property
    def sampling(self) -> str:
        """Median sampling error, and the number it is over."""
        known = self.error[np.isfinite(self.error)]
        if not known.size:
            return "not known: of fewer than 5 samples or parts"
        of = "samples" if self.error_n == self.samples else "parts of the samples"
        return f"{np.median(known):.2g} over {self.error_n} {of}"

    @property
    def extent(self) -> str:
        """Least and largest loss."""
        known = self.loss[~np.isnan(self.loss)]
        return f"from {known.min():.4g} to {known.max():.4g}" if known.size else "no point is known"

    @property
    def nonfinite(self) -> int:
        """Number of points at which the loss is infinite or NaN."""
        return int((~np.isfinite(self.loss[self.measured])).sum())

    def basin(self, increase: float = 0.5) -> Basin:
        """Return the regions in which the loss is little above the middle's.

        Args:
            increase: Largest increase, in the loss's unit.

        Example:
            >>> gs.landscape(model, loss, batch, points=5).basin(0.5).width.mean()
        """
        unknown = np.isnan(self.loss) & ~self.measured
        pairs = [
            _basin_of(surface, self.axes, low + increase, missing)
            for surface, low, missing in zip(self.loss, self.middle, unknown, strict=True)
        ]
        return Basin(np.array([width for width, _ in pairs]), np.array([whole for _, whole in pairs]))

    @property
    def roughness(self) -> Values:
        """(K,) ups and downs along the grid's lines beyond those of a single valley; 0 for any bowl.

        The total variation of each line over what it must rise from its least value to its two ends, less 1,
        mean over lines that are finite throughout.
        """
        return np.array([_roughness_of(surface) for surface in self.loss])

    @property
    def barrier(self) -> Values:
        """(K,) For lines between models the most that the loss is above the mean of theirs.

        Source: Frankle et al. (2020), Linear mode connectivity, §2, in the loss rather than the error.

        Raises:
            ConfigError: The record has no such lines.
        """
        return np.array([_barrier_of(line, c, False) for line, c in self._between_models()])

    @property
    def barrier_over_line(self) -> Values:
        """(K,) For lines between models the most that the loss is above the line between theirs, 0 or more.

        Source: Entezari et al. (2022), The role of permutation invariance in linear mode connectivity, §2.

        Raises:
            ConfigError: The record has no such lines.
        """
        return np.array([_barrier_of(line, c, True) for line, c in self._between_models()])

    def _between_models(self) -> list[tuple[Values, Values]]:
        """Return losses and coordinates of every line from one model, at 0, to another, at 1.

        Raises:
            ConfigError: There are none.
        """
        if not self.has_barrier:
            raise ConfigError(
                "barrier: of lines between models; give landscape() the others as through=[…], and a span "
                "that holds 0 and 1"
            )
        c = self.axes[0]
        inside = (c >= 0) & (c <= 1)
        return [(line[inside], c[inside]) for line in self.loss]

    def derived(self) -> Mapping[str, Any]:
        """Return roughness, basin and, for lines between models, barriers."""
        names = ("roughness", "nonfinite", *(("barrier", "barrier_over_line") if self.has_barrier else ()))
        return {**{name: getattr(self, name) for name in names}, "basin": self.basin()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a slice with its spread over directions, or the first plane in contours; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        if self.dims == 1:
            mean = self.loss.mean(axis=0)
            axes.plot(self.axes[0], mean)
            if len(self.loss) > 1:
                axes.fill_between(self.axes[0], self.loss.min(axis=0), self.loss.max(axis=0), alpha=0.3)
            mark_models(axes, self)
            axes.set(xlabel=self.directions[0], ylabel="loss")
            return axes
        drawn = filled(axes, self.axes, self.loss[0], levels_for(self.loss[0]))
        axes.figure.colorbar(drawn, ax=axes, label="loss", format="%.3g")
        if self.path is not None:
            axes.plot(*self.path.coordinates.T, "o-", color="white", markersize=3, linewidth=1)
        axes.plot(0, 0, "+", color="white", markersize=8)  # the model's own weights
        axes.set(xlabel=self.directions[0], ylabel=self.directions[1])
        return axes

    def __str__(self) -> str:
        shape = " × ".join(str(len(axis)) for axis in self.axes)
        many = f", {count_noun(len(self.loss), 'surface')}" if len(self.loss) > 1 else ""
        lines = [
            f"loss over {shape} points{many} ({', '.join(self.directions)}) of "
            f"{count_noun(self.parameters, 'parameter')} on {count_noun(self.samples, 'sample')}"
            f"{describe_statistics(self.bn)}",
            f"at the {'model' if self.path is None else 'last checkpoint'} {self.middle.mean():.4g}; "
            f"{self.extent}; sampling error {self.sampling}",
            self._describe_barrier() if self.has_barrier else self._describe_basin(),
            *([f"{count_noun(self.nonfinite, 'point')} not finite"] if self.nonfinite else []),
            *map(str, filter(None, (self.check, self.path, self.convexity))),
            f"{self.evaluations} of {count_noun(self.loss.size, 'point')} evaluated in {self.seconds:.3g} s"
            + ("" if self.complete else "; the time limit ended it"),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _describe_basin(self) -> str:
        """Return width and roughness, in words."""
        basin = self.basin()
        least = "" if basin.whole.all() else "at least "
        rough = self.roughness
        known = (
            _describe_spread(rough) if np.isfinite(rough).all() else "not known: no line is finite throughout"
        )
        return (
            f"basin of half a unit of loss: width {least}{_describe_spread(basin.width)}; roughness {known}"
        )

    def _describe_barrier(self) -> str:
        """Return the other models' losses, and the barriers, one where they agree, in words."""
        others = self.loss[:, self.axes[0].tolist().index(1.0)]
        mean, sloped = _describe_spread(self.barrier), _describe_spread(self.barrier_over_line)
        also = "" if mean == sloped else f", {sloped} above the line between them"
        which = "model" if len(others) == 1 else "models"
        return (
            f"at the other {which} {_describe_spread(others)}; barrier {mean} above the mean of the models' "
            f"losses{also}"
        )


def mark_models(axes: Axes, record: LandscapeRecord) -> None:
    """Mark where on a line the models lie: the own one at 0, others at 1.

    Args:
        axes: Panel of a slice.
        record: Record of dims 1.
    """
    places = {0.0: "model", 1.0: "other model" if len(record.loss) == 1 else "other models"}
    for place, name in places.items():
        if place == 0 or record.has_barrier:
            axes.axvline(place, color="tab:gray", linestyle=":", linewidth=1, zorder=0)
            axes.annotate(
                name, (place, 1), (0, 3), ("data", "axes fraction"), textcoords="offset points",
                ha="center", fontsize="small", color="tab:gray",
            )  # fmt: skip


def _barrier_of(line: Values, c: Values, sloped: bool) -> float:
    """Return the barrier above the line between the ends, or their mean; NaN where an end is not finite."""
    first, last = line[0], line[-1]
    if not np.isfinite(line[[0, -1]]).all():
        return float("nan")
    base = first + (last - first) * c if sloped else (first + last) / 2
    return float(np.nanmax(line - base))


def _describe_spread(values: Values) -> str:
    """Return the mean and both extremes, in words."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{values.mean():.3g} ({values.min():.3g} … {values.max():.3g})"


def _basin_of(
    surface: Values, axes: tuple[Values, ...], level: float, unknown: NDArray[np.bool_]
) -> tuple[float, bool]:
    """Return a basin's width, and True if it ends within what is known."""
    from scipy.ndimage import binary_dilation

    fine, cells, coordinates = surface, np.ones(()), []
    for axis, c in enumerate(axes):
        places = np.linspace(0, len(c) - 1, FINER * (len(c) - 1) + 1)
        fine = between(fine, places, axis)
        ends = (np.floor(places).astype(int), np.ceil(places).astype(int))
        unknown = unknown.take(ends[0], axis=axis) | unknown.take(ends[1], axis=axis)
        coordinates.append(np.interp(places, np.arange(len(c)), c))
        cells = np.multiply.outer(cells, np.gradient(coordinates[-1]))
    low = np.where(np.isfinite(fine), fine, np.inf) <= level
    middle = tuple(int(np.argmin(np.abs(c))) for c in coordinates)
    region = _reached(low, middle)
    touches = any(region.take(end, axis=axis).any() for axis in range(region.ndim) for end in (0, -1))
    touches |= bool(unknown[middle] or (binary_dilation(region) & unknown).any())
    size = float(cells[region].sum())
    width = size / 2 if len(axes) == 1 else float(np.sqrt(size / np.pi))
    return width, not touches


def between(values: Values, places: Values, axis: int) -> Values:
    """Interpolate along an axis by cubics that rise and fall only as the values do (Fritsch & Butland 1984).

    A straight line would make narrow valleys narrower.

    Args:
        values: Losses on a grid of any number of axes.
        places: (m,) Places along the axis, in grid steps from its first point.
        axis: The axis.

    Returns:
        Losses at the places; NaN beside a point that is not finite.
    """
    from scipy.interpolate import PchipInterpolator

    rows = np.moveaxis(values, axis, 0)
    known = np.isfinite(rows)
    smooth = PchipInterpolator(np.arange(len(rows)), np.where(known, rows, 0.0))(places)
    around = known[np.floor(places).astype(int)] & known[np.ceil(places).astype(int)]
    return np.moveaxis(np.where(around, smooth, np.nan), 0, axis)


def _reached(allowed: NDArray[np.bool_], start: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the region of allowed points that is connected with a point along the axes."""
    from scipy.ndimage import label

    regions, _ = label(allowed)
    return np.asarray(allowed & (regions == regions[start]))


def _roughness_of(surface: Values) -> float:
    """Return the roughness, a mean over the lines along every axis."""
    excess = []
    for axis in range(surface.ndim):
        lines = np.moveaxis(surface, axis, -1).reshape(-1, surface.shape[axis])
        lines = lines[np.isfinite(lines).all(axis=1)]
        needed = lines[:, 0] + lines[:, -1] - 2 * lines.min(axis=1) if lines.size else np.zeros(0)
        moved = np.abs(np.diff(lines, axis=1)).sum(axis=1) if lines.size else np.zeros(0)
        beyond = [m / n - 1 for m, n in zip(moved, needed, strict=True) if n > 0]
        excess += [value if value > ROUNDING else 0.0 for value in beyond]
    return float(np.mean(excess)) if excess else float("nan")


def levels_for(surface: Values, top: float = np.inf) -> Values:
    """Return the levels of a contour, even in the logarithm where a loss rises by orders of magnitude.

    Args:
        surface: (P, Q) Losses.
        top: Highest level at most.
    """
    finite = np.minimum(surface[np.isfinite(surface)], top)
    if not finite.size or finite.min() == finite.max():
        middle = float(finite[0]) if finite.size else 0.0
        return np.array([middle - 0.5, middle + 0.5])
    low, high = float(finite.min()), float(finite.max())
    spaced = np.geomspace if is_uneven((low, high)) else np.linspace
    levels = spaced(low, high, LEVELS)
    levels[[0, -1]] = low, high  # roundings would leave both ends without a color
    return levels


def is_uneven(levels: Sequence[float] | Values) -> bool:
    """Check that a scale from the first to the last level is one of logarithms.

    Args:
        levels: Rising levels.
    """
    return bool(levels[0] > 0 and levels[-1] > WIDE * levels[0])


def filled(axes: Axes, grid: tuple[Values, ...], surface: Values, levels: Values) -> Any:
    """Draw filled contours, with holes where the loss is not finite, and return matplotlib's set of them.

    Args:
        axes: Axes to draw on.
        grid: (P,) and (Q,) Coordinates.
        surface: (P, Q) Losses.
        levels: Rising levels.
    """
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(levels[0], levels[-1]) if is_uneven(levels) else Normalize(levels[0], levels[-1])
    shown = np.ma.masked_invalid(surface.T)
    beyond = "max" if shown.max() > levels[-1] else "neither"
    return axes.contourf(grid[0], grid[1], shown, levels=levels, norm=norm, extend=beyond)
