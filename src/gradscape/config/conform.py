"""Values that were read from a file, held against the types that the code relies on."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gradscape.config.fields import hints_of


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is of a type: numbers, text, sequences, mappings, records of such, one of several.

    Whole numbers count as numbers, truth values do not. A record's field of another type is not looked into.

    Example:
        >>> conforms({"loss": (0.5, 1)}, Mapping[str, tuple[float, ...]])
        True
    """
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is Literal:
        return value in inner
    if kind in (types.UnionType, typing.Union):
        return any(conforms(value, each) for each in inner)
    if kind is tuple and inner[-1] is not ...:
        fits = isinstance(value, tuple) and len(value) == len(inner)
        return fits and all(map(conforms, value, inner))
    if kind in (tuple, list, Sequence):
        return isinstance(value, tuple if kind is tuple else list) and all_conform(value, inner[0])
    if kind is Mapping:
        return (
            isinstance(value, Mapping)
            and all_conform(value, inner[0])
            and all_conform(value.values(), inner[1])
        )
    if dataclasses.is_dataclass(hint):
        return isinstance(value, typing.cast(type, hint)) and not misfits(vars(value), hints_of(hint))
    return is_a(value, hint)


def is_a(value: Any, hint: Any) -> bool:
    if hint in (float, int):
        return type(value) in ((float, int) if hint is float else (int,))
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def all_conform(values: Any, hint: Any) -> bool:
    if hint is float:  # of the long columns, in one pass of the interpreter's own
        return set(map(type, values)) <= {float, int}
    return all(conforms(value, hint) for value in values)


def misfits(values: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    """Names of the values that are not of their types; what has no type is let pass."""
    return [name for name, value in values.items() if name in hints and not conforms(value, hints[name])]


def require_types(values: Mapping[str, Any], hints: Mapping[str, Any], needed: Sequence[str] = ()) -> None:
    """Refuse plain values that lack what is needed, or have something of another type.

    Raises:
        ValueError: names it.
    """
    if absent := [name for name in needed if name not in values]:
        raise ValueError(f"it has no {absent[0]}")
    if wrong := misfits(values, hints):
        raise ValueError(f"{wrong[0]} is of another type")


def require_record(record: Any) -> None:
    """Refuse a frozen record with a field of another type.

    Raises:
        ValueError: names it.
    """
    require_types(vars(record), hints_of(type(record)))
