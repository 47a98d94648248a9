"""Smoothness of two networks compared at equal loss, while both are learning.

A network that still guesses lies on a plateau, and one that has learned its images in a basin; both are flat
for a reason of their own. Means over a whole training compare how long each stays there.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import fmean

from gradscape.analysis.claims import Evidence, below
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.outcomes import ended, guesses, task, together
from gradscape.analysis.smoothness import VALUES, WAYS, logs
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness

RolePair = tuple[str, str]  # roles: with BatchNorm, and without
Points = list[tuple[float, float]]  # loss, as a share of guessing's, and log10 of a number
Curve = Points  # its losses rise
LEARNING = (0.2, 0.8)  # a network is learning where its mini-batch's loss is this share of guessing's
BIN = 0.1  # of guessing's loss: measures are averaged over losses as near as this
NEIGHBORS = 4  # measures before and as many after one that it is averaged with
WHERE = (
    f"at equal loss: where a mini-batch's is {LEARNING[0]:g} to {LEARNING[1]:g} of guessing's, means over "
    f"neighboring measures and bins of {BIN:g}, and straight lines between them"
)
AT_EQUAL_LOSS = (
    "At equal loss, for a mean over training compares how long each network stays on the plateau that it "
    "begins on. Along the gradient a measure is over distances in proportion to the learning rate of its "
    "step, which falls through training, so that a network that comes later to a loss is measured over "
    "shorter ones; relative to the weights' size distances are equal."
)
WAYS_MEASURED = (("lipschitz", "gradient"), ("beta", "gradient"), ("beta", "relative"))


def smoother_at_equal_loss(
    study: StudyRecord, pairs: Sequence[RolePair], labels: Mapping[str, str]
) -> tuple[Evidence, ...]:
    """Judge if loss and gradient are smoother for the first of each pair than for the second.

    The number of each seed is the mean over the pairs of their log ratios; without one of them it is not
    testable.

    Args:
        study: Record of a study.
        pairs: Pairs of roles, the smoother one first.
        labels: Label per role.
    """
    label = over_in_words(pairs, labels)
    return tuple(
        below(
            f"log10 of the {VALUES[what][0]} {WAYS[along]}, {label}, {WHERE}",
            averaged([ratios(study, pair, what, along) for pair in pairs]),
            0.0,
            together(*(open_runs(study, *pair) for pair in pairs)),
            together(*(guesses(study, *pair) or _unmeasured(study, pair, what, along) for pair in pairs)),
        )
        for what, along in WAYS_MEASURED
    )


def over_in_words(pairs: Sequence[RolePair], labels: Mapping[str, str]) -> str:
    """Return what is compared with what: `VGG08 + BatchNorm over VGG08`, or the mean of several such pairs.

    Args:
        pairs: Pairs of roles.
        labels: Label per role.
    """
    words = "; ".join(f"{labels[role]} over {labels[other]}" for role, other in pairs)
    return words if len(pairs) == 1 else f"mean of {len(pairs)} pairs ({words})"


def testable(study: StudyRecord, pairs: Sequence[RolePair]) -> tuple[list[RolePair], str]:
    """Return the pairs of which no run ends at guessing (all if there are none), and a note on the others.

    Args:
        study: Record of a study.
        pairs: Pairs of roles.
    """
    good = [pair for pair in pairs if not guesses(study, *pair)]
    idle = together(*(guesses(study, *pair) for pair in pairs if pair not in good))
    return (
        (good, f"Left out, for a network that guesses is flat: {idle}." * bool(idle))
        if good
        else ([*pairs], "")
    )


def ratios(study: StudyRecord, pair: RolePair, what: str, along: str) -> dict[int, float]:
    """Return log10 of the ratio of a number per seed, first role over second, at equal loss.

    A mini-batch's loss is noisy: where a network stays just above a loss, only mini-batches of less loss than
    its images' are below. So each measure is first averaged, in loss and logarithm, with its neighbors in
    time, as long as the loss hardly falls among them. Then each run's are averaged over bins of loss, so that
    it does not count how long it stays at one. The mean loss of a bin is compared with the straight line
    between the other run's two bins around that loss: in one bin a network that just reaches it is at its
    upper edge, and one that goes on at its lower. The number is the mean over both runs' bins; a seed without
    any is left out.

    Args:
        study: Record of a study.
        pair: The two roles.
        what: Key of `smoothness.VALUES`.
        along: Key of `smoothness.WAYS`.
    """
    first, second = (
        {seed: _by_loss(run, what, along) for seed, run in ended(study, role).items()} for role in pair
    )
    apart = {
        seed: [*_above(first[seed], second[seed]), *(-d for d in _above(second[seed], first[seed]))]
        for seed in sorted(first.keys() & second.keys())
    }
    return {seed: fmean(each) for seed, each in apart.items() if each}


def _above(curve: Curve, other: Curve) -> list[float]:
    """Return how far the points of a curve are above another, of those where a network is learning."""
    low, high = LEARNING
    there = [(value, _between(other, loss)) for loss, value in curve if low < loss < high]
    return [value - line for value, line in there if line is not None]


def _between(curve: Curve, loss: float) -> float | None:
    """Return the value of a curve at a loss; None beyond its ends and in gaps of two bins' width or more."""
    place = bisect_left(curve, loss, key=itemgetter(0))
    if place < len(curve) and curve[place][0] == loss:
        return curve[place][1]
    if not 0 < place < len(curve):
        return None
    (low, before), (high, after) = curve[place - 1 : place + 1]
    share = (loss - low) / (high - low)
    return before + share * (after - before) if high - low < 2 * BIN else None


