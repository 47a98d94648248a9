"""Options of a command, for the command line and for Python: checked once, named as the flags are.

@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    seeds: int = option(3, "seeds of the signal", 1, 1_000)

CheckOptions(seeds=0)        ConfigError: --seeds: expected 1 … 1,000; got 0
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gradscape.config.fields import WORDS, checked, hints_of
from gradscape.config.text import path
from gradscape.errors import ConfigError, brief

MOST_SECONDS = 1e9  # three decades
FilePath: TypeAlias = str | Path
LandscapeStatistics = Literal["running", "batch", "recalibrated"]  # of BatchNorm, at a point


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of frozen options, whose values are checked against their fields' types and bounds."""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for field in dataclasses.fields(self):
            flag, value = _flag_of(field.name), getattr(self, field.name)
            kinds = typing.get_args(hints[field.name])
            if value is not None and Path in kinds:
                object.__setattr__(self, field.name, checked_path(value, flag))
            elif _scalar(hints[field.name]):
                object.__setattr__(self, field.name, checked(value, hints[field.name], flag))
            if (bounds := field.metadata.get("bounds")) and value is not None:
                _require_within(value, bounds, flag)


def _flag_of(name: str) -> str:
    """Return `--batch-size` for `batch_size`."""
    return f"--{name.replace('_', '-')}"


def checked_path(value: FilePath, name: str) -> Path:
    """Return a path, with ~ for the user's own folder.

    Args:
        value: Path, or its text.
        name: Name of the flag, for messages.

    Raises:
        ConfigError: The text is empty, or no file can have that name.
    """
    try:
        return path(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _require_within(value: Any, bounds: tuple[float, float], name: str) -> None:
    """Refuse a number beyond its bounds, or NaN; fractions must lie above the lower bound."""
    low, high = bounds
    fraction = isinstance(value, float)
    if (low < value < math.inf if fraction else low <= value) and value <= high:
        return
    unit = "seconds" if high == MOST_SECONDS else "a number"
    most = f", {high:g} at most" if value > high else ""
    allowed = f"{unit} above {low:g}{most}" if fraction else f"{low} … {high:,}"
    received = f"{value:g}" if fraction else brief(value)
    raise ConfigError(f"{name}: expected {allowed}; got {received}")


def _scalar(hint: Any) -> bool:
    if typing.get_origin(hint) in (Literal, tuple):
        return typing.get_origin(hint) is Literal
    kinds = typing.get_args(hint) or (hint,)
    return all(kind in WORDS or kind is types.NoneType for kind in kinds)
