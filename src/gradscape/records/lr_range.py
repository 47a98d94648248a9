"""Learning-rate range test: losses while the rate rises, and what they say; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Standard errors by which the smoothed loss must fall: a test counts how seldom mere noise does.
ERRORS = 4
SMALLEST = 1e-3  # of the level: a smaller fall is none, even if there is no noise
# A suggestion is at most this share of the rate that diverges. fastai's `minimum` takes this share of the
# lowest loss's rate, which is lower still; a training is past its edge before the loss shows it.
MARGIN = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class LrRange(Displayable, Record):
    """Losses of copies that are trained while the learning rate rises geometrically (Smith 2017, §3.3).

    Arrays (S, K) have a row for each seed and a column for each rate, NaN from where a curve was stopped.

    Attributes:
        optimizer: Name of the optimizer, with its momentum and weight decay.
        rates: (K,) Learning rates, of the optimizer's first group.
        untrained: (S, M) Losses of M batches, one after another, before the first step.
        losses: (S, K) Loss of the step's batch, before the step at that rate.
        smoothed: (S, K) Mean of the losses so far, with the untrained ones, weighted by β^age; the horizon
            1 / (1 − β) is a tenth of the steps.
        divergence: (S,) Rate at which a curve was stopped, since its smoothed loss was over four times the
            lowest, or a loss was not finite; NaN where it was not.
        batches: Number of batches.
        samples: Number of samples in all batches.
        notes: Remarks on how it was measured.
    """

    optimizer: str
    rates: Values
    untrained: Values
    losses: Values
    smoothed: Values
    divergence: Values
    batches: int
    samples: int
    notes: tuple[str, ...]

    @property
    def level(self) -> Values:
        """(S,) mean of the untrained losses."""
        found: Values = self.untrained.mean(axis=1)
        return found

    @property
    def noise(self) -> float:
        """Standard deviation of an untrained loss, of batches and of what a model draws, over all seeds."""
        return float(np.sqrt(self.untrained.var(axis=1, ddof=1).mean()))

    @property
    def falls(self) -> NDArray[np.bool_]:
        """(S,) True where the smoothed loss falls below the level by more than chance, and a thousandth."""
        beta = decay(len(self.rates))
        error = self.noise * math.sqrt(1 / self.untrained.shape[1] + (1 - beta) / (1 + beta))
        found: NDArray[np.bool_] = self.level - self._bottoms > np.maximum(
            ERRORS * error, SMALLEST * np.abs(self.level)
        )
        return found

    @property
    def flat(self) -> bool:
        """True if no rate lowers the loss, for any seed."""
        return not bool(self.falls.any())

    @property
    def steepest(self) -> Values:
        """(S,) rate at which the loss falls fastest per factor of the rate; NaN where it does not fall.

        By the slope of a line through the losses of a tenth of the steps, the rate in their middle, which
        unlike the smoothed loss lags behind nothing. Only where their mean is the lowest so far: a fall after
        a rise is recovery.
        """
        found = np.array([_steepest(self.rates, row) for row in self.losses])
        return np.where(self.falls, found, math.nan)

    @property
    def lowest(self) -> Values:
        """(S,) rate of the lowest smoothed loss; NaN where the loss does not fall."""
        return np.where(self.falls, self.rates[self._finite.argmin(axis=1)], math.nan)

    @property
    def _finite(self) -> Values:
        """(S, K) smoothed losses, infinite where there is none."""
        return np.where(np.isfinite(self.smoothed), self.smoothed, math.inf)

    @property
    def _bottoms(self) -> Values:
        """(S,) lowest smoothed losses."""
        found: Values = self._finite.min(axis=1)
        return found

    @property
    def diverges(self) -> float:
        """Lowest rate at which a seed diverges; NaN if none does."""
        return _least(self.divergence)

    @property
    def suggestions(self) -> Values:
        """(S,) rate to train with: the steepest, at most a tenth of `diverges`; NaN where there is none."""
        cap = math.inf if math.isnan(self.diverges) else MARGIN * self.diverges
        found = np.minimum(self.steepest, cap)
        return np.where(found >= self.rates[0], found, math.nan)

    @property
    def suggestion(self) -> float:
        """Rate to train with: geometric mean of `suggestions`; NaN where there is none."""
        return float(np.clip(_middle(self.suggestions), *self.spread))

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest of `suggestions`; NaN where there is none."""
        return _least(self.suggestions), _most(self.suggestions)

    def derived(self) -> Mapping[str, Any]:
        """Return what follows from the curves: suggestion, and per seed steepest, lowest and others."""
        return {name: getattr(self, name) for name in DERIVED}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the rate, a line with a band of the noise for each seed; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        noise, top, named = self.noise, self._top, set[str]()
        for seed, (losses, smoothed) in enumerate(zip(self.losses, self._finite, strict=True)):
            color, ends = f"C{seed % 10}", (smoothed - noise, smoothed + noise)
            axes.plot(self.rates, losses, color=color, linewidth=0.7, alpha=0.4)
            axes.plot(self.rates, smoothed, color=color)
            axes.fill_between(self.rates, *ends, color=color, alpha=0.15, linewidth=0)
            for label, (marker, place, height) in self._marks(seed, top).items():
                if not math.isnan(place):
                    axes.plot(
                        place, height, color=color, marker=marker, linestyle="none", clip_on=False,
                        label=None if label in named else label, zorder=3,
                    )  # fmt: skip
                    named.add(label)
        if not math.isnan(self.suggestion):
            axes.axvspan(*self.spread, color="tab:gray", alpha=0.2, linewidth=0)
            label = f"take {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color="tab:gray", linestyle="--", label=label)
        axes.set(xscale="log", xlim=self.rates[[0, -1]], ylim=(self._bottom(top), top))
        axes.set(xlabel=f"learning rate of {self.optimizer}", ylabel="loss (thin), smoothed, noise (band)")
        if named:
            axes.legend()
        return axes

    def _marks(self, seed: int, top: float) -> dict[str, tuple[str, float, float]]:
        """Return marker, rate and height of what is marked on a seed's curve, per label."""
        steepest = float(self.steepest[seed])
        beside = float(np.interp(steepest, self.rates, self._finite[seed]))
        return {
            "steepest": ("o", steepest, beside),
            "lowest": ("v", float(self.lowest[seed]), float(self._bottoms[seed])),
            "diverges": ("x", float(self.divergence[seed]), top),
        }

    @property
    def _top(self) -> float:
        """Height above which a plot is cut: a loss that diverges would leave the rest no room."""
        level = float(self.level.max())
        depth = level - float(self._bottoms.min())
        return level + (max(0.4 * depth, 2 * self.noise, 0.05 * abs(level)) or 1.0)

    def _bottom(self, top: float) -> float:
        """Return the height at which a plot begins: below what is drawn, by a share of what is seen."""
        drawn = np.concatenate([self.losses.ravel(), self._bottoms - self.noise, self.level])
        lowest = float(drawn[np.isfinite(drawn)].min())
        return lowest - 0.05 * (top - lowest)

    def __str__(self) -> str:
        seeds, batches = count_noun(len(self.losses), "seed"), count_noun(self.batches, "batch", "batches")
        at = "" if self.flat else f" at {self._over_seeds(self.lowest)}"
        lines = [
            self.heading,
            f"loss {self.level.mean():.4g} untrained (noise {self.noise:.2g}), lowest smoothed "
            f"{self._bottoms.mean():.4g}{at}",
            f"{self.optimizer}, {len(self.rates)} rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g}, "
            f"n = {seeds}, {count_noun(self.samples, 'sample')} in {batches}",
        ]
        advice = [self.advice] if self.advice else []
        return "\n".join([*lines, *advice, *(f"note: {note}" for note in self.notes)])

    @property
    def heading(self) -> str:
        """Line with the steepest rate, the one that diverges, and the suggestion."""
        if math.isnan(self.diverges):
            diverges = f"does not diverge up to {self.rates[-1]:.3g}"
        else:
            diverges = f"diverges from {self._over_seeds(self.divergence, self.diverges)}"
        if self.flat:
            return f"no rate lowers the loss; {diverges}"
        take = "" if math.isnan(self.suggestion) else f"; take {self.suggestion:.2g}"
        return f"steepest {self._over_seeds(self.steepest)}; {diverges}{take}"

    @property
    def sentence(self) -> str:
        """Rates at which the loss falls fastest and training diverges, as part of a sentence."""
        low, high = self.rates[[0, -1]]
        seeds = count_noun(len(self.losses), "seed")
        ends = f"does not diverge up to {high:.2g}"
        if not math.isnan(self.diverges):
            ends = f"diverges above {self.diverges:.2g}"
        if self.flat:
            return f"no rate from {low:.2g} to {high:.2g} lowers the loss, which {ends} ({seeds})"
        return f"loss falls fastest near {_middle(self.steepest):.2g}, {ends} ({seeds})"

    @property
    def advice(self) -> str:
        """Line on what to do where there is no suggestion, or the range does not hold it; empty otherwise."""
        (low, high), half = self.rates[[0, -1]], half_window(len(self.rates))
        higher = f"rates=({low:.3g}, {1000 * high:.3g})"
        if self.flat and math.isnan(self.diverges):
            return (
                f"nor does any diverge: give higher ones, {higher}; gradscape.check says what else it may be"
            )
        if self.flat and self.diverges > self.rates[2 * half]:
            more = f"more steps may, steps={3 * len(self.rates)}"
            return (
                f"{more}; if not, it is not for the rate: gradscape.check says why a network does not train"
            )
        if math.isnan(self.suggestion) or _least(self.steepest) <= self.rates[half]:
            return f"the range begins too high: give rates=({low / 1000:.3g}, {high:.3g})"
        if math.isnan(self.diverges) and _most(self.steepest) >= self.rates[-1 - half]:
            return f"the range ends too low: give {higher}"
        return ""

    def _over_seeds(self, values: Values, first: float | None = None) -> str:
        """Return a rate, by default the geometric mean, and its range over the seeds that have it."""
        count, seeds = int((~np.isnan(values)).sum()), len(values)
        middle = _middle(values) if first is None else first
        if seeds == 1 or not count:
            return f"{middle:.2g}"
        many = count_noun(seeds, "seed") if count == seeds else f"{count} of {seeds} seeds"
        low, high = f"{_least(values):.2g}", f"{_most(values):.2g}"
        return f"{middle:.2g} ({many})" if low == high else f"{middle:.2g} ({low} to {high} over {many})"


