"""Points of a sweep: their settings, their runs, and the values and words that stand for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradscape.analysis.outcomes import final, members
from gradscape.config.paths import Value
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.stats.student_t import Interval, interval

TIE = " / "  # between the fields of one axis, and between their values


@dataclass(frozen=True)
class Point:
    """One setting of a sweep's axes.

    Attributes:
        label: Role of its runs.
        settings: Value per field, of every field that varies.
        values: Value per axis; fields that vary only together are one axis, such as `batch_size / optim.lr`.
        runs: Run per seed; None where a run has no folder yet.
        identities: Identities of its runs; two points may share them.
    """

    label: str
    settings: Mapping[str, Value]
    values: Mapping[str, Value]
    runs: Mapping[int, RunRecord | None]
    identities: tuple[str, ...]

    @cached_property
    def accuracies(self) -> dict[int, float]:
        """Final validation accuracy per seed, 0 to 1, of the runs that are done."""
        return self.finals("valid_accuracy")

    @cached_property
    def accuracy(self) -> Interval | None:
        """Interval of the accuracy over seeds; None without a run that is done."""
        return interval(list(self.accuracies.values())) if self.accuracies else None

    @property
    def complete(self) -> bool:
        """True if all its runs are done."""
        return len(self.accuracies) == len(self.runs)

    def finals(self, field: str) -> dict[int, float]:
        """Return the final value per seed of one `EpochRecord` field, of the runs that are done.

        Args:
            field: Name of the field.
        """
        done = {seed: run for seed, run in self.runs.items() if run is not None and run.state == "done"}
        return {seed: final(run, field).mean for seed, run in done.items()}

    def others(self, axis: str) -> tuple[Value, ...]:
        """Return its values on all other axes.

        Args:
            axis: Name of the axis to leave out.
        """
        return tuple(value for name, value in self.values.items() if name != axis)


def points(study: StudyRecord) -> list[Point]:
    """Return all points of a sweep, in the order of its axes' values.

    Args:
        study: Record of a sweep.

    Example:
        >>> [point.label for point in points(gradscape.load("runs/sweep"))][:1]
        ['net.depth=8 optim.lr=0.001']
    """
    axes = _tied([role.parameters for role in study.roles.values()], study.asked["axes"])
    unordered = [
        Point(
            label=role.name,
            settings={field: role.parameters[field] for field in study.asked["axes"]},
            values={TIE.join(axis): _tied_value(role.parameters, axis) for axis in axes},
            runs=members(study, role.name),
            identities=role.runs,
        )
        for role in study.roles.values()
    ]
    ranks = {
        axis: {value: i for i, value in enumerate(ordered(unordered, axis))} for axis in axes_of(unordered)
    }
    return sorted(unordered, key=lambda p: tuple(ranks[axis][value] for axis, value in p.values.items()))


def _tied(settings: Sequence[Mapping[str, Value]], fields: Sequence[str]) -> list[tuple[str, ...]]:
    """Group fields to axes: fields of one axis take several values, but never one without the other's same.

    Example:
        >>> _tied([{"a": 1, "b": 2, "c": 5}, {"a": 3, "b": 4, "c": 5}], ["a", "b", "c"])
        [('a', 'b'), ('c',)]
    """
    axes: dict[tuple[int, ...], list[str]] = {}
    for field in fields:
        values = {value: i for i, value in enumerate(dict.fromkeys(point[field] for point in settings))}
        pattern = tuple(values[point[field]] for point in settings)
        key = pattern if len(values) > 1 else (-1, len(axes))  # a field that does not vary is tied to none
        axes.setdefault(key, []).append(field)
    return [tuple(axis) for axis in axes.values()]


def _tied_value(settings: Mapping[str, Value], axis: Sequence[str]) -> Value:
    return settings[axis[0]] if len(axis) == 1 else TIE.join(exactly(settings[field]) for field in axis)


def axes_of(chosen: Sequence[Point]) -> list[str]:
    """Return the names of a sweep's axes, in its order.

    Args:
        chosen: Points of the sweep.
    """
    return list(chosen[0].values) if chosen else []


def ordered(chosen: Sequence[Point], axis: str) -> list[Value]:
    """Return the values of one axis in the order in which the sweep names them.

    Args:
        chosen: Points of the sweep.
        axis: Name of the axis.
    """
    return list(dict.fromkeys(point.values[axis] for point in chosen))


def numbers(values: Sequence[Value]) -> list[float]:
    """Return the values as numbers, in their order; empty if some are not numbers.

    Args:
        values: Values of an axis.
    """
    floats = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return floats if len(floats) == len(values) else []


def in_order(values: Sequence[Value]) -> list[Value]:
    """Return the values in the order of a figure's axis: numbers rising, others unchanged.

    Args:
        values: Values of an axis.
    """
    floats = numbers(values)
    return [values[index] for index in sorted(range(len(floats)), key=floats.__getitem__)] or list(values)


def ranked(chosen: Sequence[Point]) -> list[Point]:
    """Return the points that have runs that are done, highest mean validation accuracy first.

    Args:
        chosen: Points of a sweep.
    """
    return sorted(
        (p for p in chosen if p.accuracy is not None and math.isfinite(p.accuracy.mean)),
        key=lambda p: -p.accuracy.mean if p.accuracy else 0.0,
    )


def format_setting(value: Value, digits: int = 4) -> str:
    """Return a value as it is typed.

    Args:
        value: Value of a setting.
        digits: Number of significant digits of a number.

    Example:
        >>> format_setting(1e-4), format_setting(True), format_setting(None), format_setting(47_500)
        ('0.0001', 'yes', 'default', '47500')
    """
    if value is None or isinstance(value, bool):
        return {None: "default", True: "yes", False: "no"}[value]
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def exactly(value: Value) -> str:
    """Return a value in as many digits as distinguish it from every other.

    Args:
        value: Value of a setting.

    Example:
        >>> exactly(0.1), exactly(1 / 3)
        ('0.1', '0.3333333333333333')
    """
    return (
        repr(value)
        if isinstance(value, float) and float(format_setting(value)) != value
        else format_setting(value)
    )


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Return the last part of each field's name, or all of it where two axes end alike.

    Args:
        axes: Names of the axes.

    Example:
        >>> short_names(["net.depth", "optim.lr"])
        {'net.depth': 'depth', 'optim.lr': 'lr'}
    """
    last = {axis: TIE.join(field.rpartition(".")[2] for field in axis.split(TIE)) for axis in axes}
    return {field: name if list(last.values()).count(name) == 1 else field for field, name in last.items()}


def named(values: Mapping[str, Value]) -> str:
    """Return values in words.

    Args:
        values: Value per axis.

    Example:
        >>> named({"net.depth": 8, "optim.lr": 0.001})
        'depth 8, lr 0.001'
    """
    names = short_names(list(values))
    return ", ".join(f"{names[field]} {format_setting(value)}" for field, value in values.items())
