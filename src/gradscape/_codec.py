"""Records to and from the plain values of JSON: one codec over their type hints, one spelling of NaN.

JSON has no number for what is not finite: in every file NaN and infinity are the texts "NaN", "Infinity" and
"-Infinity", as in JSON of Protocol Buffers, and as `float` in Python and `Number` in JavaScript read them.
Arrays are lists.

Reading is msgspec's. Of three libraries (`benchmarks/codecs.py`, results beside it) it is imported and ready
in 36 ms where cattrs takes 141 and pydantic 331, reads an epoch's gradient flow as fast as pydantic and eight
times as fast as cattrs, and lets no truth value or text pass for a number, as cattrs does; it names the path
of what is wrong, and makes JSON Schemas. Writing is ours: msgspec writes null for NaN and infinity.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradscape._text import COMMANDS

T = TypeVar("T")
UNPRINTED = re.compile(rf"{COMMANDS.pattern}|[\ud800-\udfff]")
SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class _Short(reprlib.Repr):
    """Representations of a few words: of long tuples and texts their ends, of arrays the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxdict = 6
        self.maxstring, self.maxother = 100, 160

    def repr_ndarray(self, value: NDArray[Any], level: int) -> str:
        return f"array{value.shape}"


_SHORT = _Short()


class Record:
    """Base of dataclasses that are written to JSON, with what is derived from their fields."""

    def __repr__(self) -> str:
        """Return the fields, long ones cut, for those that can be long (`repr=False`)."""
        named = (f"{each.name}={_SHORT.repr(getattr(self, each.name))}" for each in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(named)})"

    def __eq__(self, other: object) -> bool:
        """Return True if both are of one type and written alike, for those with arrays (`eq=False`)."""
        return type(other) is type(self) and bool(encode(self) == encode(other))

    def derived(self) -> Mapping[str, Any]:
        """Return values that follow from the fields, per name; they are not stored."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and texts: derived values, then the fields."""
        plain: dict[str, Any] = encode(self, derived=True)
        return plain


def encode(value: Any, derived: bool = False) -> Any:
    """Return plain values.

    Args:
        value: Record, array, mapping, list, or anything plain.
        derived: True to add what is derived from the fields of records.
    """
    if isinstance(value, np.ndarray):
        plain = value.tolist()
        return plain if np.isfinite(value).all() else encode(plain)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dataclass(value):
        more: Mapping[str, Any] = value.derived() if derived and isinstance(value, Record) else {}
        return encode({**more, **{each.name: getattr(value, each.name) for each in fields(value)}}, derived)
    if isinstance(value, Mapping):
        return {key: encode(each, derived) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [encode(each, derived) for each in value]
    return value


def json_text(values: Any) -> str:
    r"""Return plain values as JSON that is valid UTF-8 and that no terminal obeys.

    Control characters are escaped; half a surrogate pair, which UTF-8 does not have, becomes �.

    Args:
        values: What `encode` returned.

    Example:
        >>> print(json_text({"layer": "a\x9b\udcff"}))
        {
         "layer": "a\u009b�"
        }
    """
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    return UNPRINTED.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def decode(kind: type[T] | Any, values: Any) -> T:
    """Build a record, or any type that annotations can name, from plain values.

    Whole numbers count as numbers; keys that a record does not have are passed over.

    Args:
        kind: Type to build, such as `EpochRecord` or `Mapping[str, CurvatureRecord]`.
        values: What `encode` returned, or JSON.

    Raises:
        ValueError: Something is missing or of another type; the message names its path.
    """
    import msgspec

    try:
        found: T = msgspec.convert(values, kind, dec_hook=as_array)
    except msgspec.ValidationError:  # seldom: most records are finite throughout
        found = msgspec.convert(finite_or_not(values), kind, dec_hook=as_array)
    return found


def finite_or_not(values: Any) -> Any:
    """Return the same values with numbers for "NaN", "Infinity" and "-Infinity".

    Args:
        values: Plain values.

    Example:
        >>> finite_or_not({"loss": ["Infinity", 1.0]})
        {'loss': [inf, 1.0]}
    """
    if isinstance(values, str):
        return SPELLED.get(values, values)
    if isinstance(values, dict):
        return {key: finite_or_not(each) for key, each in values.items()}
    return [finite_or_not(each) for each in values] if isinstance(values, list) else values


def as_array(kind: Any, values: Any) -> Any:
    """Return lists of numbers as an array of the type that an `NDArray[…]` annotation names.

    Args:
        kind: Annotation.
        values: List of numbers, or of lists of equal length.

    Raises:
        ValueError: They are no numbers of that type, or not as many in each row.
    """
    (dtype,) = typing.get_args(typing.get_args(kind)[1])
    found = np.array(values)
    if found.size and not np.can_cast(found.dtype, dtype, "same_kind"):
        raise ValueError(f"Expected an array of {np.dtype(dtype).name}")
    return found.astype(dtype)
