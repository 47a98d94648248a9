"""Tables of numbers as the page reads them: float32, or 16 bits on a logarithmic scale of their own."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values

CODES = {"nan": 0, "zero": 1, "infinity": 2}
FIRST = len(CODES)  # code of the smallest number
LAST = 2**16 - 1  # code of the largest
Written = Callable[[Values], dict[str, Any]]


def as_floats(values: Values) -> dict[str, Any]:
    """Return numbers as float32 in base64, little-endian, row by row.

    Args:
        values: Numbers of any kind.
    """
    return {"values": _base64(values, "<f4")}


def as_codes(values: Values) -> dict[str, Any]:
    """Return sizes as 16-bit codes in base64: c ≥ 3 is low · exp(step · (c − 3)), 0 NaN, 1 zero, 2 infinity.

    Half the size of float32, and rounded by half a `step` at most: 0.02 % where sizes span twelve decades.

    Args:
        values: Numbers that are not negative, or NaN.
    """
    sizes = np.asarray(values, dtype=np.float64)
    assert not (sizes < 0).any()
    seen = np.isfinite(sizes) & (sizes > 0)
    low, high = (sizes[seen].min(), sizes[seen].max()) if seen.any() else (1.0, 1.0)
    step = float(np.log(high) - np.log(low)) / (LAST - FIRST)
    codes = np.select([np.isnan(sizes), sizes == 0], [CODES["nan"], CODES["zero"]], CODES["infinity"])
    codes[seen] = FIRST + np.rint((np.log(sizes[seen]) - np.log(low)) / (step or 1.0))
    return {"values": _base64(codes, "<u2"), "low": float(low), "step": step}


def every_kth(rows: int, most: int) -> NDArray[np.intp]:
    """Return the places of every k-th row from the first, and of the last: one more than `most`, at most.

    Args:
        rows: Number of rows.
        most: Number of places.
    """
    every = max(1, math.ceil(rows / most))
    return np.unique(np.append(np.arange(0, rows, every), rows - 1)) if rows else np.arange(0)


def _base64(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def rounding(written: Mapping[str, Any]) -> float:
    """Return the largest relative error of numbers that were written, 0 for float32.

    Args:
        written: Result of `as_floats` or `as_codes`.
    """
    return math.expm1(written.get("step", 0.0) / 2)
