"""A sweep's points: what was set, which runs answer it, and the values and words that stand for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradscape.analysis.run_status import final, members
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.stats.student_t import Interval, interval

TIE = " / "  # between the fields of one axis, and between their values
Value = float | int | str | bool | None


@dataclass(frozen=True)
class Point:
    """One setting of a sweep's axes.

    Attributes:
        label: the role of its runs.
        settings: field → value, of every field that varies.
        values: axis → value; fields that vary only together are one axis, such as `batch_size / optim.lr`.
        runs: seed → run; None where a run has no folder yet.
        identities: of its runs; two points may share them.
    """

    label: str
    settings: Mapping[str, Value]
    values: Mapping[str, Value]
    runs: Mapping[int, RunRecord | None]
    identities: tuple[str, ...]

    @cached_property
    def accuracies(self) -> dict[int, float]:
        """Seed → final validation accuracy, 0 to 1, of the runs that are done."""
        return self.finals("valid_accuracy")

    @cached_property
    def accuracy(self) -> Interval | None:
        """Over seeds; None without a run that is done."""
        return interval(list(self.accuracies.values())) if self.accuracies else None

    @property
    def whole(self) -> bool:
        """Whether all its runs are done."""
        return len(self.accuracies) == len(self.runs)

    def finals(self, field: str) -> dict[int, float]:
        """Seed → final value of one `EpochRecord` field of the runs that are done."""
        done = {seed: run for seed, run in self.runs.items() if run is not None and run.state == "done"}
        return {seed: final(run, field).mean for seed, run in done.items()}

    def others(self, axis: str) -> tuple[Value, ...]:
        """Its values on all axes but this."""
        return tuple(value for name, value in self.values.items() if name != axis)


def points(study: StudyRecord) -> list[Point]:
    """All points of a sweep, in the order of its axes' values.

    Example:
        >>> [point.label for point in points(gradscape.load("runs/sweep"))][:1]
        ['net.depth=8 optim.lr=0.001']
    """
    settings: Mapping[str, Mapping[str, Value]] = study.asked["points"]
    axes = _tied(list(settings.values()), study.asked["axes"])
    found = [
        Point(
            label=label,
            settings={field: given[field] for field in study.asked["axes"]},
            values={TIE.join(axis): _together(given, axis) for axis in axes},
            runs=members(study, label),
            identities=tuple(study.roles.get(label, ())),
        )
        for label, given in settings.items()
    ]
    places = {axis: {value: i for i, value in enumerate(ordered(found, axis))} for axis in axes_of(found)}
    return sorted(found, key=lambda p: tuple(places[axis][value] for axis, value in p.values.items()))


def _tied(settings: Sequence[Mapping[str, Value]], fields: Sequence[str]) -> list[tuple[str, ...]]:
    """The fields of each axis: those that take several values but never one without the other's same.

    Example:
        >>> tied([{"a": 1, "b": 2, "c": 5}, {"a": 3, "b": 4, "c": 5}], ["a", "b", "c"])
        [('a', 'b'), ('c',)]
    """
    axes: dict[tuple[int, ...], list[str]] = {}
    for field in fields:
        values = {value: i for i, value in enumerate(dict.fromkeys(given[field] for given in settings))}
        pattern = tuple(values[given[field]] for given in settings)
        key = pattern if len(values) > 1 else (-1, len(axes))  # a field that does not vary is tied to none
        axes.setdefault(key, []).append(field)
    return [tuple(axis) for axis in axes.values()]


def _together(given: Mapping[str, Value], axis: Sequence[str]) -> Value:
    return given[axis[0]] if len(axis) == 1 else TIE.join(exactly(given[field]) for field in axis)


def axes_of(found: Sequence[Point]) -> list[str]:
    """The axes of a sweep's points, in its order."""
    return list(found[0].values) if found else []


def ordered(found: Sequence[Point], field: str) -> list[Value]:
    """The values of one axis in the order in which the sweep names them."""
    return list(dict.fromkeys(point.values[field] for point in found))


def numbers(values: Sequence[Value]) -> list[float]:
    """The values as numbers, in their order; empty if some are none."""
    known = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return known if len(known) == len(values) else []


def in_order(values: Sequence[Value]) -> list[Value]:
    """Numbers from the smallest on, others as they are: the order on a figure's axis."""
    known = numbers(values)
    return [values[place] for place in sorted(range(len(known)), key=known.__getitem__)] or list(values)


def ranked(found: Sequence[Point]) -> list[Point]:
    """The points that have runs that are done, highest mean validation accuracy first."""
    return sorted(
        (p for p in found if p.accuracy is not None and math.isfinite(p.accuracy.mean)),
        key=lambda p: -p.accuracy.mean if p.accuracy else 0.0,
    )


def shown(value: Value, digits: int = 4) -> str:
    """A value as it is typed, numbers in so many digits.

    Example:
        >>> shown(1e-4), shown(True), shown(None), shown(47_500)
        ('0.0001', 'yes', 'default', '47500')
    """
    if value is None or isinstance(value, bool):
        return {None: "default", True: "yes", False: "no"}[value]
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def exactly(value: Value) -> str:
    """A value in as many digits as tell it from every other.

    Example:
        >>> exactly(0.1), exactly(1 / 3)
        ('0.1', '0.3333333333333333')
    """
    return repr(value) if isinstance(value, float) and float(shown(value)) != value else shown(value)


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Field → its last part, or all of it where two axes end alike.

    Example:
        >>> short_names(["net.depth", "optim.lr"])
        {'net.depth': 'depth', 'optim.lr': 'lr'}
    """
    last = {axis: TIE.join(field.rpartition(".")[2] for field in axis.split(TIE)) for axis in axes}
    return {field: name if list(last.values()).count(name) == 1 else field for field, name in last.items()}


def named(values: Mapping[str, Value]) -> str:
    """Values in words.

    Example:
        >>> named({"net.depth": 8, "optim.lr": 0.001})
        'depth 8, lr 0.001'
    """
    names = short_names(list(values))
    return ", ".join(f"{names[field]} {shown(value)}" for field, value in values.items())
