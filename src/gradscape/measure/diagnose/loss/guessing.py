"""Loss of guessing: that of the best output which is the same for every sample."""

from __future__ import annotations

import math

import numpy as np

from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, Sample, TermSeries
from gradscape.records.encoding import Values
from gradscape.records.loss import LossTerm

PER_CLASS = 20  # labels a class, from which their frequencies are known
FEWEST = 20  # samples, from which the spread of other targets is


def loss_of_guessing(series: TermSeries) -> float | None:
    """Return the least loss of an output that is the same for every sample; None where it cannot be told.

    For classes that is the entropy of their frequencies (log C where too few labels were read), for real
    numbers their variance, or mean distance to their median; times their number where the loss is a sum.

    Args:
        series: Readings of one loss function.
    """
    if series.first.reduction not in ("mean", "sum") or any(term.weighted for term in series.terms):
        return None
    guess = _mean_of_guessing(series)
    return None if guess is None else guess * _number(series)


def _number(series: TermSeries) -> float:
    """Number of targets that a loss sums over, typical of a batch; 1 for a mean."""
    numbers = [_targets_of(term) for term in series.terms]
    return float(np.median(numbers))


def _targets_of(term: LossTerm) -> float:
    shape = term.target.shape if term.target is not None else ()
    distributions = term.name in CATEGORICAL and len(shape) > 1 and not term.target_counts
    number = math.prod(shape) / (term.classes if distributions and term.classes else 1)
    return number * (1 - term.ignored) if term.reduction == "sum" else 1.0


def _mean_of_guessing(series: TermSeries) -> float | None:
    target = series.target
    if series.name in CATEGORICAL:
        return _entropy_of(series)
    if target is None or not target.variance > 0 or target.nonfinite or series.samples < FEWEST:
        return None
    if series.name in BINARY:
        hard = target.is_classes and target.high == 1  # targets between have a loss that no output undercuts
        return _binary_entropy(target.mean) if hard else None
    if series.name not in ("mse_loss", "l1_loss") or not _is_steady(series):
        return None
    if series.name == "mse_loss":
        return target.variance
    return float(np.abs(target.values - np.median(target.values)).mean())


def error_of_guessing(series: TermSeries) -> float:
    """Return the standard error of the loss of guessing, by the spread of targets and their number.

    Args:
        series: Readings of one loss function whose loss of guessing is known.
    """
    return _error_of_mean(series) * _number(series)


def _error_of_mean(series: TermSeries) -> float:
    target = series.target
    if series.name in CATEGORICAL:
        shares = _frequencies(series)
        if shares is None:
            return 0.0  # log C: no guess is worse
        weights = shares[shares > 0]
        losses, number = -np.log(weights), int(series.target_counts.sum())
        return math.sqrt(max(float(weights @ losses**2 - (weights @ losses) ** 2), 0.0) / number)
    if target is None:
        return 0.0
    if series.name in BINARY:
        slope = abs(math.log(target.mean) - math.log(1 - target.mean))
        return slope * math.sqrt(target.variance / series.samples)
    losses = np.abs(target.values - target.mean) ** (2 if series.name == "mse_loss" else 1)
    return float(losses.std()) / math.sqrt(series.samples)


def guessing_at(term: LossTerm, series: TermSeries) -> float | None:
    """Return the loss of the best constant output on the batch of one reading; None where it cannot be told.

    Args:
        term: Loss function at that reading.
        series: All its readings, which the constant is the best for.
    """
    guess = _mean_at(term, series)
    return None if guess is None else guess * _targets_of(term)


def _mean_at(term: LossTerm, series: TermSeries) -> float | None:
    target = term.target
    if series.name in CATEGORICAL and (shares := _frequencies(series)) is not None:
        counts = np.array(term.target_counts, dtype=np.float64)
        if not counts.sum():
            return None
        with np.errstate(divide="ignore"):
            logs = np.log(shares[: len(counts)])
        return float(-(counts * np.where(counts > 0, logs, 0.0)).sum() / counts.sum()) + _bias(series)
    whole = series.target
    if target is None or whole is None:
        return None
    if series.name in BINARY:
        return -target.mean * math.log(whole.mean) - (1 - target.mean) * math.log(1 - whole.mean)
    return target.std**2 + (target.mean - whole.mean) ** 2 if series.name == "mse_loss" else None


def _frequencies(series: TermSeries) -> Values | None:
    """(C,) Shares of the classes among labels; None where too few were read, or not all."""
    counts = series.target_counts
    ignored = any(term.ignored for term in series.terms)
    if ignored or not counts.sum() or counts.sum() < PER_CLASS * series.first.classes:
        return None
    shares: Values = counts / counts.sum()
    return shares


def _bias(series: TermSeries) -> float:
    """Amount by which the entropy of counted frequencies is too low (Miller 1955)."""
    counts = series.target_counts
    return float(((counts > 0).sum() - 1) / (2 * counts.sum()))


def _entropy_of(series: TermSeries) -> float | None:
    """Entropy of the labels' frequencies; log C where these are not known."""
    classes, shares = series.first.classes, _frequencies(series)
    if classes < 2:
        return None
    if shares is None:
        return math.log(classes)
    seen = shares[shares > 0]
    if len(seen) == 1:
        return None
    return min(float(-(seen * np.log(seen)).sum()) + _bias(series), math.log(classes))


def _binary_entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def _is_steady(series: TermSeries) -> bool:
    """Return True if the readings' targets are of one distribution, as those of another network are not."""
    seen = [term.target for term in series.terms if term.target is not None]
    whole = Sample.of(seen)
    spreads, means = [each.std for each in seen], [each.mean for each in seen]
    return max(spreads) <= 2 * min(spreads) and np.ptp(means) <= math.sqrt(whole.variance)
