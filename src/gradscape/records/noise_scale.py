"""Gradient noise scale of a training, from gradients of parts of its batches; plain arrays, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.encoding import Values
from gradscape.stats.student_t import student_t

BLOCKS = 20  # groups of successive steps, one of which the jackknife leaves out at a time
DERIVED = ("gradient_square", "noise_trace", "noise_scale", "interval", "step_size", "meaning")


@dataclass(frozen=True, eq=False, repr=False)
class NoiseScaleRecord(Record):
    """Squared norms of gradients of a step's whole batch, and of the equal parts that it was made of.

    G and Σ are the mean and the covariance of one sample's gradient. A part is a micro-batch of one rank.
    Parameters move from step to step, and the numbers are means over the steps.

    Attributes:
        steps: (T,) Optimizer's step of each row, from 0.
        parts: (T,) Number of parts of the batch, n: passes that were accumulated times ranks.
        small: (T,) ‖g‖² of a part's gradient, mean over this rank's parts, in (loss / parameter)².
        big: (T,) ‖g‖² of the whole batch's gradient, before any clipping.
        batch_size: Number of samples of a part, B.
        ranks: Number of ranks whose gradients were averaged.
        notes: Remarks on how it was measured, in words.
    """

    steps: NDArray[np.int64]
    parts: NDArray[np.int64]
    small: Values
    big: Values
    batch_size: int
    ranks: int
    notes: tuple[str, ...] = ()

    @property
    def gradient_square(self) -> float:
        """|G|² without bias, in (loss / parameter)², by chance below 0; NaN without a step.

        The mean over steps of (n ‖g_big‖² − ‖g_small‖²) / (n − 1), McCandlish et al. (2018), A.1.
        """
        return _mean(self._squares)

    @property
    def noise_trace(self) -> float:
        """Tr Σ of one sample, in (loss / parameter)²; NaN without a step.

        B times the mean over steps of (‖g_small‖² − ‖g_big‖²) / (1 − 1 / n), McCandlish et al. (2018), A.1.
        """
        return self.batch_size * _mean(self._traces)

    @property
    def noise_scale(self) -> float:
        """B_simple = tr Σ / |G|², in samples (McCandlish et al. 2018, eq. 2.9); inf for a |G|² ≤ 0."""
        square = self.gradient_square
        return self.noise_trace / square if square > 0 else math.nan if math.isnan(square) else math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the noise scale, in samples; (0, inf) of fewer than three steps.

        By a jackknife of 1 / B_simple over groups of successive steps, twenty at most, and Student's t.
        """
        groups = [each for each in np.array_split(np.arange(len(self.steps)), BLOCKS) if len(each)]
        if len(groups) < 3:
            return 0.0, math.inf
        squares, traces = self._squares, self._traces
        kept = [np.delete(np.arange(len(self.steps)), each) for each in groups]
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = np.array([squares[each].mean() / traces[each].mean() for each in kept])
            inverse = squares.mean() / traces.mean()
        error = math.sqrt((len(groups) - 1) / len(groups) * float(np.sum((left_out - left_out.mean()) ** 2)))
        if not math.isfinite(error):
            return 0.0, math.inf
        half = student_t(len(groups) - 1) * error
        return self.batch_size * _inverse(inverse + half), self.batch_size * _inverse(inverse - half)

    @property
    def step_size(self) -> float:
        """Number of samples of a step, mean over the steps; NaN without a step."""
        return self.batch_size * _mean(self.parts.astype(np.float64))

    @property
    def meaning(self) -> str:
        """Sentence on the batch size, from the noise scale."""
        if not len(self.steps):
            return "no step had parts to compare: accumulate gradients, or train on several ranks under DDP"
        low, high = self.interval
        these = f"steps of {self.step_size:.4g} samples"
        if self.step_size < low:
            return f"{these} are below the noise scale: larger ones still pay"
        if self.step_size > high:
            return f"{these} are above the noise scale: larger ones gain little"
        return f"{these} are near the noise scale, as far as {count_noun(len(self.steps), 'step')} tell"

    @property
    def _squares(self) -> Values:
        found: Values = (self.parts * self.big - self.small) / (self.parts - 1)
        return found

    @property
    def _traces(self) -> Values:
        found: Values = (self.small - self.big) / (1 - 1 / self.parts)
        return found

    def derived(self) -> Mapping[str, Any]:
        """Return noise scale, its interval and other numbers that follow from the norms."""
        return {name: getattr(self, name) for name in DERIVED}

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"gradient noise over {count_noun(len(self.steps), 'step')}, parts of "
            f"{count_noun(self.batch_size, 'sample')} on {count_noun(self.ranks, 'rank')}",
            f"noise scale {self.noise_scale:.3g} samples, 95 % interval {low:.3g} … {high:.3g}; "
            f"tr Σ {self.noise_trace:.3g} per sample, |G|² {self.gradient_square:.3g}",
            self.meaning,
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else math.nan


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf
