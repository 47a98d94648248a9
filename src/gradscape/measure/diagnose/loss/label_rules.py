"""Rules on labels over batches: not there, of one class, of one class in each batch."""

from __future__ import annotations

import numpy as np

from gradscape._text import count_noun
from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.loss.guessing import PER_CLASS
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.terms import BINARY, CATEGORICAL, CLAMPS, MOVES, SOFTMAX, TermSeries
from gradscape.records.diagnosis import Finding, Symptom

FEWEST_READINGS, FEWEST_IN_BATCH = 3, 8


def label_findings(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Return the faults of the labels themselves.

    Args:
        series: Readings of one loss function.
        limits: Limits of the rules.
    """
    rules = (_all_ignored, _one_class, _imbalanced, _not_shuffled)
    return [finding for rule in rules for finding in rule(series, limits)]


def label_notes(series: TermSeries, limits: LossLimits) -> tuple[str, ...]:
    """Return a note on labels that begin at 1, where the output has a unit for class 0.

    Args:
        series: Readings of one loss function.
        limits: Limits of the rules.
    """
    counts, classes = series.target_counts, series.first.classes
    enough = max(limits.fewest_labels, PER_CLASS * classes)
    if series.name not in CATEGORICAL or classes < 3 or counts.sum() <= enough:
        return ()
    all_others = len(counts) == classes and counts[0] == 0 and counts[1:].all()
    if not all_others or any(each.ignored for each in series.terms):
        return ()
    return (
        f"none of {int(counts.sum())} labels is 0, and all others up to {classes - 1} occur: labels may "
        "begin at 1, and the output have one unit too many",
    )


def _all_ignored(series: TermSeries, _: LossLimits) -> list[Finding]:
    if not all(term.ignored == 1 for term in series.terms):
        return []
    number = count_noun(len(series.terms), "batch", "batches")
    return [
        Finding(
            verdict="unusable labels",
            layer="",
            cause=f"{series.name} leaves out every target of the {number} read: all are its ignore_index",
            remedy=options("another ignore_index", "look where labels are masked"),
            evidence=(Symptom("share of targets that are left out", 1.0, 0.99, "nothing is left to learn"),),
        )
    ]


def _one_class(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Labels of a classifier that are all of one class; a contrastive loss's are places in a batch."""
    counts = series.target_counts
    number = int(counts.sum())
    if series.name not in CATEGORICAL or series.first.classes < 2 or not _is_classifier(series):
        return []
    if len(series.terms) < FEWEST_READINGS or number <= limits.fewest_labels or counts.max() < number:
        return []
    batches = count_noun(len(series.terms), "batch", "batches")
    return [
        Finding(
            verdict="unusable labels",
            layer="",
            cause=f"all {number} labels of the {batches} read are of class {int(counts.argmax())}, of "
            f"{series.first.classes}",
            remedy=options("look how labels are read", "shuffle the samples, if they are sorted by class"),
            evidence=(limits.evidence("fewest_labels", "labels of one class", number),),
        )
    ]


def _is_classifier(series: TermSeries) -> bool:
    """Return True if the outputs of a layer are given to the loss as they are, or by a softmax."""
    plain = MOVES | CLAMPS | {*SOFTMAX, "log", "div"}  # divided by their sum, as Keras does
    return all(each.name in plain for each in series.first.operations)


def _imbalanced(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """One class that is nearly all labels and, in the last reading, all that is predicted."""
    counts, told = series.target_counts, np.array(series.terms[-1].predicted_counts, dtype=np.int64)
    number = int(counts.sum())
    if series.name not in CATEGORICAL or number <= limits.fewest_labels or counts.max() == number:
        return []
    most, share = int(counts.argmax()), float(counts.max() / number)
    if not share > limits.imbalance or not told.sum() or told.argmax() != most or told.max() < told.sum():
        return []
    return [
        Finding(
            verdict="imbalanced labels",
            layer="",
            cause=f"{100 * share:.3g} % of the labels are of class {most}, and so is every prediction",
            remedy=options("class weights", "sample classes alike often", "judge by balanced accuracy"),
            evidence=(limits.evidence("imbalance", "share of the largest class among the labels", share),),
        )
    ]


def _not_shuffled(series: TermSeries, limits: LossLimits) -> list[Finding]:
    """Batches of one class each, while the classes of batches differ.

    The batches of a GAN are so on purpose: of no and yes only a change or two over many readings counts.
    """
    table = _labels_by_batch(series)
    if len(table) < FEWEST_READINGS or table.shape[1] < 2:
        return []
    totals, counts = table.sum(axis=1), table.sum(axis=0)
    purity = float((table.max(axis=1) / totals).mean())
    share = float(counts.max() / counts.sum())
    if not purity > limits.purity or not share < limits.mixed:
        return []
    largest = table.argmax(axis=1)
    if series.name in BINARY and not (np.diff(largest) != 0).sum() == 1 < len(table) / FEWEST_READINGS:
        return []
    chance = _probability_of_chance(table)
    if not chance < limits.chance:
        return []
    classes = len(set(largest.tolist()))
    return [
        Finding(
            verdict="batches not shuffled",
            layer="",
            cause=f"{100 * purity:.3g} % of a batch's labels are of one class, another from batch "
            f"to batch ({classes} of them in {len(table)}): samples come sorted by class",
            remedy=options("shuffle=True in the DataLoader", "shuffle the samples once, with their labels"),
            evidence=(
                limits.evidence("purity", "share of a batch's labels that are of one class", purity),
                limits.evidence("mixed", "share of all labels that are of one class", share, below=True),
                limits.evidence("chance", "probability under shuffling", chance, below=True),
            ),
        )
    ]


def _labels_by_batch(series: TermSeries) -> np.ndarray:
    """(readings, classes) Counts of labels of batches that have one a sample, and 8 at least."""
    rows = [
        term.target_counts
        for term in series.terms
        if term.target is not None
        and len(term.target.shape) in (1, 2)
        and term.target.shape[1:] in ((), (1,))
        and sum(term.target_counts) >= FEWEST_IN_BATCH
    ]
    table = np.zeros((len(rows), max((len(row) for row in rows), default=0)), dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table[:, table.any(axis=0)]


def _probability_of_chance(table: np.ndarray) -> float:
    """Return the χ² test's probability of batches that differ as much, if all are of one distribution."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return chi_squared_tail((table.shape[0] - 1) * (table.shape[1] - 1), statistic)


def chi_squared_tail(freedom: int, statistic: float) -> float:
    """Return the probability that a χ² variable is larger.

    Args:
        freedom: Degrees of freedom.
        statistic: Value of the variable.
    """
    from scipy.special import chdtrc

    return float(chdtrc(freedom, statistic))
