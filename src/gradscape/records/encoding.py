"""What the records that hold arrays have in common; `records` itself goes without numpy."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def plain_values(record: Any) -> dict[str, Any]:
    """A record's fields as lists and numbers, those of records within it too.

    None stands for what is not finite, which JSON has no number for.
    """
    return {field.name: plain_value(getattr(record, field.name)) for field in fields(record)}


def plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return finite_or_none(value.tolist())
    if isinstance(value, tuple) and any(is_dataclass(each) for each in value):
        return [plain_values(each) for each in value]
    return plain_values(value) if is_dataclass(value) else finite_or_none(value)


def finite_or_none(value: Any) -> Any:
    if isinstance(value, list):
        return [finite_or_none(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
