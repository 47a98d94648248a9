"""Loss over steps as rules look at it: its blocks, and the loss of guessing to hold it against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradscape.measure.diagnose.loss.adversaries import is_adversarial
from gradscape.measure.diagnose.loss.guessing import error_of_guessing, guessing_at, loss_of_guessing
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, REGRESSION, TermSeries, series_of
from gradscape.records.encoding import Values
from gradscape.records.loss import LossHistory

LATE, LATE_LABELS = 3, 100  # readings and targets of the second half, from which they are held against losses
KNOWN = (*CATEGORICAL, *BINARY, *REGRESSION)
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
        """Loss function that is all of the loss at every reading; None if there are several, or others.

        None also of networks that train against each other: what it is measures neither.
        """
        series = series_of(self.history)
        if len(series) != 1 or not series[0].alone or any(each.outside for each in series[0].readings):
            return None
        if is_adversarial(self.history):
            return None
        return series[0]

    @cached_property
    def guessing(self) -> float | None:
        """Loss of the best output that is the same for every sample; None where it cannot be told."""
        return None if self.only is None else loss_of_guessing(self.only)

    @cached_property
    def highest_guess(self) -> float:
        """Loss of guessing and twice its standard error; NaN where it cannot be told."""
        if self.only is None or self.guessing is None:
            return math.nan
        return self.guessing + 2 * error_of_guessing(self.only)

    @cached_property
    def over_guessing(self) -> float:
        """Loss over guessing's: of the batches read in the second half if they are enough, else of all.

        The loss of guessing varies from batch to batch as the targets do, which a ratio for each takes out.
        NaN where guessing's is not known, or no loss is.
        """
        if self.only is None or self.guessing is None or not len(self.history.steps):
            return math.nan
        pairs = self._late_pairs(self.only)
        return pairs if math.isfinite(pairs) else self.last / self.highest_guess

    def _late_pairs(self, series: TermSeries) -> float:
        """Sum of losses over that of guessing's at late readings; NaN where these are few."""
        half = float(self.history.steps[len(self.history.steps) // 2])
        losses, guesses, labels = [], [], 0
        for term, reading, value in zip(series.terms, series.readings, series.values, strict=True):
            guess = guessing_at(term, series)
            if reading.step < half or guess is None or not math.isfinite(value):
                continue
            losses.append(value)
            guesses.append(guess)
            labels += math.prod(term.target.shape) if term.target is not None else 0
        enough = len(losses) >= LATE and labels >= LATE_LABELS and sum(guesses) > 0
        return sum(losses) / sum(guesses) if enough else math.nan

    @cached_property
    def at_guessing(self) -> bool:
        """True if late losses are no better than guessing's, after steps enough."""
        return len(self.finite) > self.limits.enough and self.over_guessing > self.limits.guessing

    @cached_property
    def learns(self) -> bool:
        """True if late losses are half of guessing's at most: the training works, whatever else is odd.

        Where guessing's is unknown, a tenth of the first losses.
        """
        if len(self.finite) < 2 * FIRST or self.breaks or self.last < 0:
            return False
        if math.isfinite(self.over_guessing):
            return len(self.finite) >= 4 * FIRST and self.over_guessing <= self.limits.learned
        return bool(self.history.steps[0] == 0 and self.last <= self.limits.tenth * self.finite[0])

    @cached_property
    def unlearned(self) -> bool:
        """True if late losses are above half of guessing's, or of the first ones where that is unknown.

        Never of losses of other kinds than of classes or real numbers, nor of several, nor of a generator,
        whose samples are all to be called real.
        """
        if self.only is None or len(self.finite) < 4 or self.only.name not in KNOWN:
            return False
        if self.only.name in BINARY and self.only.target is not None and self.only.target.variance == 0:
            return False
        if math.isfinite(self.over_guessing):
            return self.over_guessing > self.limits.learned
        return self.history.steps[0] == 0 and self.last > self.limits.learned * self.first > 0

    @cached_property
    def fall(self) -> float:
        """Fall of the last quarter's median below that before it, over guessing's or the first losses."""
        third, fourth = (float(np.median(each)) for each in self.quarters[2:])
        return (third - fourth) / abs(self.guessing or self.first)

    @cached_property
    def falls(self) -> bool:
        """True if the last quarter is below the one before it, beyond noise."""
        third, fourth = self.quarters[2:]
        fall = float(np.median(third) - np.median(fourth))
        error = math.hypot(_error_of_median(third), _error_of_median(fourth))
        return fall > max(CERTAIN * error, NOTABLE * abs(self.guessing or self.last))

    @property
    def recovers(self) -> bool:
        """True if late losses have come below guessing's, and fall on."""
        return len(self.finite) >= self.limits.begun and self.over_guessing < 1 and self.falls

    @cached_property
    def never_fell(self) -> bool:
        """True if the loss is where guessing is, and the last quarter is not below the first beyond noise."""
        near = self.limits.guessing < self.over_guessing < self.limits.about
        if len(self.finite) < self.limits.begun or not near:
            return False
        first, last = self.quarters[0], self.quarters[-1]
        error = math.hypot(_error_of_median(first), _error_of_median(last))
        return float(np.median(first) - np.median(last)) < CERTAIN * error

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
        """True if the loss ends far above where it began and above guessing, and does not fall from a peak.

        A loss of another scale, or of several parts, must have grown by orders of magnitude and grow still:
        those of generators and of values that are learned from themselves rise in trainings that work.
        """
        if len(self.finite) <= self.limits.constant:
            return False
        if self.guessing is not None:
            return not self.falls and self.last > self.limits.diverged * max(self.first, self.highest_guess)
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


def _error_of_median(values: Sequence[float] | Values) -> float:
    """Standard error of a median of independent values."""
    deviation = float(np.median(np.abs(np.asarray(values) - np.median(values))))
    return HALF * deviation / math.sqrt(len(values))
