"""Evidence from the final accuracies of a study's roles: whether they train, and which does better.

Only runs that came to their end count; the others are named and leave a verdict open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from gradscape.analysis.claims import Evidence, Verdict, above, differences, equivalent
from gradscape.analysis.outcomes import (
    ended,
    final,
    guesses,
    guessing,
    task,
    together,
    unfinished,
    window,
)
from gradscape.records.run import StudyRecord
from gradscape.stats.paired import ERROR
from gradscape.stats.student_t import ENOUGH, at_least, share


def trains(
    study: StudyRecord,
    role: str,
    label: str,
    rule: Callable[[str, Mapping[int, float], float, str, str, float], Evidence] = above,
    control: str = "",
) -> Evidence:
    """Judge if a role's final training accuracy is above (or below) twice that of guessing.

    Networks that all give the same answer to every image have equal accuracies in every seed. What those
    would be on other images is known no better than a share of so many images is.

    Args:
        study: Record of a study.
        role: Name of the role.
        label: Label of the role.
        rule: `above` or `below`.
        control: Role that trains in as many epochs of the same data; where it does not train, or has not come
            to its end, nothing follows from `role` not training.
    """
    threshold, accuracies = 2 * guessing(study), finals(study, role, "train")
    needed = control and (guesses(study, role) or not all(trained(study, role)))
    part = rule(
        f"{label}: train accuracy, {window(study, [role])} (twice guessing is {threshold:g})",
        accuracies,
        threshold,
        together(unfinished(study, role), unfinished(study, control) if needed else ""),
        guesses(study, control) or _untrained(study, control) if needed else "",
        _deviation(study, role, accuracies),
    )
    words = _share_in_words(study, role)
    return replace(part, reason=f"{part.reason}; {words}") if words and len(accuracies) > 1 else part


def _deviation(study: StudyRecord, role: str, accuracies: Mapping[int, float]) -> float:
    """Return the binomial standard deviation of an accuracy on a run's training images.

    One image more of each outcome keeps it above 0 (Laplace). It is 0, for not known, without runs, and where
    one diverged: its accuracy is none that was measured.
    """
    runs = list(ended(study, role).values())
    if not runs or any(run.state == "diverged" for run in runs):
        return 0.0
    _, images = task(runs[0])
    right = (fmean(accuracies.values()) * images + 1) / (images + 2)
    return math.sqrt(right * (1 - right) / images)


def trained(study: StudyRecord, role: str) -> list[bool]:
    """Say of each of a role's ended runs if it trains: its accuracy is above twice that of guessing.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    return [value > 2 * guessing(study) for value in finals(study, role, "train").values()]


def _untrained(study: StudyRecord, role: str) -> str:
    """Name a role with runs that do not train, though they may beat guessing; empty if all train."""
    train = trained(study, role)
    if all(train):
        return ""
    why = f"training accuracy not above twice guessing's {guessing(study):g}"
    return f"{role}: {train.count(False)} of {len(train)} runs do not train ({why})"


def _share_in_words(study: StudyRecord, role: str) -> str:
    """Return the share of a role's runs that train, with a caution where a mean is over both kinds."""
    train = trained(study, role)
    if not train:
        return ""
    words = f"{share(sum(train), len(train))} of the seeds train"
    if len(set(train)) == 1 or len(train) >= ENOUGH:
        return words
    return f"{words}: a mean over both kinds needs {ENOUGH} seeds or more"


def oftener(study: StudyRecord, role: str, other: str, label: str) -> Evidence:
    """Judge if more seeds train in one role than in another, by McNemar's exact test (McNemar 1947).

    It is the sign test on the seeds that train in one of the two alone.

    Args:
        study: Record of a study.
        role, other: Names of the two roles.
        label: Name of the comparison in words.
    """
    first, second = (
        {seed: value > 2 * guessing(study) for seed, value in finals(study, each, "train").items()}
        for each in (role, other)
    )
    pairs = differences(first, second)
    ahead, behind = (sum(value == sign for value in pairs.values()) for sign in (1.0, -1.0))
    p = min(1.0, 2 * at_least(max(ahead, behind), ahead + behind, 0.5)) if ahead + behind else 1.0
    missing = together(unfinished(study, role), unfinished(study, other))
    way: Verdict = "holds" if ahead > behind else "does not hold"
    shares = f"{_share_in_words(study, role)}; {_share_in_words(study, other)}"
    return Evidence(
        measured=f"seeds that train (training accuracy above twice guessing), {label}, paired by seed",
        rule="more seeds train by the sign test at 95 % (six that differ, all one way, at least)",
        numbers=tuple(pairs.items()),
        interval=None,
        verdict=way if p < ERROR and not missing else "undecided",
        reason=missing or f"{shares}; p = {p:.2g}",
        p=None if missing else p,
    )


def beats(study: StudyRecord, role: str, other: str, split: str, label: str) -> Evidence:
    """Judge if one role's final accuracy is above another's, paired by seed; both must beat guessing.

    Args:
        study: Record of a study.
        role, other: Names of the two roles.
        split: `train` or `valid`.
        label: Name of the comparison in words.
    """
    measured, pairs = _compared(study, role, other, split, label)
    return above(measured, pairs, 0.0, open_runs(study, role, other), guesses(study, role, other))


def equals(study: StudyRecord, role: str, other: str, split: str, label: str, margin: float) -> Evidence:
    """Judge if two final accuracies differ by less than a margin, paired by seed; both must beat guessing.

    Args:
        study: Record of a study.
        role, other: Names of the two roles.
        split: `train` or `valid`.
        label: Name of the comparison in words.
        margin: Largest difference of accuracy that counts as none, 0 to 1.
    """
    measured, pairs = _compared(study, role, other, split, label)
    return equivalent(measured, pairs, margin, open_runs(study, role, other), guesses(study, role, other))


def _compared(
    study: StudyRecord, role: str, other: str, split: str, label: str
) -> tuple[str, dict[int, float]]:
    """Return the name of the differences of final accuracy, and the differences per seed."""
    name = {"train": "train", "valid": "validation"}[split]
    pairs = differences(finals(study, role, split), finals(study, other, split))
    return f"{name} accuracy, {label}, {window(study, [role, other])}, paired by seed", pairs


def open_runs(study: StudyRecord, *roles: str) -> str:
    """Name runs of these roles that have not come to an end.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    return together(*(unfinished(study, role) for role in roles))


def averaged(numbers: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean per seed over several numbers, of the seeds that all have.

    Args:
        numbers: Numbers per seed, such as one mapping for each pair of roles.
    """
    seeds = set.intersection(*map(set, numbers)) if numbers else set()
    return {seed: fmean(by_seed[seed] for by_seed in numbers) for seed in sorted(seeds)}


def finals(study: StudyRecord, role: str, split: str) -> dict[int, float]:
    """Return the final accuracy per seed of the runs that came to an end; a diverged one counts as guessing.

    Args:
        study: Record of a study.
        role: Name of the role.
        split: `train` or `valid`.
    """
    return {
        seed: guessing(study) if run.state == "diverged" else final(run, f"{split}_accuracy").mean
        for seed, run in ended(study, role).items()
    }
