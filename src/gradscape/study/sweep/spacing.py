"""Values of one field on an axis: a list, or evenly spaced between two ends, on a log scale or not."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

from gradscape.config.fields import checked
from gradscape.config.paths import Value, kind_of, value_in, value_of
from gradscape.errors import ConfigError, brief, nearest

SPACED = {"log": "points", "range": "step"}
MOST = 1_000  # most values of one axis
DIGITS = 3  # significant digits of log-spaced values between the ends, which name the runs, at least


def read_values(name: object, values: object) -> list[Value]:
    """Return the values of one field.

    Args:
        name: Name of the field.
        values: List, `{log: [low, high], points: n}` or `{range: [low, high], step: s}`.

    Raises:
        ConfigError: The field is unknown, or its values cannot be used.
    """
    kind_of(name, "axis")
    assert isinstance(name, str)
    if isinstance(values, Mapping):
        return _spaced_values(name, values)
    if isinstance(values, str) or not isinstance(values, Iterable):
        text = brief(values)
        raise ConfigError(f"axis {name}: expected a list of values, such as [{text}]; got {text}")
    return _counted(name, [value_of(name, each, "axis") for each in islice(values, MOST + 1)])


def values_in(name: str, text: str) -> list[Value]:
    """Return the values of one field in a text.

    Args:
        name: Name of the field.
        text: `a,b,c`, `log:low:high:points` or `range:low:high:step`.

    Raises:
        ConfigError: The field is unknown, or its values cannot be used.
    """
    kind_of(name, "axis")
    how, *numbers = text.split(":")
    if how in SPACED and numbers:
        if len(numbers) != 3:
            raise ConfigError(f"axis {name}: {brief(text)} is not {how}:low:high:{SPACED[how]}")
        low, high = (value_in(name, each, "axis") for each in numbers[:2])
        third = _number_in(numbers[2], f"axis {name}: {SPACED[how]}")
        return _spaced_values(name, {how: [low, high], SPACED[how]: third})
    texts = [each for each in text.split(",") if each]
    return _counted(name, [value_in(name, each, "axis") for each in texts[: MOST + 1]])


def _number_in(text: str, name: str) -> float | int:
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError as error:
        raise ConfigError(f"{name}: expected a number; got {brief(text)}") from error


def _counted(name: str, values: list[Value]) -> list[Value]:
    if not values:
        raise ConfigError(f"axis {name}: expected one or more values; got none")
    if len(values) > MOST:
        raise ConfigError(f"axis {name}: more than {MOST} values; give fewer")
    return values


def _spaced_values(name: str, spacing: Mapping[Any, Any]) -> list[Value]:
    """Return evenly spaced values, on a log scale or not."""
    form = "{log: [low, high], points: n} or {range: [low, high], step: s}"
    for how, third in SPACED.items():
        if set(spacing) == {how, third}:
            ends = spacing[how]
            break
    else:
        wrong = [key for key in map(str, spacing) if key not in {*SPACED, *SPACED.values()}]
        close = nearest(wrong[0], [*SPACED, *SPACED.values()]) if wrong else ""
        raise ConfigError(f"axis {name}: expected {form}; got {brief(dict(spacing))}{close}")
    if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2:
        raise ConfigError(f"axis {name}: {brief(ends)} is not [low, high]; give {form}")
    low, high = (value_of(name, end, "axis") for end in ends)
    if isinstance(low, bool | str | None) or isinstance(high, bool | str | None):
        raise ConfigError(f"axis {name}: only a field of numbers has a range; give a list of values")
    if low < -sys.float_info.max:
        raise ConfigError(f"axis {name}: expected two finite numbers, low, then high; got {low} and {high}")
    if not low < high <= sys.float_info.max:
        raise ConfigError(f"axis {name}: low {low} is not below high {high}; give low, then high")
    if how == "log":
        return _log_spaced(name, low, high, spacing[third])
    return _evenly_spaced(name, low, high, spacing[third])


def _log_spaced(name: str, low: float, high: float, points: object) -> list[Value]:
    count = checked(points, int, f"axis {name}: points")
    assert isinstance(count, int)
    if not 2 <= count <= MOST:
        raise ConfigError(f"axis {name}: points: expected 2 … {MOST}; got {count}")
    if low <= 0:
        raise ConfigError(f"axis {name}: low {low} has no logarithm; give a number above 0")
    inner = [low * (high / low) ** (index / (count - 1)) for index in range(1, count - 1)]
    apart = max((high / low) ** (1 / (count - 1)) - 1, sys.float_info.epsilon)  # relative to a value
    digits = max(DIGITS, math.ceil(1 + math.log10(2 / apart)))  # a quarter of it is rounded off, at most
    rounded = [float(f"{value:.{digits}g}") for value in inner]
    return [low, *(round(value) if isinstance(low, int) else value for value in rounded), high]


def _evenly_spaced(name: str, low: float, high: float, step: object) -> list[Value]:
    """Return values from `low` up to `high`, or to the last value below it."""
    width = checked(step, float, f"axis {name}: step")
    assert isinstance(width, float)
    if not 0 < width < float("inf"):
        raise ConfigError(f"axis {name}: step: expected a number above 0; got {step}")
    if isinstance(low, int) and not width.is_integer():
        raise ConfigError(f"axis {name}: step: expected a whole number; got {step}")
    first, apart = Decimal(str(low)), Decimal(str(width))  # in binary 0.1 + 0.2 is not 0.3
    count = int((Decimal(str(high)) - first) / apart) + 1
    if count > MOST:
        raise ConfigError(f"axis {name}: step: {step} gives more than {MOST} values; give a larger one")
    values = [first + index * apart for index in range(count)]
    return [int(value) for value in values] if isinstance(low, int) else [float(value) for value in values]