DERIVED = (
    "suggestion", "spread", "diverges", "flat", "suggestions", "steepest", "lowest", "falls", "level",
    "noise",
)  # fmt: skip


def half_window(count: int) -> int:
    """Return the number of steps to each side over which a slope is taken: together a tenth of all.

    Args:
        count: Number of rates.
    """
    return max(1, count // 20)


def decay(count: int) -> float:
    """Return β of the smoothed loss, whose horizon 1 / (1 − β) is a tenth of the steps.

    Args:
        count: Number of rates.
    """
    return 1 - 1 / max(1.0, count / 10)


def _steepest(rates: Values, row: Values) -> float:
    """Return the rate about which a line through the losses falls fastest; NaN if none falls."""
    half, bad = half_window(len(rates)), np.flatnonzero(~np.isfinite(row))
    losses = row[: bad[0]] if len(bad) else row
    if len(losses) <= 2 * half:
        return math.nan
    sums = np.correlate(losses, np.ones(2 * half + 1), "valid")
    slopes = np.correlate(losses, np.arange(-half, half + 1.0), "valid")  # times a constant
    slopes = np.where(sums == np.minimum.accumulate(sums), slopes, 0)
    place = int(slopes.argmin())
    return float(rates[place + half]) if slopes[place] < 0 else math.nan


def _least(values: Values) -> float:
    """Return the least value that is a number; NaN if none is."""
    found = values[~np.isnan(values)]
    return float(found.min()) if len(found) else math.nan


def _most(values: Values) -> float:
    """Return the greatest value that is a number; NaN if none is."""
    return -_least(-values)


def _middle(values: Values) -> float:
    """Return the geometric mean of the values that are numbers; NaN if none is."""
    found = values[~np.isnan(values)]
    return float(np.exp(np.log(found).mean())) if len(found) else math.nan
