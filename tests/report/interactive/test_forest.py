"""Lines on which a claim's numbers are drawn: every place follows from the numbers."""

from __future__ import annotations

import math

import pytest

from gradscape.analysis.claims import above, below, equivalent
from gradscape.report.interactive.forest import EDGE, forest

INNER = 100 - 2 * EDGE


def test_seeds_interval_and_limit_lie_where_their_numbers_say() -> None:
    part = above("accuracy", {0: 0.4, 1: 0.5, 2: 0.6}, 0.1)
    found = forest(part)
    assert part.interval is not None
    assert found is not None
    assert part.interval.low is not None
    assert part.interval.high is not None
    low, high = min(0.1, part.interval.low), part.interval.high
    for point, value in zip(found["points"], (0.4, 0.5, 0.6), strict=True):
        assert point["at"] == pytest.approx(EDGE + INNER * (value - low) / (high - low), abs=0.01)
    assert found["bar"][1] == 100 - EDGE
    assert found["marks"] == [pytest.approx(EDGE + INNER * (0.1 - low) / (high - low), abs=0.01)]
    assert (found["low"], found["high"]) == (f"{low:.3g}", f"{high:.3g}")
    assert found["text"].startswith("seed 0: 0.4, seed 1: 0.5, seed 2: 0.6, interval ")
    assert found["text"].endswith("limit 0.1")


def test_a_margin_has_two_limits() -> None:
    found = forest(equivalent("difference", {0: 0.01, 1: -0.01}, 0.5))
    assert found is not None
    assert found["marks"] == pytest.approx([EDGE + INNER * share for share in _shares(0.5)], abs=0.01)


def _shares(margin: float) -> list[float]:
    """The interval of two seeds ± 0.01 is ± 12.7 × 0.01."""
    half = 12.706 * 0.01
    low, high = min(-margin, -half), max(margin, half)
    return [(limit - low) / (high - low) for limit in (-margin, margin)]


def test_numbers_that_are_not_finite_are_left_out_and_none_is_no_line() -> None:
    found = forest(below("β", {0: math.inf, 1: 2.0}, 3.0))
    assert found is not None
    assert [point["text"] for point in found["points"]] == ["seed 1: 2"]
    assert found["bar"] is None
    assert forest(below("β", {0: math.nan}, 3.0)) is None
    assert forest(above("accuracy", {}, 0.1)) is None


def test_one_number_at_its_limit_lies_in_the_middle() -> None:
    found = forest(above("accuracy", {0: 0.1}, 0.1))
    assert found is not None
    assert (found["points"][0]["at"], found["marks"]) == (50.0, [50.0])
