"""Any record reads back as it was written; what is of another type is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gradscape._codec import Record, decode, encode
from gradscape.records.encoding import Values


@dataclass(frozen=True)
class Inner(Record):
    """A record within another."""

    value: float
    rows: Values

    def derived(self) -> Mapping[str, Any]:
        return {"double": 2 * self.value}


@dataclass(frozen=True)
class Outer(Record):
    """One of every kind of field."""

    name: str
    way: Literal["up", "down"]
    number: int
    share: float
    whole: bool
    pair: tuple[int, float]
    curve: tuple[float, ...]
    flags: NDArray[np.bool_]
    steps: NDArray[np.int64]
    inner: Inner
    several: tuple[Inner, ...]
    by_name: Mapping[str, Inner]
    absent: Inner | None = None


floats = st.floats(width=64)
tables = arrays.arrays(np.float64, arrays.array_shapes(max_dims=3, max_side=4), elements=floats)
inners = st.builds(Inner, floats, tables)
outers = st.builds(
    Outer,
    st.text(),
    st.sampled_from(("up", "down")),
    st.integers(-(2**53), 2**53),
    floats,
    st.booleans(),
    st.tuples(st.integers(0, 9), floats),
    st.lists(floats).map(tuple),
    arrays.arrays(np.bool_, 3),
    arrays.arrays(np.int64, 3, elements=st.integers(0, 2**40)),
    inners,
    st.lists(inners, max_size=2).map(tuple),
    st.dictionaries(st.text(), inners, max_size=2),
    st.none() | inners,
)


@given(outers.filter(lambda outer: outer.name not in ("NaN", "Infinity", "-Infinity")))
def test_any_record_survives_json(outer: Outer) -> None:
    text = json.dumps(encode(outer), allow_nan=False)
    again: Outer = decode(Outer, json.loads(text))
    assert json.dumps(encode(again), allow_nan=False) == text
    assert again.inner.rows.dtype == np.float64
    assert again.inner.rows.tobytes() == canonical(outer.inner.rows).tobytes()
    assert (again.flags.dtype, again.steps.dtype) == (np.bool_, np.int64)
    # What is derived is passed over.
    assert json.dumps(encode(decode(Outer, outer.to_dict())), allow_nan=False) == text


def canonical(values: Values) -> Values:
    """The same with one NaN: JSON does not tell one from another."""
    return np.where(np.isnan(values), math.nan, values)


def test_what_is_not_finite_is_spelled() -> None:
    inner = Inner(-math.inf, np.array([[math.nan, math.inf]]))
    assert encode(inner) == {"value": "-Infinity", "rows": [["NaN", "Infinity"]]}
    assert inner.to_dict() == {"double": "-Infinity", "value": "-Infinity", "rows": [["NaN", "Infinity"]]}


@dataclass(frozen=True, eq=False)
class Held(Record):
    """A record that holds an array."""

    rows: Values


def test_records_that_hold_arrays_are_compared_by_what_is_written() -> None:
    one, other = (Held(np.array([math.nan, 1.0])) for _ in range(2))
    assert one == other
    assert one != Held(np.array([math.nan, 2.0]))
    assert one != Held(np.array([math.nan]))
    assert one != "Held"


INNER = {"value": 1.0, "rows": [[1.0]]}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Inner, {"value": 1.0}, "missing required field `rows`"),
        (Inner, INNER | {"value": "x"}, r"Expected `float`, got `str` - at `\$.value`"),
        (Inner, INNER | {"value": True}, "Expected `float`, got `bool`"),
        (Inner, INNER | {"value": None}, "Expected `float`, got `null`"),
        (Inner, INNER | {"rows": [[1.0], [1.0, 2.0]]}, "inhomogeneous"),
        (Inner, INNER | {"rows": ["x"]}, "Expected an array of float64"),
        (Inner, INNER | {"rows": [[None]]}, "Expected an array of float64"),
        (Inner, INNER | {"rows": {"a": 1}}, "Expected an array of float64"),
        (dict[str, Inner], {"a": INNER | {"value": []}}, r"got `array` - at `\$\[...\].value`"),
        (tuple[int, float], [1.5, 1.0], "Expected `int`, got `float`"),
        (NDArray[np.int64], [1.5], "Expected an array of int64"),
        (Literal["up"], "down", "Invalid enum value 'down'"),
    ],
)
def test_another_type_is_named(kind: Any, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(kind, values)
