"""What a role's runs came to, as evidence: whether they train, which does better, how gradients run.

Only runs that came to their end count; the others are named and leave a verdict open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from gradscape.analysis.claims import Evidence, Verdict, above, differences, equivalent
from gradscape.analysis.run_status import (
    ended,
    final,
    guesses,
    guessing,
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
    rule: Callable[[str, Mapping[int, float], float, str, str], Evidence] = above,
    control: str = "",
) -> Evidence:
    """Whether a role's final train accuracy is above (or below) twice that of guessing.

    Args:
        study, role: whose runs.
        label: of the role.
        rule: `above` or `below`.
        control: a role that trains in as many epochs of the same data; where it does not, nothing follows
            from a role that does not either.
    """
    threshold, found = 2 * guessing(study), finals(study, role, "train")
    stuck = guesses(study, role) and control
    part = rule(
        f"{label}: train accuracy, {window(study, [role])} (twice guessing is {threshold:g})",
        found,
        threshold,
        unfinished(study, role),
        guesses(study, control) if stuck else "",
    )
    told = _share_in_words(study, role)
    return replace(part, reason=f"{part.reason}; {told}") if told and len(found) > 1 else part


def trained(study: StudyRecord, role: str) -> list[bool]:
    """Whether each of a role's runs that came to an end trains: its accuracy is above twice guessing."""
    return [value > 2 * guessing(study) for value in finals(study, role, "train").values()]


def _share_in_words(study: StudyRecord, role: str) -> str:
    """How many of a role's runs train; and, where some do and some do not, what that does to a mean."""
    found = trained(study, role)
    if not found:
        return ""
    words = f"{share(sum(found), len(found))} of the seeds train"
    if len(set(found)) == 1 or len(found) >= ENOUGH:
        return words
    return f"{words}: a mean over both kinds needs {ENOUGH} seeds or more"


def oftener(study: StudyRecord, role: str, other: str, label: str) -> Evidence:
    """Whether more seeds train in one role than in another: the sign test on those that do in one alone.

    That is McNemar's (1947), exact.
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
    told = f"{_share_in_words(study, role)}; {_share_in_words(study, other)}"
    return Evidence(
        measured=f"seeds that train (training accuracy above twice guessing), {label}, paired by seed",
        rule="more seeds train by the sign test at 95 % (six that differ, all one way, at least)",
        numbers=tuple(pairs.items()),
        interval=None,
        verdict=way if p < ERROR and not missing else "undecided",
        reason=missing or f"{told}; p = {p:.2g}",
        p=None if missing else p,
    )


def beats(study: StudyRecord, role: str, other: str, split: str, label: str) -> Evidence:
    """Whether one role's final accuracy is above another's, paired by seed; both must beat guessing."""
    measured, pairs = _compared(study, role, other, split, label)
    return above(measured, pairs, 0.0, open_runs(study, role, other), guesses(study, role, other))


def equals(study: StudyRecord, role: str, other: str, split: str, label: str, margin: float) -> Evidence:
    """Whether two final accuracies differ by less than a margin, paired by seed; both must beat guessing."""
    measured, pairs = _compared(study, role, other, split, label)
    return equivalent(measured, pairs, margin, open_runs(study, role, other), guesses(study, role, other))


def _compared(
    study: StudyRecord, role: str, other: str, split: str, label: str
) -> tuple[str, dict[int, float]]:
    """Differences of final accuracy, and what they are in words."""
    name = {"train": "train", "valid": "validation"}[split]
    pairs = differences(finals(study, role, split), finals(study, other, split))
    return f"{name} accuracy, {label}, {window(study, [role, other])}, paired by seed", pairs


def open_runs(study: StudyRecord, *roles: str) -> str:
    """Runs of these roles that have not come to an end, in words."""
    return together(*(unfinished(study, role) for role in roles))


def averaged(found: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Seed → mean over several numbers, of the seeds that all have."""
    seeds = set.intersection(*map(set, found)) if found else set()
    return {seed: fmean(each[seed] for each in found) for seed in sorted(seeds)}


def finals(study: StudyRecord, role: str, split: str) -> dict[int, float]:
    """Seed → final accuracy of the runs that came to an end; a diverged one counts as guessing."""
    return {
        seed: guessing(study) if run.state == "diverged" else final(run, f"{split}_accuracy").mean
        for seed, run in ended(study, role).items()
    }
