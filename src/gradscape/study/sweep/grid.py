"""All combinations of a sweep's axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradscape.config.paths import format_value
from gradscape.errors import ConfigError, brief, nearest
from gradscape.study.sweep.axes import Axis, Condition, Settings, axis_of, is_list, label, matches

MOST = 10_000  # points: each is checked when a study is made


def listed(value: object, name: str) -> list[Any]:
    """Return a value as a list of mappings.

    Args:
        value: Value of a study file.
        name: Its key, for messages.

    Raises:
        ConfigError: The value is not a list.
    """
    if isinstance(value, Mapping) or not is_list(value):
        raise ConfigError(f"{name}: expected a list of mappings; got {brief(value)}")
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]
    except TypeError as error:  # a tensor without dimensions is an Iterable that cannot be iterated
        raise ConfigError(f"{name}: expected a list of mappings; got {brief(value)}") from error


def read_axes(value: object) -> tuple[Axis, ...]:
    """Return axes of which no two vary one field, and none depends on a later one.

    Args:
        value: List of axes, as in a study file.

    Raises:
        ConfigError: There are no axes, two vary one field, or one depends on a later one.
    """
    axes = tuple(axis_of(each) for each in listed(value, "axes"))
    if not axes:
        raise ConfigError("axes: expected one or more, such as --axis optim.lr=1e-4,1e-3; got none")
    fields = [field for axis in axes for field in axis.fields]
    for index, field in enumerate(fields):
        if field in fields[:index]:
            raise ConfigError(f"axis {field}: two axes vary it; give all its values in one")
    for index, axis in enumerate(axes):
        later = [field for other in axes[index:] for field in other.fields if field in axis.where]
        if later:
            raise ConfigError(
                f"axis {', '.join(axis.fields)}: where: a later axis varies {later[0]}; put it first"
            )
    return axes


def combined(axes: Sequence[Axis], base: Settings) -> list[Settings]:
    """Return all combinations of the axes' values, the last axis varying fastest.

    Args:
        axes: Axes of the sweep.
        base: Value per field of the base.

    Raises:
        ConfigError: There are too many combinations, or a condition never holds.
    """
    count = math.prod(len(axis.rows) for axis in axes)
    if count > MOST:
        raise ConfigError(f"axes: {count:,} combinations are too many; give at most {MOST:,}")
    points: list[Settings] = [{}]
    for axis in axes:
        if not any(matches(axis.where, {**base, **point}) for point in points):
            held = label({name: base[name] for name in axis.where if name in base})
            raise ConfigError(
                f"axis {', '.join(axis.fields)}: where: it never holds (base: {held}); change it"
            )
        points = [extended for point in points for extended in axis.at(point, base)]
    return points


def require_excluded(condition: Condition, points: Sequence[Settings]) -> None:
    """Check that an exclusion can match a point: one that cannot is a slip.

    Args:
        condition: Values per field of the points to leave out.
        points: All points of the sweep.

    Raises:
        ConfigError: A field is on no axis, or never has the value.
    """
    for name, values in condition.items():
        if name not in points[0]:
            known = ", ".join(points[0])
            raise ConfigError(f"exclude: {name} is on no axis; known here: {known}{nearest(name, points[0])}")
        known_values = list(dict.fromkeys(point[name] for point in points))
        for value in values:
            if value not in known_values:
                has = ", ".join(map(format_value, known_values))
                raise ConfigError(f"exclude: {name} never is {format_value(value)}; its values are {has}")