def loss_bin(run: RunRecord, measure: StepSmoothness) -> float:
    """Return the middle of the bin of a mini-batch's loss, as a share of guessing's; NaN if not finite.

    Args:
        run: Record of a run.
        measure: One of its measures.
    """
    share = loss_share(run, measure)
    return (math.floor(share / BIN) + 0.5) * BIN if math.isfinite(share) else math.nan


def loss_share(run: RunRecord, measure: StepSmoothness) -> float:
    """Return a mini-batch's loss as a share of guessing's.

    Args:
        run: Record of a run.
        measure: One of its measures.
    """
    return measure.loss / math.log(task(run)[0])


def _by_loss(run: RunRecord, what: str, along: str) -> Curve:
    """Return the mean loss, as a share of guessing's, and the mean log10 of a number in each bin of loss."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for share, log in _smoothed(logs(run, what, along, loss_share)):
        bins.setdefault(math.floor(share / BIN), []).append((share, log))
    columns = (zip(*bins[place], strict=True) for place in sorted(bins))
    return [(fmean(shares), fmean(values)) for shares, values in columns]


def _smoothed(points: Points) -> Points:
    """Return each point's mean with as many before as after it, the most that are within a bin's width."""
    widest = [
        max(
            (count for count in range(1, min(NEIGHBORS, place, len(points) - 1 - place) + 1)
             if _change(points, place, count) < BIN),
            default=0,
        )
        for place in range(len(points))
    ]  # fmt: skip
    windows = (points[place - count : place + count + 1] for place, count in enumerate(widest))
    columns = (zip(*window, strict=True) for window in windows)
    return [(fmean(losses), fmean(values)) for losses, values in columns]


def _change(points: Points, place: int, count: int) -> float:
    """Return how far apart the mean losses of so many points before one and of as many after it are."""
    before, after = points[place - count : place], points[place + 1 : place + count + 1]
    return abs(fmean(loss for loss, _ in before) - fmean(loss for loss, _ in after))


def _unmeasured(study: StudyRecord, pair: RolePair, what: str, along: str) -> str:
    """Name the seeds whose runs share no loss at which both were measured."""
    first, second = (ended(study, role).keys() for role in pair)
    lacking = sorted((first & second) - ratios(study, pair, what, along).keys())
    seeds = ", ".join(map(str, lacking))
    some, share = ("seeds", "share") if len(lacking) > 1 else ("seed", "shares")
    return f"{' and '.join(pair)}: {some} {seeds} {share} no loss at which both were measured" * bool(lacking)
