"""Fields of configurations: help texts, types, and the message on a value that cannot be used."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

from gradscape.errors import ConfigError, brief, nearest

# Resolving them takes longer than all else in making a configuration.
hints_of: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
MOST_EPOCHS = 1_000_000
MOST_SEEDS = 10_000
MOST_RUNS = 100_000  # of a study: each is looked at before the first begins
MOST_WORKERS = 1_024
MOST_IMAGES = 60_000  # of the largest data set
MOST_NUMBERS = 1_000_000_000  # of one batch: 4 GB


def option(default: Any, text: str, *bounds: float) -> Any:
    """Return a field with its help text, and for a number its bounds.

    Args:
        default: Default of the field.
        text: Help text, of one line.
        bounds: The least and the greatest number allowed; none for others.
    """
    return field(default=default, metadata={"help": text, "bounds": bounds})


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Refuse a value that is out of range.

    Args:
        holds: True if the value is in range.
        name: Name of the setting.
        value: Value of the setting.
        allowed: Values that are allowed, in words.

    Raises:
        ConfigError: `holds` is false.
    """
    if not holds:
        raise ConfigError(f"{name}: expected {allowed}; got {brief(value)}")


def settle(config: Any, section: str = "") -> None:
    """Check the type of every field, and give equal values one form: 1 and numpy's 1.0 become 1.0.

    Configurations of files, flags and Python all come by here. The form matters because a run is named by the
    text of its values.

    Args:
        config: Frozen dataclass, changed in place.
        section: Prefix of the fields' names in messages, such as `net.`.

    Raises:
        ConfigError: A value is of another type, or none of a field's choices.
    """
    for name, kind in hints_of(type(config)).items():
        value = getattr(config, name)
        if _settled(value, kind):
            continue
        if not dataclasses.is_dataclass(kind):
            object.__setattr__(config, name, checked(value, kind, f"{section}{name}"))
        elif not isinstance(value, typing.cast(type, kind)):
            word = typing.cast(type, kind).__name__
            raise ConfigError(f"{section}{name}: expected a {word}; got {brief(value)}; type: gs.{word}(…)")


def _settled(value: object, kind: Any) -> bool:
    """Check that a value needs no second look, as most do: a sweep makes thousands of configurations."""
    exact, choices = _exactly(kind)
    if value.__class__ is str:
        return value in choices
    return value.__class__ in exact and (value.__class__ is not float or value != 0)


@functools.cache
def _exactly(kind: Any) -> tuple[frozenset[Any], frozenset[Any]]:
    """Return the classes that a field's type admits, and its choices if it has some."""
    if typing.get_origin(kind) is Literal:
        return frozenset(), frozenset(typing.get_args(kind))
    return frozenset(typing.get_args(kind) or (kind,)), frozenset()


def checked(value: object, kind: Any, name: str) -> object:
    """Return a value as a field's type has it: numbers may widen (1 → 1.0), numpy's become Python's.

    Args:
        value: Value of a field.
        kind: Type of the field.
        name: Name of the field, for messages.

    Raises:
        ConfigError: The value is of another type, or none of the choices.
    """
    value = to_python_number(value)
    if typing.get_origin(kind) is Literal:
        known = typing.get_args(kind)
        if not isinstance(value, str) or value not in known:
            raise ConfigError(
                f"{name}: expected one of {', '.join(known)}; got {brief(value)}{nearest(value, known)}"
            )
        return value
    if value is None and types.NoneType in typing.get_args(kind):
        return None
    wanted = next(k for k in typing.get_args(kind) or (kind,) if k is not types.NoneType)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        require(abs(value) <= sys.float_info.max, name, value, "a smaller number")
        value = float(value)
    if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
        raise ConfigError(f"{name}: expected {WORDS[wanted]}; got {brief(value)}")
    return value + 0.0 if isinstance(value, float) else value  # -0.0 would be another text than 0.0


def to_python_number(value: object) -> object:
    """Return Python's own number for one of numpy's or torch's; anything else as it is.

    Args:
        value: Any value.
    """
    alone = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if alone else value  # type: ignore[attr-defined]
