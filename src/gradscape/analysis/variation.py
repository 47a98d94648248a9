"""Variation to expect between two trainings that differ by their seeds alone, and the limit beyond it.

All numbers are base-10 logarithms. Of each training the running median over `kept` rows is taken: what a
spike of fewer than half of them does is none of it. Between trainings it is the difference D of the groups'
means of these medians that is judged, cell by cell of a table of windows × layers.

Where several seeds are known, the standard error of D is the two-sample one of Student's t, its variance
pooled over the windows, or over those nearby where that is more. Windows near each other are not independent:
the degrees of freedom are those of the seeds times the number of windows that the autocorrelation leaves,
n / (1 + 2 Σ ρ²) (Bayley & Hammersley 1946, for a variance). Two or three seeds may be alike by chance in
what their weights do for good, of which many windows say no more than one: `OWN`, weighed as one more seed,
is added.

Where there is one seed on both sides, the variance of a running median is half that of its change from one
window to the next that shares no row with it, its scale the MAD, which outliers do not move (as the variance
from successive differences, von Neumann et al. 1941). Trends that both share are removed first. It is no
less than that of half of the table's layers, each of which counts as a degree of freedom, up to ten: few rows
of one layer alone tell a variance badly (as Smyth 2004, with a prior that is set). What a seed's draw of the
weights does for good is not seen in it: `OWN` is added.

The limit is Bonferroni's over all cells of all tables: it holds however these depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradscape.records.encoding import Values

MAD = 1.4826  # standard deviation of normal values whose median absolute deviation is 1
NORMAL_MEDIAN = 0.37  # efficiency of the MAD: degrees of freedom of each value (Rousseeuw & Croux 1993)
NEARBY = 10  # of the windows, one part of so many lies to each side of a window
FEWEST = 10  # windows to each side, where there are as many
ROUNDING = 2.0**-20  # smallest standard error, in log10: what float32 does to a mean
CELLS = 2_000_000  # numbers sorted at once
TREND = 21  # rows of the running median that is the shared trend
MODERATED = 10  # most degrees of freedom by other layers
# Standard deviation in log10 of what a seed's own weights do to a quantity for good, beside what the norm of
# so few numbers varies by itself: of most layers of the networks looked at by benchmarks/compare.py.
OWN = {
    "loss": 0.04, "valid_loss": 0.04, "mean_abs": 0.05, "relative_update": 0.055, "weight": 0.02,
    "second_moment": 0.17,
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Differences of a table, and what to hold them against.

    Attributes:
        difference: (W, L) Difference of the running medians, b − a, in log10; ±infinity where only one of
            them is zero, missing or not finite, NaN where neither or where a side's seeds disagree on that.
        error: (W, L) Standard error to expect of it.
        freedom: (L,) Degrees of freedom of the error.
    """

    difference: Values
    error: Values
    freedom: Values

    @property
    def tests(self) -> int:
        """Number of cells that are judged."""
        return int(np.isfinite(self.difference).sum())


