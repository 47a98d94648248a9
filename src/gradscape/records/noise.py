"""Difference of the gradient from one mini-batch to the next, as plain arrays; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.norm_statistics import describe_statistics
from gradscape.stats.student_t import student_t

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-14  # share of ‖G‖² up to which a squared distance is rounding, of gradients in float32 too


@dataclass(frozen=True, eq=False, repr=False)
class NoiseRecord(Displayable, Record):
    """Gradients G_k of K mini-batches of B samples each, at the same parameters.

    G and Σ are the mean and the covariance of one sample's gradient; where BatchNorm couples a batch's
    samples, B times the covariance of a batch's.

    Attributes:
        batch_size: Number of samples of a mini-batch, B.
        bn: Statistics that BatchNorm took: each batch's own, `batch`, or the running ones, `running`; `none`
            without BatchNorm.
        products: (K, K) ⟨G_i, G_j⟩, in (loss / parameter)².
        layers: (P) Parameter names, in the order of registration.
        kinds: (P) `conv`, `linear`, `norm`, `bias` or `other`.
        sizes: (P) Number of elements of each tensor.
        gsnr: (P) Squared mean over variance of an element's G_k, mean over a tensor's elements (Liu et al.
            2020, §2.1); NaN if none has a variance. It is that of mini-batches; theirs, of single samples, is
            B times less, for the variance of a mean of B samples is B times less and the mean is the same. By
            chance it is too large: with normal noise (K − 1) / (K − 3) times the true one and `chance_gsnr`.
        constant: (P) Number of elements whose gradient is the same in all batches but for rounding, as in
            dead units; they are left out of `gsnr`.
        notes: Remarks on how it was measured, in words.
    """

    batch_size: int
    bn: str
    products: Values
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    gsnr: Values
    constant: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def gradient_square(self) -> float:
        """|G|² without bias, in (loss / parameter)²: ‖mean G_k‖² − tr Σ_B / K; if small, by chance below 0.

        It is the mean of ⟨G_i, G_j⟩ over pairs of batches (McCandlish et al. 2018, A.1).
        """
        return _over_pairs(self.products)[0]

    @property
    def noise_trace(self) -> float:
        """Tr Σ, (loss / parameter)² for a sample: B tr Σ_B, where tr Σ_B = Σ‖G_k − mean‖² / (K − 1).

        tr Σ_B is the mean of ½‖G_i − G_j‖² over pairs of batches.
        """
        return self.batch_size * _over_pairs(self.half_distances)[0]

    @property
    def batch_trace(self) -> float:
        """Tr Σ_B, (loss / parameter)² for a batch."""
        return self.noise_trace / self.batch_size

    @property
    def half_distances(self) -> Values:
        """(K, K) ½‖G_i − G_j‖²; 0 where it is rounding."""
        squares = np.diag(self.products)
        means = (squares[:, None] + squares) / 2
        found: Values = means - self.products
        return np.where(found > ROUNDING * means, found, 0)

    @property
    def noise_scale(self) -> float:
        """B_simple = tr Σ / |G|², in samples (McCandlish et al. 2018, eq. 2.9); inf for a |G|² ≤ 0."""
        square = self.gradient_square
        return self.noise_trace / square if square > 0 else math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the noise scale, in samples; (0, inf) of two batches.

        By a jackknife of 1 / B_simple, leaving out a batch at a time, and Student's t: unlike B_simple, its
        inverse is no quotient by what may be about 0. Conservative where noise drowns the mean, a little
        narrow where a sample's gradient has heavy tails.
        """
        count = len(self.products)
        square, squares = _over_pairs(self.products)
        trace, traces = _over_pairs(self.half_distances)
        if trace == 0:
            return 0.0, 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = squares / traces
            error = math.sqrt((count - 1) / count * np.sum((left_out - np.mean(left_out)) ** 2))
        if not math.isfinite(error):
            return 0.0, math.inf
        half = student_t(count - 1) * error
        least, most = square / trace - half, square / trace + half
        return _inverse(most) * self.batch_size, _inverse(least) * self.batch_size

    @property
    def step_gain(self) -> float:
        """Gain of a step over one without noise, 1 / (1 + B_simple / B); McCandlish et al. (2018, §2.2).

        It holds at the best learning rate for each, and for curvature that is the same in all directions.
        """
        return self.batch_size / (self.batch_size + self.noise_scale)

    @property
    def mean_gsnr(self) -> float:
        """Mean of `gsnr` over all elements that have a variance; NaN if none has."""
        varied = np.subtract(self.sizes, self.constant)
        some = varied > 0
        return float(np.average(self.gsnr[some], weights=varied[some])) if some.any() else math.nan

    @property
    def chance_gsnr(self) -> float:
        """Mean of `gsnr` without any signal: (K − 1) / (K (K − 3)) for normal noise; inf for K ≤ 3."""
        count = len(self.products)
        return (count - 1) / (count * (count - 3)) if count > 3 else math.inf

    @property
    def confusion(self) -> float:
        """η ≥ 0, the least for which ⟨G_i, G_j⟩ ≥ −η for all i ≠ j, (loss / parameter)².

        Sankararaman et al. (2020, Definition 1.1), of mini-batches: 0 where no two gradients are opposed.
        """
        return max(0.0, -float(self.products[_others(self.products)].min()))

    @property
    def cosines(self) -> Values:
        """(K, K) cosines between gradients; NaN where one is 0."""
        lengths = np.sqrt(np.diag(self.products))
        below = np.outer(lengths, lengths)
        found: Values = np.divide(self.products, below, out=np.full_like(below, math.nan), where=below > 0)
        return found

    @property
    def mean_cosine(self) -> float:
        """Mean cosine between the gradients of two batches; NaN if there are no two."""
        cosines = self._known_cosines
        return float(cosines.mean()) if len(cosines) else math.nan

    @property
    def least_cosine(self) -> float:
        """Least cosine between the gradients of two batches; NaN if there are no two."""
        cosines = self._known_cosines
        return float(cosines.min()) if len(cosines) else math.nan

    @property
    def _known_cosines(self) -> Values:
        pairs: Values = self.cosines[_others(self.products)]
        return pairs[~np.isnan(pairs)]

    @property
    def meaning(self) -> str:
        """Sentence on the batch size, from the noise scale."""
        batches, these = (
            count_noun(len(self.products), "batch", "batches"),
            count_noun(self.batch_size, "sample"),
        )
        low, high = self.interval
        if self.noise_trace == 0:
            return "all batches have the same gradient: are they the same batch?"
        if math.isinf(self.noise_scale):
            return f"the noise drowns the mean gradient of {batches}: give more of them, or larger ones"
        if self.batch_size < low:
            share = f"a step gains {100 * self.step_gain:.2g} % of what one without noise would"
            return f"batches of {these} are below the noise scale: larger ones still pay ({share})"
        if self.batch_size > high:
            return f"batches of {these} are above the noise scale: larger ones gain little"
        if math.isinf(high):
            return f"{batches} cannot tell whether {these} are below or above the noise scale: give more"
        return f"batches of {these} are near the noise scale, as far as {batches} tell"

    def derived(self) -> Mapping[str, Any]:
        """Return noise scale, its interval and other numbers that follow from the products."""
        return {name: getattr(self, name) for name in DERIVED}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the GSNR of every parameter tensor on a log axis, and that of chance alone; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        place = np.arange(1, len(self.layers) + 1)
        for kind in dict.fromkeys(self.kinds):
            here = np.array([each == kind for each in self.kinds]) & (self.gsnr > 0)
            axes.semilogy(place[here], self.gsnr[here], marker="o", markersize=3, label=kind)
        if math.isfinite(self.chance_gsnr):
            axes.axhline(self.chance_gsnr, color="tab:gray", linestyle="--", label="by chance")
        axes.set(
            xlabel="parameter tensor (input → output)",
            ylabel=f"GSNR of batches of {count_noun(self.batch_size, 'sample')}",
        )
        axes.legend()
        return axes

    def __str__(self) -> str:
        count, low, high = len(self.products), *self.interval
        lines = [
            f"gradient noise of {count_noun(sum(self.sizes), 'parameter')} over {count} batches of "
            f"{count_noun(self.batch_size, 'sample')}{describe_statistics(self.bn)}",
            f"noise scale {_format_number(self.noise_scale)} samples, "
            f"95 % interval {_format_number(low)} … {_format_number(high)}; "
            f"tr Σ {self.noise_trace:.3g} per sample, |G|² {self.gradient_square:.3g}",
            self.meaning,
            self._gsnr_line,
            f"cosine of two batches' gradients: mean {self.mean_cosine:.3g}, least {self.least_cosine:.3g}; "
            f"confusion bound η {self.confusion:.3g}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def _gsnr_line(self) -> str:
        """Line on the GSNR: the mean, which a few elements can make, the median, and both ends."""
        still = count_noun(sum(self.constant), "constant element")
        if math.isnan(self.mean_gsnr):
            return f"GSNR: no parameter's gradient varies ({still})"
        low, high = int(np.nanargmin(self.gsnr)), int(np.nanargmax(self.gsnr))
        chance = f" ({self.chance_gsnr:.3g} by chance)" if math.isfinite(self.chance_gsnr) else ""
        return (
            f"GSNR of a batch: mean {self.mean_gsnr:.3g}, median of tensors {np.nanmedian(self.gsnr):.3g}"
            f"{chance}, from {self.gsnr[low]:.3g} of {self.layers[low]} to {self.gsnr[high]:.3g} of "
            f"{self.layers[high]}" + (f"; {still} left out" if sum(self.constant) else "")
        )


@dataclass(frozen=True, repr=False)
class RunNoise(Displayable, Record):
    """Gradient noise at a run's trained weights, on its training mini-batches, not augmented.

    Attributes:
        record: Noise of mini-batches of the run's size B.
        traces: (batch size, tr Σ of such batches) at the same weights and on the same images, of batches of
            B, B/2 and B/4 images as far as these are whole numbers.
    """

    record: NoiseRecord
    traces: tuple[tuple[int, float], ...]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the signal-to-noise ratio of every parameter tensor; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        return self.record.plot(ax)

    def __str__(self) -> str:
        traces = ", ".join(f"{trace:.3g} of {size}" for size, trace in self.traces)
        return f"{self.record}\ntr Σ_B of batches: {traces} images"


DERIVED = (
    "gradient_square", "noise_trace", "noise_scale", "step_gain", "mean_gsnr", "chance_gsnr", "confusion",
    "mean_cosine", "least_cosine", "meaning", "interval",
)  # fmt: skip


def _over_pairs(values: Values) -> tuple[float, Values]:
    """Return the mean over i ≠ j of a symmetric (K, K), and (K,) that without each batch, NaN for two."""
    count = len(values)
    pairs = values * _others(values)
    total, own = float(pairs.sum()), pairs.sum(axis=0)
    if count < 3:
        return total / (count * (count - 1)), np.full(count, math.nan)
    return total / (count * (count - 1)), (total - 2 * own) / ((count - 1) * (count - 2))


def _others(values: Values) -> Any:
    """Return (K, K) True where i ≠ j."""
    return ~np.eye(len(values), dtype=bool)


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf


def _format_number(number: float) -> str:
    return "∞" if math.isinf(number) else f"{number:.3g}"
