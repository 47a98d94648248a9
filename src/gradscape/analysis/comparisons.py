"""Comparisons of a sweep: on each axis, at each setting of the others, every value against the first one.

A comparison is paired by seed and needs whole points. Where a run of either is not done the verdict stays
open: runs diverge where training is hard, and the rest alone would be the lucky ones. Nor is anything decided
between two points that both end at guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradscape.analysis.outcomes import BRIEF, beats_guessing, describe_status
from gradscape.analysis.sweep_points import Point, axes_of, format_setting, named, points
from gradscape.config.paths import Value
from gradscape.records.run import StudyRecord
from gradscape.stats.paired import ERROR, Difference, compare, holm, look_level, planned_looks

LOST = ("diverged", "stopped", "failed")  # no further seed makes up for such a run


@dataclass(frozen=True)
class Comparison:
    """One value of an axis against the axis' first value, at one setting of the other axes.

    Attributes:
        axis: Name of the field.
        reference, other: Points; they differ in the axis alone.
        difference: Difference of final validation accuracy, other − reference.
        adjusted: p of the difference after Holm's correction for all comparisons of the sweep.
    """

    axis: str
    reference: Point
    other: Point
    difference: Difference
    adjusted: float = 1.0

    @property
    def setting(self) -> str:
        """Values of the other axes, in words."""
        return named({field: value for field, value in self.other.values.items() if field != self.axis})

    @property
    def decided(self) -> bool:
        """True if more seeds need not be run."""
        return self.difference.verdict != "undecided"

    @property
    def holm(self) -> str:
        """Verdict after the correction for the number of comparisons."""
        return self.difference.verdict if self.decided and self.adjusted <= ERROR else "undecided"

    def __str__(self) -> str:
        values = (format_setting(point.values[self.axis]) for point in (self.other, self.reference))
        where = f" at {self.setting}" if self.setting else ""
        return f"{self.axis} {' against '.join(values)}{where}: {self.difference}"


def comparisons(study: StudyRecord) -> list[Comparison]:
    """Return all comparisons of a sweep, axis after axis.

    Where seeds were added until something was decided, `looks` in `study.json` is the number of looks that
    all commands together have planned, and each comparison has the level that makes up for them.

    Args:
        study: Record of a sweep.

    Example:
        >>> print(comparisons(gradscape.load("runs/sweep"))[0])
        net.depth 38 against 8 at lr 0.001: lower: -0.46 (95 % -0.48 … -0.44), n = 3, d_z = -57: p = 1e-04
    """
    looks = int(study.asked.get("looks", 1))
    pairs = _at_level(points(study), look_level(looks))
    ps = [pair.difference.p if pair.difference.p is not None else 1.0 for pair in pairs]
    adjusted = holm([min(1.0, looks * p) for p in ps])
    return [replace(pair, adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)]


def undecided(study: StudyRecord, fewest: int, most: int) -> list[Comparison]:
    """Return the comparisons for which another seed should be run, one for each of the two points.

    They are looked at after every seed from `fewest` to `most`, at the level that makes up for looking that
    often, and for the looks of earlier plans: `gradscape.stats.paired.look_level`. A comparison with a run
    that diverged, failed or was stopped is left out: no further seed decides it.

    Args:
        study: Record of a sweep.
        fewest, most: Number of seeds at the first and at the last look.

    Raises:
        ConfigError: The numbers of seeds allow no look.

    Example:
        >>> [each.other.label for each in undecided(gradscape.load("runs/sweep"), 3, 10)]
        ['net.depth=8 optim.lr=0.01']
    """
    level = look_level(max(planned_looks(fewest, most), int(study.asked.get("looks", 1))))
    return [
        pair
        for pair in _at_level(points(study), level)
        if pair.difference.n < fewest or (not pair.decided and pair.difference.n < most)
        if not _lost(pair.reference) and not _lost(pair.other)
    ]


def _lost(point: Point) -> bool:
    return any(run is not None and run.state in LOST for run in point.runs.values())


def _at_level(chosen: Sequence[Point], level: float) -> list[Comparison]:
    """Comparisons in the order of the points; none of points that share their runs: the axis sets nothing."""
    made = []
    for axis in axes_of(chosen):
        groups: dict[tuple[Value, ...], list[Point]] = {}
        for point in chosen:
            groups.setdefault(point.others(axis), []).append(point)
        made += [
            Comparison(axis, reference, other, _judged(reference, other, level))
            for reference, *others in groups.values()
            for other in others
            if not set(other.identities) & set(reference.identities)  # one may have more seeds by now
        ]
    return made


def _judged(reference: Point, other: Point, level: float) -> Difference:
    """Return the difference of two points; undecided where runs of theirs are not done."""
    difference = compare(reference.accuracies, other.accuracies, level)
    why = _not_done(reference, other) or _idle(reference, other)
    return replace(difference, verdict="undecided", reason=why, p=None) if why else difference


def _idle(reference: Point, other: Point) -> str:
    """Say that no run of either does better than guessing: there is nothing to compare; else empty."""
    runs = [run for point in (reference, other) for run in point.runs.values() if run is not None]
    return "" if any(map(beats_guessing, runs)) else "both end at guessing"


def _not_done(reference: Point, other: Point) -> str:
    """Name runs of either point that are not done, in a few words; empty if all are."""
    both = {"reference": _counts(reference), "value": _counts(other)}
    return "; ".join(f"{name}: {words}" for name, words in both.items() if words)


def _counts(point: Point) -> str:
    """Count a point's runs that are not done by their state, in words."""
    brief = [BRIEF.split(describe_status(run))[0] for run in point.runs.values()]
    return ", ".join(f"{brief.count(word)} of {len(brief)} {word}" for word in dict.fromkeys(brief) if word)
