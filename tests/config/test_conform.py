"""Values held against types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from gradscape.config.conform import conforms, require_record, require_types
from gradscape.records.run import GradientNoise

NOISE = GradientNoise(10, 20, 0.5, 0.25, 3.5, 9.5, 0.2)


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (1, float, True), (True, float, False), (1.0, int, False), (True, bool, True), ("x", str, True),
        ((1, 2.5), tuple[float, ...], True), ([1.0], tuple[float, ...], False),
        ((True,), tuple[float, ...], False),
        (((1, 2.5),), tuple[tuple[int, float], ...], True),
        (((1, 2.5, 3),), tuple[tuple[int, float], ...], False),
        (((2.5, 1),), tuple[tuple[int, float], ...], False),
        (["a"], list[str], True), ([1], list[str], False), ({"a": [1]}, Mapping[str, list[int]], True),
        ({1: [1]}, Mapping[str, list[int]], False), ("a", Literal["a", "b"], True), ([], Literal["a"], False),
        (None, int | None, True), ("x", int | None, False), (object(), Any, True),
        (NOISE, GradientNoise, True), (1, GradientNoise, False),
    ],
)  # fmt: skip
def test_a_value_is_of_a_type_or_not(value: Any, hint: Any, wanted: bool) -> None:
    assert conforms(value, hint) is wanted


def test_what_does_not_fit_is_named() -> None:
    require_types({"a": 1, "other": object()}, {"a": int}, ("a",))
    with pytest.raises(ValueError, match="it has no b"):
        require_types({"a": 1}, {}, ("a", "b"))
    with pytest.raises(ValueError, match="low is of another type"):
        require_record(GradientNoise(10, 20, 0.5, 0.25, "3.5", 9.5, 0.2))  # type: ignore[arg-type]
