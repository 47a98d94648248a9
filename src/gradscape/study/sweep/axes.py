"""Axes of a sweep: fields that vary, alone or together, and the conditions under which they do.

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

from gradscape.config.paths import Value, format_value, kind_of, value_in, value_of
from gradscape.errors import ConfigError, brief
from gradscape.study.sweep.spacing import read_values, values_in

Settings = Mapping[str, Value]
Condition = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Axis:
    """One or several fields that vary together.

    Attributes:
        fields: Names of the fields.
        rows: A value per field, for each position on the axis.
        where: Values per field under which the axis varies; elsewhere its fields have the base's values.
    """

    fields: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    where: Condition = field(default_factory=dict)

    def values(self) -> dict[str, list[Value]]:
        """Return the values of each field, in order."""
        return {name: [row[column] for row in self.rows] for column, name in enumerate(self.fields)}

    def at(self, point: Settings, base: Settings) -> list[Settings]:
        """Return the points that the axis makes of one point of the axes before it.

        Args:
            point: Value per field of the axes before it.
            base: Value per field of the base.
        """
        if not matches(self.where, {**base, **point}):
            return [{**point, **{name: base[name] for name in self.fields}}]
        return [{**point, **dict(zip(self.fields, row, strict=True))} for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in a study file."""
        values: dict[str, Any] = {**self.values()}
        return values | ({"where": condition_values(self.where)} if self.where else {})


def axis_of(value: object) -> Axis:
    """Return the axis of a study file's value.

    Args:
        value: Mapping of fields to their values, with an optional `where`; an `Axis` is returned unchanged.

    Raises:
        ConfigError: A field is unknown, its values are not a list or of another type, or their numbers
            differ.
    """
    if isinstance(value, Axis):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"axes: expected an axis such as {{net.depth: [8, 20]}}; got {brief(value)}")
    columns = {name: read_values(name, values) for name, values in value.items() if name != "where"}
    if not columns:
        raise ConfigError("axes: expected an axis such as {net.depth: [8, 20]}; got one without a field")
    where = condition_of(value["where"], f"axis {', '.join(columns)}: where") if "where" in value else {}
    return _zipped(columns, where)


def axis_in(texts: Sequence[str], flag: str) -> Axis:
    """Return the axis of texts such as `optim.lr=1e-4,1e-3`; the fields of several vary together.

    Args:
        texts: FIELD=VALUES, one per field.
        flag: Name of the flag, for messages.

    Raises:
        ConfigError: See `axis_of`; or a text is not FIELD=VALUES.
    """
    columns: dict[str, list[Value]] = {}
    for text in texts:
        name, sign, values = _field_in(text)
        if not sign:
            raise ConfigError(f"{flag}: expected FIELD=VALUES, such as optim.lr=1e-4,1e-3; got {brief(text)}")
        if name in columns:
            raise ConfigError(f"{flag}: {name} is given twice; give it once")
        columns[name] = values_in(name, values)
    return _zipped(columns, {})


def _zipped(columns: Mapping[str, list[Value]], where: Condition) -> Axis:
    """Return the axis of columns side by side, one per field."""
    name = ", ".join(columns)
    counts = {field: len(values) for field, values in columns.items()}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{field} has {count}" for field, count in counts.items())
        raise ConfigError(f"axis {name}: values pair up, but {numbers}; give equally many")
    if both := [field for field in columns if field in where]:
        raise ConfigError(f"axis {name}: where: {both[0]} is what the axis varies; name another field")
    rows = dict.fromkeys(zip(*columns.values(), strict=True))  # equal rows are one point
    return Axis(tuple(columns), tuple(rows), where)


def condition_of(value: object, where: str) -> Condition:
    """Return the values per field of a mapping of fields to a value or a list of values.

    Args:
        value: Mapping of a study file.
        where: Place in the file, for messages.

    Raises:
        ConfigError: It is not a mapping, a field is unknown, or a value is of another type.
    """
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"{where}: expected fields and values; got {brief(value)}")
    return {
        name: tuple(value_of(name, each, where) for each in (values if is_list(values) else [values]))
        for name, values in value.items()
        if kind_of(name, where)
    }


def condition_in(texts: Sequence[str], flag: str) -> Condition:
    """Return the condition of texts such as `net.depth=38` or `optim.lr=0.01,0.1`.

    Args:
        texts: FIELD=VALUE or FIELD=VALUES, one per field.
        flag: Name of the flag, for messages.

    Raises:
        ConfigError: A text is not FIELD=VALUE, a field is unknown, or a value is of another type.
    """
    condition = {}
    for text in texts:
        name, sign, values = _field_in(text)
        if not sign:
            raise ConfigError(f"{flag}: expected FIELD=VALUE, such as net.depth=38; got {brief(text)}")
        condition[name] = tuple(value_in(name, each, flag) for each in values.split(","))
    return condition


def _field_in(text: str) -> tuple[str, str, str]:
    """Return name, sign and values of `batch_size=5,10`; `batch-size`, as in the flag, is that field too."""
    name, sign, values = text.partition("=")
    return name.replace("-", "_"), sign, values


def is_list(values: object) -> bool:
    """Check that values can be iterated and are not text.

    Args:
        values: Value or values of a field.
    """
    return isinstance(values, Iterable) and not isinstance(values, str)


def condition_values(condition: Condition) -> dict[str, Any]:
    """Return a condition as plain values: one alone, or a list.

    Args:
        condition: Values per field.
    """
    return {name: values[0] if len(values) == 1 else list(values) for name, values in condition.items()}


def matches(condition: Condition, point: Settings) -> bool:
    """Check that a point has one of the values of each field.

    Args:
        condition: Values per field.
        point: Value per field.
    """
    return all(point[name] in values for name, values in condition.items())


def label(point: Settings) -> str:
    """Return a point in words, such as `net.depth=8 optim.lr=0.001`.

    Args:
        point: Value per field.
    """
    return " ".join(f"{name}={format_value(value)}" for name, value in point.items())
