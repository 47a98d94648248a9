"""Fields that a sweep may vary, and their values: checked, read from text, formatted.

They are all leaves of `RunConfig` but the seed, named as the command line's flags are, and two controls for a
sweep over batch sizes (`gradscape.study.sweep.batch_size_controls`).
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from gradscape.config.fields import checked, to_python_number
from gradscape.config.run import RunConfig
from gradscape.config.text import display, read
from gradscape.errors import ConfigError, brief, cut, nearest

Value = bool | int | float | str | None
Scaling = Literal["none", "linear", "sqrt"]
CONTROLS: Mapping[str, Any] = {"equal_updates": bool, "scale_lr": Scaling}
DEFAULT = "default"  # in text, for None: what follows from the rest of the configuration


def _leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Value]]:
    """Yield dotted name, type and default of every field of a configuration."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _leaves(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hint, typing.cast(Value, field.default)


SETTINGS = {name: hint for name, hint, _ in _leaves(RunConfig) if name != "seed"}
DEFAULTS = {name: default for name, _, default in _leaves(RunConfig) if name != "seed"}
FIELDS = {**SETTINGS, **CONTROLS}


def kind_of(name: object, where: str) -> Any:
    """Return the type of a field.

    Args:
        name: Dotted name of the field.
        where: Place of the name, for messages, such as `--axis`.

    Raises:
        ConfigError: There is no such field, or it is the seed.
    """
    if name == "seed":
        raise ConfigError(f"{where}: seed: give seeds, with --seeds")
    if not isinstance(name, str) or name not in FIELDS:
        last = [known for known in FIELDS if known.split(".")[-1] == name]
        close = f"; did you mean {last[0]!r}?" if last else nearest(name, FIELDS)
        cure = close or "; gradscape sweep --help lists them"
        raise ConfigError(f"{where}: no such field: {cut(name)}{cure}")
    return FIELDS[name]


def value_of(name: str, value: object, where: str) -> Value:
    """Return a value as its field has it: 1 may widen to 1.0, numpy's numbers become Python's.

    Args:
        name: Dotted name of the field.
        value: Value of the field.
        where: Place of the value, for messages.

    Raises:
        ConfigError: There is no such field, or the value has another type.
    """
    kind = kind_of(name, where)
    value = to_python_number(value)
    if typing.get_origin(kind) is Literal and name not in CONTROLS and isinstance(value, str):
        return value  # the configuration says which of its choices go together, and why one is refused
    return typing.cast(Value, checked(value, kind, f"{where} {name}".strip()))


def value_in(name: str, text: str, where: str) -> Value:
    """Return the value of a field that a text on the command line stands for.

    Args:
        name: Dotted name of the field.
        text: Text of the value; `default` for None.
        where: Place of the text, for messages.

    Raises:
        ConfigError: There is no such field, or the text is not of its type.
    """
    kind = kind_of(name, where)
    if text == DEFAULT and type(None) in typing.get_args(kind):
        return None
    try:
        value = read(kind, text)
    except ValueError as error:
        raise ConfigError(f"{where} {name}: {error}") from error
    return value_of(name, value, where)


def format_value(value: Value) -> str:
    """Return the text of a value in a label: short, and no other value's.

    Args:
        value: Value of a field.

    Example:
        >>> format_value(0.001), format_value(True), format_value(None)
        ('0.001', 'yes', 'default')
    """
    if value is None:
        return DEFAULT
    if isinstance(value, float):
        brief = f"{value:g}"
        return brief if float(brief) == value else repr(value)
    return display(value)


def flat(values: object, where: str, prefix: str = "") -> dict[str, object]:
    """Return the value per dotted name of nested values, in the fields' order, without controls and seed.

    Args:
        values: Mapping of fields, nested or dotted, to their values.
        where: Place of the values, for messages.
        prefix: Prefix of the names, such as `net.`.

    Raises:
        ConfigError: There is no such field, or a value where fields are expected.
    """
    if not isinstance(values, Mapping):
        place = f"{where}.{prefix}".rstrip(".")
        raise ConfigError(f"{place}: expected keys and values; got {brief(values)}")
    leaves: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) or any(known.startswith(f"{name}.") for known in SETTINGS):
            leaves |= flat(value, where, f"{name}.")
        elif name in CONTROLS:
            raise ConfigError(f"{where}: {name} stands beside {where}, not in it")
        elif kind_of(name, where):
            leaves[name] = value
    return {name: leaves[name] for name in SETTINGS if name in leaves}
