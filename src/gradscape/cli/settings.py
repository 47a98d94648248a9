"""Flags for the settings of a run, such as `--net.depth`; without a flag a file's value stays."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Container, Iterator
from functools import partial
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from gradscape.config.fields import hints_of
from gradscape.config.paths import SETTINGS, Value
from gradscape.config.run import RunConfig
from gradscape.config.text import display, read
from gradscape.errors import ConfigError

_TITLES = {"net": "Network", "data": "Data", "optim": "Optimizer"}
_METAVARS = {int: "N", float: "X"}


def _flags_of(kind: type, group: Group, hidden: Container[str] = ()) -> type:
    """Return a class with the same fields, whose values are text, or None for a flag that is absent.

    Args:
        kind: Dataclass of settings.
        group: Heading of its flags in `--help`.
        hidden: Names of its fields that `--help` and completion leave out.
    """
    fields: list[tuple[str, Any, Any]] = []
    for number, field in enumerate(dataclasses.fields(kind)):
        hint = hints_of(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            inner = _flags_of(typing.cast(type, hint), Group(_TITLES[field.name], sort_key=50 + number))
            fields.append((field.name, inner, dataclasses.field(default_factory=inner)))
            continue
        choices = _choices(hint)
        parameter = Parameter(
            help=field.metadata["help"],
            metavar="|".join(choices) if choices else _METAVARS[_kind_of(hint)],
            choices=choices or None,
            show_choices=False,
            show_default=False if field.default is None else partial(_display, field.default),
            group=group,
            negative=(),
            allow_repeating=True,
            show=field.name not in hidden,
        )
        fields.append((field.name, Annotated[str | None, parameter], dataclasses.field(default=None)))
    module = {"__module__": __name__}  # or it counts as a type of Python's own
    return dataclasses.make_dataclass(
        f"{kind.__name__}Flags", fields, namespace=module, frozen=True, kw_only=True
    )


def _kind_of(hint: Any) -> Any:
    return next(kind for kind in typing.get_args(hint) or (hint,) if kind is not types.NoneType)


def _choices(hint: Any) -> tuple[str, ...]:
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return ("yes", "no") if _kind_of(hint) is bool else ()


def _display(default: Any, _: object) -> str:
    return display(default)


RunFlags: Any = _flags_of(RunConfig, Group("Run", sort_key=40))
# Of runs that have a seed each.
SharedFlags: Any = _flags_of(RunConfig, Group("Run", sort_key=40), hidden=("seed",))


def settings_given(flags: Any) -> dict[str, Value]:
    """Return the value per dotted name of the settings whose flags are on the command line.

    Args:
        flags: Values of `RunFlags` or `SharedFlags`.

    Raises:
        ConfigError: A text is not of the setting's type.
    """
    return dict(_given(flags, ""))


def _given(flags: Any, prefix: str) -> Iterator[tuple[str, Value]]:
    for field in dataclasses.fields(flags):
        name, value = f"{prefix}{field.name}", getattr(flags, field.name)
        if dataclasses.is_dataclass(value):
            yield from _given(value, f"{name}.")
        elif value is not None:
            try:
                yield name, read({**SETTINGS, "seed": int}[name], value)
            except ValueError as error:
                raise ConfigError(f"--{name.replace('_', '-')}: {error}") from error
