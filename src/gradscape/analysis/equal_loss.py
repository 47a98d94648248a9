"""Smoothness of two networks compared at equal loss, while both are learning.

A network that still guesses lies on a plateau, and one that has learned its images in a basin; both are flat
for a reason of their own. Means over a whole training compare how long each stays there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.curvature import flatter_on_average
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.outcomes import ended, guesses, task, together
from gradscape.analysis.smoothness import VALUES, WAYS, mean_logs
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness

RolePair = tuple[str, str]  # roles: with BatchNorm, and without
LEARNING = (0.2, 0.8)  # a network is learning where its mini-batch's loss is this share of guessing's
BIN = 0.1  # of guessing's loss: losses as near as this count as equal
WHERE = (
    f"at equal loss: where a mini-batch's is {LEARNING[0]:g} to {LEARNING[1]:g} of guessing's, matched in "
    f"bins of {BIN:g}"
)


AT_EQUAL_LOSS = (
    "At equal loss, for a mean over training compares how long each network stays on the plateau that it "
    "begins on."
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
    along_steps = [
        below(
            f"log10 of the {VALUES[what][0]} {WAYS[along]}, {label}, {WHERE}",
            averaged([ratios(study, pair, what, along) for pair in pairs]),
            0.0,
            together(*(open_runs(study, *pair) for pair in pairs)),
            together(*(guesses(study, *pair) or _unmeasured(study, pair, what, along) for pair in pairs)),
        )
        for what, along in WAYS_MEASURED
    ]
    return (*along_steps, flatter_on_average(study, pairs, label))


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

    It is the mean over the bins of loss in which both of a seed's runs have a measure, so that neither counts
    by how long it stays at a loss. A seed whose runs share no bin is left out.

    Args:
        study: Record of a study.
        pair: The two roles.
        what: Key of `smoothness.VALUES`.
        along: Key of `smoothness.WAYS`.
    """
    first, second = (
        {seed: _by_loss(run, what, along) for seed, run in ended(study, role).items()} for role in pair
    )
    shared = {seed: differences(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}
    return {seed: fmean(by_bin.values()) for seed, by_bin in shared.items() if by_bin}


def loss_bin(run: RunRecord, measure: StepSmoothness) -> float:
    """Return the middle of the bin of a mini-batch's loss, as a share of guessing's; NaN if not finite.

    Args:
        run: Record of a run.
        measure: One of its measures.
    """
    share = measure.loss / math.log(task(run)[0])
    return (math.floor(share / BIN) + 0.5) * BIN if math.isfinite(share) else math.nan


def _by_loss(run: RunRecord, what: str, along: str) -> dict[float, float]:
    """Bin of loss → mean log10 of a number there, of the bins in which a network is learning."""
    low, high = LEARNING
    return {
        place: mean for place, mean in mean_logs(run, what, along, loss_bin).items() if low < place < high
    }


def _unmeasured(study: StudyRecord, pair: RolePair, what: str, along: str) -> str:
    """Name the seeds whose runs share no loss at which both were measured."""
    first, second = (ended(study, role).keys() for role in pair)
    lacking = sorted((first & second) - ratios(study, pair, what, along).keys())
    seeds = ", ".join(map(str, lacking))
    some = "seeds" if len(lacking) > 1 else "seed"
    return f"{' and '.join(pair)}: {some} {seeds} share no loss at which both were measured" * bool(lacking)
