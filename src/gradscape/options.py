"""Fields of configurations: their help texts, and the one line for a value that cannot be."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

from gradscape.errors import ConfigError, nearest

# Resolving them takes longer than all else in making a configuration.
hints_of: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def option(default: Any, text: str) -> Any:
    """A field with its one-line help text."""
    return field(default=default, metadata={"help": text})


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise the one line every out-of-range setting gets."""
    if not holds:
        raise ConfigError(f"{name}: {value!r} is not possible; {allowed}")


def require_choices(config: Any, section: str = "") -> None:
    """Check every field that is a `Literal` (a caller from Python may pass anything)."""
    for name, kind in hints_of(type(config)).items():
        if typing.get_origin(kind) is Literal:
            value, known = getattr(config, name), typing.get_args(kind)
            if value not in known:
                raise ConfigError(
                    f"{section}{name}: {value!r} is not one of {', '.join(known)}{nearest(str(value), known)}"
                )
