"""All combinations of a sweep's axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradscape.config.paths import shown
from gradscape.errors import ConfigError, brief, nearest
from gradscape.study.sweep.axes import Axis, Condition, Settings, axis_of, is_list, label, matches

MOST = 10_000  # points: each is checked when a study is made


def listed(given: object, name: str) -> list[Any]:
    if isinstance(given, Mapping) or not is_list(given):
        raise ConfigError(f"{name}: expected a list of mappings, got {brief(given)}")
    try:
        return list(given)  # type: ignore[call-overload, no-any-return]
    except TypeError as error:  # a tensor of no dimension says that it can be gone through
        raise ConfigError(f"{name}: expected a list of mappings, got {brief(given)}") from error


def read_axes(given: object) -> tuple[Axis, ...]:
    """Axes of which no two vary one field, and none depends on a later one."""
    axes = tuple(axis_of(each) for each in listed(given, "axes"))
    if not axes:
        raise ConfigError("axes: none are given; give one such as --axis optim.lr=1e-4,1e-3")
    fields = [field for axis in axes for field in axis.fields]
    for place, field in enumerate(fields):
        if field in fields[:place]:
            raise ConfigError(f"axis {field}: two axes vary it; give all its values in one")
    for place, axis in enumerate(axes):
        later = [field for other in axes[place:] for field in other.fields if field in axis.where]
        if later:
            raise ConfigError(
                f"axis {', '.join(axis.fields)}: where: a later axis varies {later[0]}; put it first"
            )
    return axes


def combined(axes: Sequence[Axis], base: Settings) -> list[Settings]:
    """All combinations, the last axis varying fastest."""
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
        points = [found for point in points for found in axis.at(point, base)]
    return points


def require_excluded(condition: Condition, points: Sequence[Settings]) -> None:
    """Refuse what can match no point: a slip, not a wish."""
    for name, values in condition.items():
        if name not in points[0]:
            known = ", ".join(points[0])
            raise ConfigError(f"exclude: {name} is on no axis; known here: {known}{nearest(name, points[0])}")
        known_values = list(dict.fromkeys(point[name] for point in points))
        for value in values:
            if value not in known_values:
                has = ", ".join(map(shown, known_values))
                raise ConfigError(f"exclude: {name} never is {shown(value)}; its values are {has}")
