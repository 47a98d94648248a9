"""A sweep's comparisons: on each axis, at each setting of the others, every value against the first one.

A comparison is paired by seed and asks for whole points: where a run of either is not done, the verdict
stays open, for runs diverge where training is hard, and the rest alone would be the lucky ones. Nor is
anything decided between two points that both end at guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradscape.analysis.run_status import BRIEF, beats_guessing, standing
from gradscape.analysis.sweep_points import Point, Value, axes_of, named, points, shown
from gradscape.records.run import StudyRecord
from gradscape.stats.paired import ERROR, Difference, compare, holm, look_level, planned_looks

LOST = ("diverged", "stopped", "failed")  # no further seed makes up for such a run


@dataclass(frozen=True)
class Comparison:
    """One value of an axis against the axis' first value, at one setting of the other axes.

    Attributes:
        axis: the field.
        reference, other: the points; they differ in the axis alone.
        difference: of final validation accuracy, other − reference.
        adjusted: p of the difference after Holm's correction for all comparisons of the sweep.
    """

    axis: str
    reference: Point
    other: Point
    difference: Difference
    adjusted: float = 1.0

    @property
    def setting(self) -> str:
        """The values of the other axes, in words."""
        return named({field: value for field, value in self.other.values.items() if field != self.axis})

    @property
    def decided(self) -> bool:
        return self.difference.verdict != "undecided"

    @property
    def holm(self) -> str:
        """The verdict after the correction for the number of comparisons."""
        return self.difference.verdict if self.decided and self.adjusted <= ERROR else "undecided"

    def __str__(self) -> str:
        values = (shown(point.values[self.axis]) for point in (self.other, self.reference))
        where = f" at {self.setting}" if self.setting else ""
        return f"{self.axis} {' against '.join(values)}{where}: {self.difference}"


def comparisons(study: StudyRecord) -> list[Comparison]:
    """All comparisons of a sweep, axis after axis.

    Where seeds were added until something was decided, `study.json` says by `looks` how many looks were
    planned at most, and each comparison has the level that makes up for them.

    Example:
        >>> print(comparisons(gradscape.load("runs/sweep"))[0])
        net.depth 38 against 8 at lr 0.001: lower: -0.46 (95 % -0.48 … -0.44), n = 3, d_z = -57: p = 1e-04
    """
    looks = int(study.asked.get("looks", 1))
    found = _at_level(points(study), look_level(looks))
    ps = [each.difference.p if each.difference.p is not None else 1.0 for each in found]
    adjusted = holm([min(1.0, looks * p) for p in ps])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def undecided(study: StudyRecord, fewest: int, most: int) -> list[Comparison]:
    """The comparisons for which another seed should be run, each of the two points one.

    Looked at after every seed from `fewest` to `most`, at the level that makes up for looking so often:
    `gradscape.stats.paired.look_level`. A comparison with a run that diverged, failed or was stopped is
    left out: no further seed decides it.

    Args:
        study: a sweep.
        fewest, most: seeds at the first and at the last look.

    Raises:
        ConfigError: seeds that allow no look.

    Example:
        >>> [each.other.label for each in undecided(gradscape.load("runs/sweep"), 3, 10)]
        ['net.depth=8 optim.lr=0.01']
    """
    level = look_level(planned_looks(fewest, most))
    found = _at_level(points(study), level)
    return [
        each
        for each in found
        if each.difference.n < fewest or (not each.decided and each.difference.n < most)
        if not _lost(each.reference) and not _lost(each.other)
    ]


def _lost(point: Point) -> bool:
    return any(run is not None and run.state in LOST for run in point.runs.values())


def _at_level(found: Sequence[Point], level: float) -> list[Comparison]:
    """In the order of the points; where two points share their runs, the axis sets nothing: none."""
    made = []
    for axis in axes_of(found):
        groups: dict[tuple[Value, ...], list[Point]] = {}
        for point in found:
            groups.setdefault(point.others(axis), []).append(point)
        made += [
            Comparison(axis, reference, other, _judged(reference, other, level))
            for reference, *others in groups.values()
            for other in others
            if other.identities != reference.identities
        ]
    return made


def _judged(reference: Point, other: Point, level: float) -> Difference:
    """The difference of two points; open where runs of theirs are not done."""
    found = compare(reference.accuracies, other.accuracies, level)
    why = _not_done(reference, other) or _idle(reference, other)
    return replace(found, verdict="undecided", reason=why, p=None) if why else found


def _idle(reference: Point, other: Point) -> str:
    """That no run of either does better than guessing, which leaves nothing to compare; empty otherwise."""
    runs = [run for point in (reference, other) for run in point.runs.values() if run is not None]
    return "" if any(map(beats_guessing, runs)) else "both end at guessing"


def _not_done(reference: Point, other: Point) -> str:
    """Runs of either point that are not done, in a few words; empty if all are."""
    both = {"reference": _counts(reference), "value": _counts(other)}
    return "; ".join(f"{name}: {words}" for name, words in both.items() if words)


def _counts(point: Point) -> str:
    """How many of a point's runs stand how, of those that are not done."""
    brief = [BRIEF.split(standing(run))[0] for run in point.runs.values()]
    return ", ".join(f"{brief.count(word)} of {len(brief)} {word}" for word in dict.fromkeys(brief) if word)
