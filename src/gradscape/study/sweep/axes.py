"""Axes of a sweep: fields that vary, alone or together, and where they do.

    net.depth: [8, 20, 38]                                      values
    optim.lr: {log: [1e-4, 1e-2], points: 3}                    low, high; evenly spaced on a log scale
    net.depth: {range: [8, 38], step: 6}                        low, high; evenly spaced
    {batch_size: [50, 100], optim.lr: [1e-3, 2e-3]}             fields that vary together: values pair up
    {net.slope: [0.01, 0.2], where: {net.activation: leaky_relu}}

The same as text: `optim.lr=1e-4,1e-3`, `optim.lr=log:1e-4:1e-2:3`, `net.depth=range:8:38:6`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradscape.config.paths import Value, kind_of, shown, value_in, value_of
from gradscape.errors import ConfigError, brief
from gradscape.study.sweep.spacing import read_values, values_in

Settings = Mapping[str, Value]
Condition = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Axis:
    """One or several fields that vary together.

    Attributes:
        fields: their names.
        rows: for each place on the axis a value per field.
        where: the axis varies only where each of these fields has one of these values; elsewhere its fields
            keep the base's.
    """

    fields: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    where: Condition = field(default_factory=dict)

    def values(self) -> dict[str, list[Value]]:
        """Field → its values in order."""
        return {name: [row[place] for row in self.rows] for place, name in enumerate(self.fields)}

    def at(self, point: Settings, base: Settings) -> list[Settings]:
        """What the axis makes of a point of the axes before it."""
        if not matches(self.where, {**base, **point}):
            return [{**point, **{name: base[name] for name in self.fields}}]
        return [{**point, **dict(zip(self.fields, row, strict=True))} for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a study file."""
        values: dict[str, Any] = {**self.values()}
        return values | ({"where": condition_values(self.where)} if self.where else {})


def axis_of(given: object) -> Axis:
    """An axis from a study file's values.

    Raises:
        ConfigError: an unknown field, no list of values, a value of another type, unequal numbers of values.
    """
    if isinstance(given, Axis):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"axes: {brief(given)} is no axis; give one such as {{net.depth: [8, 20]}}")
    columns = {name: read_values(name, values) for name, values in given.items() if name != "where"}
    if not columns:
        raise ConfigError("axes: one has no field; give one such as {net.depth: [8, 20]}")
    where = condition_of(given["where"], f"axis {', '.join(columns)}: where") if "where" in given else {}
    return _zipped(columns, where)


def axis_in(texts: Sequence[str], flag: str) -> Axis:
    """An axis from texts such as `optim.lr=1e-4,1e-3`; the fields of several vary together.

    Raises:
        ConfigError: as `axis_of` does, and for text that is no such thing.
    """
    columns: dict[str, list[Value]] = {}
    for text in texts:
        name, sign, values = _field_in(text)
        if not sign:
            raise ConfigError(
                f"{flag}: {brief(text)} is not FIELD=VALUES; give one such as optim.lr=1e-4,1e-3"
            )
        if name in columns:
            raise ConfigError(f"{flag}: {name} is given twice; give it once")
        columns[name] = values_in(name, values)
    return _zipped(columns, {})


def _zipped(columns: Mapping[str, list[Value]], where: Condition) -> Axis:
    """Columns side by side, one per field."""
    name = ", ".join(columns)
    counts = {field: len(values) for field, values in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{field} has {count}" for field, count in counts.items())
        raise ConfigError(f"axis {name}: values pair up, but {said}; give equally many")
    if both := [field for field in columns if field in where]:
        raise ConfigError(f"axis {name}: where: {both[0]} is what the axis varies; name another field")
    rows = dict.fromkeys(zip(*columns.values(), strict=True))  # a value given twice is one
    return Axis(tuple(columns), tuple(rows), where)


def condition_of(given: object, where: str) -> Condition:
    """Field → value or list of values, as field → values.

    Raises:
        ConfigError: no mapping, an unknown field, a value of another type.
    """
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{where}: expected fields and values, got {brief(given)}")
    return {
        name: tuple(value_of(name, each, where) for each in (values if is_list(values) else [values]))
        for name, values in given.items()
        if kind_of(name, where)
    }


def condition_in(texts: Sequence[str], flag: str) -> Condition:
    """The same from texts such as `net.depth=38` or `optim.lr=0.01,0.1`."""
    found = {}
    for text in texts:
        name, sign, values = _field_in(text)
        if not sign:
            raise ConfigError(f"{flag}: {brief(text)} is not FIELD=VALUE; give one such as net.depth=38")
        found[name] = tuple(value_in(name, each, flag) for each in values.split(","))
    return found


def _field_in(text: str) -> tuple[str, str, str]:
    """Name, sign and values of `batch_size=5,10`; batch-size, as the flag is spelled, is that field too."""
    name, sign, values = text.partition("=")
    return name.replace("-", "_"), sign, values


def is_list(values: object) -> bool:
    return isinstance(values, Iterable) and not isinstance(values, str)


def condition_values(condition: Condition) -> dict[str, Any]:
    """Plain values: one alone, or a list."""
    return {name: values[0] if len(values) == 1 else list(values) for name, values in condition.items()}


def matches(condition: Condition, point: Settings) -> bool:
    return all(point[name] in values for name, values in condition.items())


def label(point: Settings) -> str:
    """`net.depth=8 optim.lr=0.001`."""
    return " ".join(f"{name}={shown(value)}" for name, value in point.items())
