"""Which of two networks is smoother where both are learning, at equal loss: neither at guessing nor done.

A network that still guesses lies on a plateau, and one that has learnt its images in a basin; both are flat
for a reason of their own. Means over a whole training compare how long each stays there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.curvature import flatter_on_average
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.run_status import ended, guesses, task, together
from gradscape.analysis.smoothness import VALUES, WAYS, measures
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness

Pair = tuple[str, str]  # roles: with BatchNorm, and without
LEARNING = (0.2, 0.8)  # a mini-batch's loss, beside that of guessing, where it counts as being learnt
WHERE = f"where a mini-batch's loss is {LEARNING[0]:g} to {LEARNING[1]:g} of guessing's"


AT_EQUAL_LOSS = (
    "At equal loss, for a mean over training compares how long each network stays on the plateau that it "
    "begins on."
)
WAYS_MEASURED = (("lipschitz", "gradient"), ("beta", "gradient"), ("beta", "relative"))


def smoother(study: StudyRecord, pairs: Sequence[Pair], labels: Mapping[str, str]) -> tuple[Evidence, ...]:
    """Whether loss and gradient are smoother for the first of each pair than for the second.

    Of each seed the mean over the pairs of their log ratios; all pairs are in it, or it is not testable.

    Args:
        study: whose runs.
        pairs: of roles.
        labels: of all roles.
    """
    label = _over_in_words(pairs, labels)
    along_steps = [
        below(
            f"log10 of the {VALUES[what][0]} {WAYS[along]}, {label}, {WHERE}",
            averaged([_ratios(study, pair, what, along) for pair in pairs]),
            0.0,
            together(*(open_runs(study, *pair) for pair in pairs)),
            together(*(guesses(study, *pair) or _unmeasured(study, pair, what, along) for pair in pairs)),
        )
        for what, along in WAYS_MEASURED
    ]
    return (*along_steps, flatter_on_average(study, pairs, label))


def _over_in_words(pairs: Sequence[Pair], labels: Mapping[str, str]) -> str:
    words = "; ".join(f"{labels[role]} over {labels[other]}" for role, other in pairs)
    return words if len(pairs) == 1 else f"mean of {len(pairs)} pairs ({words})"


def testable(study: StudyRecord, pairs: Sequence[Pair]) -> tuple[list[Pair], str]:
    """The pairs of which no run ends at guessing, or all if there is none; and what is left out, in words."""
    good = [pair for pair in pairs if not guesses(study, *pair)]
    idle = together(*(guesses(study, *pair) for pair in pairs if pair not in good))
    return (
        (good, f"Left out, for a network that guesses is flat: {idle}." * bool(idle))
        if good
        else ([*pairs], "")
    )


def _ratios(study: StudyRecord, pair: Pair, what: str, along: str) -> dict[int, float]:
    """Seed → log10 of a number of the first over that of the second."""
    first, second = (_learning(study, role, what, along) for role in pair)
    return differences(first, second)


def _unmeasured(study: StudyRecord, pair: Pair, what: str, along: str) -> str:
    """Runs of a pair that have no measure where they were learning, in words."""
    return together(
        *(
            f"{role}: seed {seed} has no measure {WHERE}"
            for role in pair
            for seed in ended(study, role).keys() - _learning(study, role, what, along).keys()
        )
    )


def _learning(study: StudyRecord, role: str, what: str, along: str) -> dict[int, float]:
    """Seed → mean log10 of a number over the measures at which a run was learning."""
    value, found = VALUES[what][1], {}
    for seed, run in ended(study, role).items():
        numbers = [value(measure) for measure in measures(run, along) if _is_learning(run, measure)]
        logs = [math.log10(number) for number in numbers if number > 0 and math.isfinite(number)]
        if logs:
            found[seed] = fmean(logs)
    return found


def _is_learning(run: RunRecord, measure: StepSmoothness) -> bool:
    classes, _ = task(run)
    low, high = (share * math.log(classes) for share in LEARNING)
    return low <= measure.loss <= high