def running_median(values: Values, kept: int) -> Values:
    """Return (T − kept + 1, L) medians over so many rows, the lower of two; of NaN alone −infinity.

    Args:
        values: (T, L) Logarithms; −infinity for 0, infinity for what is not finite, NaN for what is missing.
        kept: Number of rows, at most T.
    """
    windows = np.lib.stride_tricks.sliding_window_view(values, kept, axis=0)
    found = np.empty(windows.shape[:2])
    wide = max(1, CELLS // max(1, windows.shape[0] * kept))
    for first in range(0, values.shape[1], wide):
        part = np.sort(windows[:, first : first + wide], axis=2)  # NaN last
        known = kept - np.isnan(part).sum(axis=2, keepdims=True)
        middle = np.take_along_axis(part, np.maximum(known - 1, 0) // 2, axis=2)
        found[:, first : first + wide] = np.where(known, middle, -np.inf)[..., 0]
    return found


def judge(a: Sequence[Values], b: Sequence[Values], kept: int, own: Values) -> Judged:
    """Return the differences of a table, and the errors to expect.

    Args:
        a, b: (T, L) Logarithms of each history of the two sides, one at least.
        kept: Number of rows of a window.
        own: (L,) Standard deviation of what a seed does for good.
    """
    medians = [np.stack([running_median(each, kept) for each in side]) for side in (a, b)]
    levels = [_level(side) for side in medians]
    with np.errstate(invalid="ignore"):
        difference = levels[1] - levels[0]
    if len(a) + len(b) > 2:
        error, freedom = _over_seeds(medians, own)
    else:
        error, freedom = _over_steps(medians[0][0], medians[1][0], kept, own)
    return Judged(difference, np.maximum(error, ROUNDING), freedom)


def limit(freedom: Values, tests: int, level: float) -> Values:
    """Return the |t| beyond which one of all tests lies with a probability of `level` at most.

    Args:
        freedom: (L,) Degrees of freedom.
        tests: Number of tests, all tables together.
        level: Probability of an error anywhere, 0 to 1.
    """
    from scipy.special import stdtrit

    found: Values = -stdtrit(freedom, level / (2 * max(1, tests)))
    return found


def _level(medians: Values) -> Values:
    """Return (W, L) mean over seeds; NaN where some are infinite, and the others not or otherwise."""
    with np.errstate(invalid="ignore"):
        found: Values = medians.mean(axis=0)
    mixed = np.isinf(medians).any(axis=0) & (medians != medians[0]).any(axis=0)
    return np.where(mixed, np.nan, found)


def _over_seeds(medians: Sequence[Values], own: Values) -> tuple[Values, Values]:
    """Return the two-sample standard error (W, L) and its degrees of freedom (L,)."""
    counts = [len(side) for side in medians]
    seeds = sum(counts) - 2
    with np.errstate(invalid="ignore"):
        rests = np.concatenate([side - side.mean(axis=0) for side in medians if len(side) > 1])
    known = np.isfinite(rests).all(axis=0)
    rests = np.where(known, rests, 0.0)
    square = (rests**2).sum(axis=0) / seeds  # (W, L)
    pooled = square.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    variance = np.maximum(pooled, _nearby_mean(square, known)) + own**2 / (1 + seeds)
    freedom = seeds * _independent(rests)
    return np.sqrt(variance * (1 / counts[0] + 1 / counts[1])), freedom


def _nearby_mean(values: Values, known: np.ndarray) -> Values:
    """Return (W, L) means over the windows nearby, of those that are known."""
    sums, counts = (np.pad(np.cumsum(each, axis=0), ((1, 0), (0, 0))) for each in (values, known))
    first, last = _nearby(len(values))
    found: Values = (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1)
    return found


def _nearby(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the windows near each begin and end."""
    reach = max(count // NEARBY, FEWEST)
    place = np.arange(count)
    return np.maximum(place - reach, 0), np.minimum(place + reach + 1, count)


def _independent(rests: Values) -> Values:
    """Return (L,) number of independent windows that tell a variance as well; 1 at least.

    Args:
        rests: (n, W, L) Residuals of seeds.
    """
    count = rests.shape[1]
    spectrum = np.abs(np.fft.rfft(rests, 2 * count, axis=1)) ** 2
    lags = np.arange(count // 2 + 1)
    covariance = np.fft.irfft(spectrum.sum(axis=0), 2 * count, axis=0)[lags] / (count - lags)[:, None]
    own = covariance[:1]
    correlation = np.divide(covariance, own, out=np.zeros_like(covariance), where=own > 0)
    found: Values = np.maximum(1.0, count / (1 + 2 * (correlation[1:] ** 2).sum(axis=0)))
    return found


def _over_steps(a: Values, b: Values, kept: int, own: Values) -> tuple[Values, Values]:
    """Return the standard error (W, L) from the two trainings' own changes, and its freedom (L,)."""
    with np.errstate(invalid="ignore"):
        shared = (a + b) / 2
    trend = running_median(np.pad(shared, ((TREND // 2, TREND // 2), (0, 0)), mode="edge"), TREND)
    lag = min(kept, len(a) - 1)
    if lag < 1:  # a single window has no change
        return np.full_like(a, np.inf), np.ones(a.shape[1])
    with np.errstate(invalid="ignore"):
        changes = [(each - trend)[lag:] - (each - trend)[:-lag] for each in (a, b)]
    steps = sum(_scale(each, len(a)) ** 2 / 2 for each in changes)
    firm = 2 * own**2
    steps = np.maximum(steps, np.median(steps, axis=1, keepdims=True))
    freedom = 2 * NORMAL_MEDIAN * (len(a) - lag) / lag + min(MODERATED, a.shape[1] - 1)
    freedom = max(1.0, freedom)
    whole = steps + firm
    # Welch (1947) and Satterthwaite (1946): freedom of a sum of two variances, one of them known.
    most = np.maximum(np.median(steps, axis=0), ROUNDING**2)
    df = (most + firm) ** 2 / (most**2 / freedom)
    return np.sqrt(whole), df


def _scale(changes: Values, count: int) -> Values:
    """Return (count, L) the MAD of all changes, or of those nearby where that is more."""
    size = np.where(np.isfinite(changes), np.abs(changes), np.nan)
    first, last = _nearby(len(size))
    every = max(1, len(size) // (2 * NEARBY))
    blocks = np.stack([_median(size[first[t] : last[t]]) for t in range(0, len(size), every)])
    near = blocks[np.minimum(np.arange(count) // every, len(blocks) - 1)]
    found: Values = MAD * np.maximum(near, _median(size))
    return found


def _median(values: Values) -> Values:
    """Return (L,) medians over rows without NaN, 0 of none; np.nanmedian takes a hundred times as long."""
    ordered = np.sort(values, axis=0)  # NaN last
    known = len(values) - np.isnan(values).sum(axis=0)
    columns = np.arange(values.shape[1])
    low = ordered[np.maximum(known - 1, 0) // 2, columns]
    high = ordered[np.minimum(known // 2, len(values) - 1), columns]
    found: Values = np.where(known, (low + high) / 2, 0.0)
    return found
