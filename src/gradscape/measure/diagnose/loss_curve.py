"""Loss over steps as rules look at it: its blocks, and the loss of guessing to hold it against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradscape.measure.diagnose.loss_limits import LossLimits
from gradscape.measure.diagnose.loss_terms import BINARY, CATEGORICAL, Sample, TermSeries, series_of
from gradscape.records.encoding import Values
from gradscape.records.loss import LossHistory

PER_CLASS = 20  # labels a class, from which their frequencies are known
FIRST = 5  # values that a training begins with
CERTAIN = 3.0  # standard errors
NOTABLE = 0.005  # of the loss of guessing: a fall of less is none
HALF = 1.2533 * 1.4826  # standard error of a median: √(π/2) σ/√n, and σ from the median deviation


@dataclass(frozen=True, eq=False)
class Curve:
    """Loss of a training over its steps.

    Attributes:
        history: Loss and what it was made of.
        limits: Limits of the rules.
    """

    history: LossHistory
    limits: LossLimits

    @cached_property
    def finite(self) -> Values:
        """Values that are numbers, in their order."""
        return self.history.values[np.isfinite(self.history.values)]

    @cached_property
    def breaks(self) -> bool:
        """True if the loss stops being a number: at the end, or at more than a twentieth of the steps."""
        values = self.history.values
        if not len(values):
            return False
        broken = ~np.isfinite(values)
        return bool(broken[-1] or broken.mean() > self.limits.broken)

    @property
    def first(self) -> float:
        """Median of the first values; NaN where there is none."""
        return float(np.median(self.finite[:FIRST])) if len(self.finite) else math.nan

    @cached_property
    def quarters(self) -> tuple[Values, ...]:
        """Values of each quarter of the steps."""
        return tuple(np.array_split(self.finite, 4))

    @cached_property
    def last(self) -> float:
        """Median of the last quarter; NaN where there are fewer than four values."""
        return float(np.median(self.quarters[-1])) if len(self.finite) >= 4 else math.nan

    @cached_property
    def only(self) -> TermSeries | None:
        """Loss function that is all of the loss at every reading; None if there are several, or others."""
        series = series_of(self.history)
        if len(series) != 1 or not series[0].alone or any(each.outside for each in series[0].readings):
            return None
        return series[0]

    @cached_property
    def guessing(self) -> float | None:
        """Loss of the best output that is the same for every sample; None where it cannot be told."""
        return None if self.only is None else loss_of_guessing(self.only)

    @cached_property
    def at_guessing(self) -> bool:
        """True if the last quarter is no better than guessing, after steps enough."""
        if self.guessing is None or len(self.finite) <= self.limits.enough:
            return False
        return self.last > self.limits.guessing * self.guessing

    @cached_property
    def falls(self) -> bool:
        """True if the last quarter is below the one before it, beyond noise."""
        third, fourth = self.quarters[2:]
        fall = float(np.median(third) - np.median(fourth))
        error = math.hypot(_error_of_median(third), _error_of_median(fourth))
        return fall > max(CERTAIN * error, NOTABLE * abs(self.guessing or self.last))

    @cached_property
    def constant(self) -> bool:
        """True if the loss is one number, other than 0, at all steps from the first on."""
        values = self.finite
        if len(values) <= self.limits.constant or len(values) < len(self.history.values):
            return False
        size = float(np.abs(values).max())
        return bool(self.history.steps[0] == 0 and size > 0 and np.ptp(values) <= 1e-6 * size)

    @cached_property
    def stuck(self) -> bool:
        """True if the loss is where guessing is and falls no more, or is one number."""
        return self.constant or (self.at_guessing and not self.falls)

    @cached_property
    def diverges(self) -> bool:
        """True if the loss ends far above where it began and above guessing.

        A loss of another scale, or of several parts, must have grown by orders of magnitude and grow still:
        those of generators and of values that are learned from themselves rise in trainings that work.
        """
        if len(self.finite) <= self.limits.constant:
            return False
        if self.guessing is not None:
            return self.last > self.limits.diverged * max(self.first, self.guessing)
        return abs(self.last) > self.limits.grown * self.reference and self._grows

    @property
    def reference(self) -> float:
        """Largest size of a value in the first quarter."""
        return float(np.abs(self.quarters[0]).max(initial=math.ulp(0.0)))

    @property
    def _grows(self) -> bool:
        return abs(self.last) > abs(float(np.median(self.quarters[2])))

    @property
    def harmed(self) -> bool:
        """True if the training has come to nothing: not finite, diverged, or no better than guessing."""
        return self.breaks or self.diverges or self.constant or self.at_guessing


def loss_of_guessing(series: TermSeries) -> float | None:
    """Return the least loss of an output that is the same for every sample; None where it cannot be told.

    For classes that is the entropy of their frequencies (log C where too few labels were read), for real
    numbers their variance, or mean distance to their median.

    Args:
        series: Readings of one loss function.
    """
    if series.first.reduction != "mean" or any(term.weighted for term in series.terms):
        return None
    target = series.target
    if series.name in CATEGORICAL:
        return _entropy_of(series)
    if target is None or not target.variance > 0 or target.nonfinite:
        return None
    if series.name in BINARY:
        return _binary_entropy(target.mean) if 0 < target.mean < 1 else None
    if series.name not in ("mse_loss", "l1_loss") or not _is_steady(series):
        return None
    if series.name == "mse_loss":
        return target.variance
    return float(np.abs(target.values - np.median(target.values)).mean())


def _entropy_of(series: TermSeries) -> float | None:
    """Entropy of the labels' frequencies, corrected for their number (Miller 1955); log C of too few."""
    classes, counts = series.first.classes, series.target_counts
    if classes < 2:
        return None
    seen = counts[counts > 0]
    ignored = any(term.ignored for term in series.terms)  # what is counted is not what the loss is of
    if not len(seen) or ignored or seen.sum() < PER_CLASS * classes:
        return math.log(classes)
    if len(seen) == 1:
        return None
    shares = seen / seen.sum()
    entropy = float(-(shares * np.log(shares)).sum()) + (len(seen) - 1) / (2 * int(seen.sum()))
    return min(entropy, math.log(classes))


def _binary_entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def _is_steady(series: TermSeries) -> bool:
    """Return True if the readings' targets are of one distribution, as those of another network are not."""
    seen = [term.target for term in series.terms if term.target is not None]
    whole = Sample.of(seen)
    spreads, means = [each.std for each in seen], [each.mean for each in seen]
    return max(spreads) <= 2 * min(spreads) and np.ptp(means) <= math.sqrt(whole.variance)


def _error_of_median(values: Sequence[float] | Values) -> float:
    """Standard error of a median of independent values."""
    deviation = float(np.median(np.abs(np.asarray(values) - np.median(values))))
    return HALF * deviation / math.sqrt(len(values))
