"""Configurations to and from plain nested values and files.

No library does this part: of those tried (`benchmarks/codecs.py`) the fast one passes over unknown keys of a
dataclass, none names the nearest one, and every configuration checks its own types anyway, for those who make
one in Python. What is read is held against the fields here; `gradscape.config.schema` has the same as JSON
Schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from gradscape.config.fields import hints_of
from gradscape.config.plain_yaml import read_as
from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError, brief, cut, nearest

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return plain nested values, every default written out.

    Args:
        config: Configuration.
    """
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: object, section: str = "") -> T:
    """Build a configuration from plain nested values.

    Args:
        kind: Class of the configuration, such as `RunConfig`.
        values: Mapping of its fields; missing ones keep their defaults.
        section: Place of the values, for messages.

    Returns:
        The configuration.

    Raises:
        ConfigError: A key is unknown (the message has the nearest known one), or a value cannot be used.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section or 'configuration'}: expected keys and values; got {brief(values)}")
    hints = hints_of(kind)
    prefix = f"{section}." if section else ""
    for key in values:
        if key not in hints:
            raise ConfigError(
                f"{prefix}{cut(key)}: no such setting; known here: {', '.join(hints)}{nearest(key, hints)}"
            )
    built = {
        key: from_dict(hints[key], value, f"{prefix}{key}") if is_dataclass(hints[key]) else value
        for key, value in values.items()
    }
    return kind(**built)


def read_config(path: Path) -> RunConfig:
    """Read a `RunConfig` from a YAML or JSON file (JSON is YAML), which may be a run's own `config.json`.

    Args:
        path: Path of the file.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds a setting that cannot be used.
    """
    return read_as(path, "configuration", lambda values: from_dict(RunConfig, _settings(values)))


def _settings(values: object) -> object:
    """Return the settings of a file; those of a run's own file stand beside its format and checksum."""
    if values is None:
        return {}
    of_a_run = isinstance(values, Mapping) and {"format", "run", "config"} <= values.keys()
    return values["config"] if of_a_run else values  # type: ignore[index]
