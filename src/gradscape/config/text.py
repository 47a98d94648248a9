"""Values of configurations as text, as command lines and axes have them, and back."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradscape.errors import brief, cut

LONGEST_PATH = 3_500  # bytes: Linux takes 4,096, and names come behind it
LONGEST_NAME = 255  # bytes, of a file: what file systems take


def read(hint: Any, text: str) -> bool | int | float | str:
    """Return the value that a text stands for.

    Args:
        hint: Type of a configuration's field; of a `Literal` any text is read, as the configuration says
            which of its choices it refuses, and why.
        text: Text of one value.

    Raises:
        ValueError: The text is not of that type.
    """
    if typing.get_origin(hint) is typing.Literal:
        return text
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not types.NoneType]
    value: bool | int | float | str = _READERS[kinds[0]](text)
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"expected a whole number; got {brief(text)}") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"expected a number; got {brief(text)}") from error


def _yes_or_no(text: str) -> bool:
    known = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in known:
        raise ValueError(f"expected yes or no; got {brief(text)}")
    return known[text.lower()]


_READERS: Mapping[type, Callable[[str], Any]] = {int: _whole, float: _number, bool: _yes_or_no, str: str}


def path(text: str | Path) -> Path:
    """Return a path, with ~ for the user's own folder, as --out=~/runs reaches us unexpanded.

    Args:
        text: Path, or its text.

    Raises:
        ValueError: The text is empty, or holds a name that no file can have.
    """
    text = str(text)
    if not text.strip():
        raise ValueError("expected a file or folder; got ''; is a variable of the shell unset?")
    if len(os.fsencode(text)) > LONGEST_PATH:
        raise ValueError(
            f"expected {LONGEST_PATH:,} bytes at most; got {len(os.fsencode(text)):,}: {cut(text)}"
        )
    if long := [part for part in text.split(os.sep) if len(os.fsencode(part)) > LONGEST_NAME]:
        raise ValueError(
            f"expected names of {LONGEST_NAME} bytes at most; got {len(long[0])} letters: {cut(long[0])}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"expected a file or folder; got {cut(text)}: {error}") from error


def display(value: object) -> str:
    """Return the text of a value, `yes` or `no` for a truth value.

    Args:
        value: Value of a field.
    """
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"net": {"depth": 38}}` for `{"net.depth": 38}`.

    Args:
        values: Value per dotted name.
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        here = result
        for key in path:
            here = here.setdefault(key, {})
        here[last] = value
    return result
