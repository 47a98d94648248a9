"""Smoothness of two networks compared at equal loss, while both are learning.

A network that still guesses lies on a plateau, and one that has learned its images in a basin; both are flat
for a reason of their own. Means over a whole training compare how long each stays there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.curvature import flatter_on_average
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.outcomes import ended, guesses, task, together
from gradscape.analysis.smoothness import VALUES, WAYS, mean_log
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness

RolePair = tuple[str, str]  # roles: with BatchNorm, and without
LEARNING = (0.2, 0.8)  # a network is learning where its mini-batch's loss is this share of guessing's
WHERE = f"where a mini-batch's loss is {LEARNING[0]:g} to {LEARNING[1]:g} of guessing's"


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
    """Return log10 of the ratio of a number per seed, first role over second, where both were learning.

    Args:
        study: Record of a study.
        pair: The two roles.
        what: Key of `smoothness.VALUES`.
        along: Key of `smoothness.WAYS`.
    """
    first, second = (_learning(study, role, what, along) for role in pair)
    return differences(first, second)


def _unmeasured(study: StudyRecord, pair: RolePair, what: str, along: str) -> str:
    """Name runs of a pair that have no measure where they were learning."""
    lacking = {
        role: sorted(ended(study, role).keys() - _learning(study, role, what, along).keys()) for role in pair
    }
    return together(
        *(
            f"{role}: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} "
            f"{'have' if len(seeds) > 1 else 'has'} no measure {WHERE}"
            for role, seeds in lacking.items()
            if seeds
        )
    )


def _learning(study: StudyRecord, role: str, what: str, along: str) -> dict[int, float]:
    """Seed → mean log10 of a number over the measures at which a run was learning."""
    means = {
        seed: mean_log(run, what, along, partial(_is_learning, run))
        for seed, run in ended(study, role).items()
    }
    return {seed: mean for seed, mean in means.items() if not math.isnan(mean)}


def _is_learning(run: RunRecord, measure: StepSmoothness) -> bool:
    classes, _ = task(run)
    low, high = (share * math.log(classes) for share in LEARNING)
    return low <= measure.loss <= high
