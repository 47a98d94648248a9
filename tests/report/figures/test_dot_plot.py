"""The figure of many rows and panels: where its dots lie, and what it does without any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawings import assert_nothing_is_cut, texts
from gradscape.report.figures.dot_plot import DotColumn, dot_figure, fits, middle

SCALES = st.sampled_from(["linear", "log"])
POSITIVE = st.lists(st.floats(1e-45, 1e38), min_size=1, max_size=6)  # float32's


@given(st.floats(), SCALES)
def test_fits_is_what_an_axis_has_a_place_for(value: float, scale: str) -> None:
    finite = not (math.isnan(value) or math.isinf(value))
    assert fits(value, scale) == (finite and (scale == "linear" or value > 0))


@given(POSITIVE, SCALES)
def test_middle_lies_between_and_has_no_order(values: list[float], scale: str) -> None:
    found = middle(values, scale)
    assert found is not None
    assert min(values) * (1 - 1e-12) <= found <= max(values) * (1 + 1e-12)
    assert middle(values[::-1], scale) == found


@given(POSITIVE, st.floats(1e-3, 1e3))
def test_the_mean_of_a_logarithmic_axis_is_the_geometric_one(values: list[float], factor: float) -> None:
    found = middle(values, "log")
    assert found is not None
    assert middle([value * factor for value in values], "log") == pytest.approx(found * factor, rel=1e-9)
    assert middle([1 / value for value in values], "log") == pytest.approx(1 / found, rel=1e-9)
    mean = middle(values, "linear")
    assert mean is not None
    assert found <= mean * (1 + 1e-12)


def test_middle_of_nothing_and_of_two() -> None:
    assert middle([], "linear") is middle([], "log") is None
    assert middle([1.0, 100.0], "log") == pytest.approx(10)
    assert middle([1.0, 100.0], "linear") == 50.5


def test_a_row_has_its_mean_and_a_fine_dot_for_each_seed() -> None:
    columns = [
        DotColumn("a", {"before": [[1.0, 100.0], [math.nan]], "after": [[3.0], [0.0, 5.0]]}, "log"),
        DotColumn("b", {"b": [[1.0, 2.0], []]}, reference=("level", 1.5)),
    ]
    drawing = dot_figure(["first", "second"], ["x", "y"], columns)
    left, right = drawing.axes
    seeds, means, later, after = (np.asarray(each.get_offsets()).tolist() for each in left.collections[:4])
    assert (seeds, means) == ([[1, 0], [100, 0]], [[pytest.approx(10), 0]])
    assert (later, after) == ([[3, 0], [5, 1]], [[3, 0], [pytest.approx(5), 1]])  # what is 0 has no place
    assert np.asarray(right.collections[1].get_offsets()).tolist() == [[1.5, 0]]
    assert [text.get_text() for text in left.get_yticklabels()] == ["first", "second"]
    assert [[text.get_text() for text in axes.get_legend().get_texts()] for axes in drawing.axes] == [
        ["before", "after"], ["b", "level"],
    ]  # fmt: skip
    assert_nothing_is_cut(drawing)


@pytest.mark.parametrize("rows", [[[], []], [[0.0], [-1.0, math.nan, math.inf]]])
def test_a_panel_without_a_value_says_so_and_leaves_the_others_their_rows(rows: list[list[float]]) -> None:
    columns = [
        DotColumn("a", {"a": [[1.0], [2.0]]}, ticks=(1.0, 2.0)),
        DotColumn("b", {"b": rows}, "log", reference=("level", 1.0), ticks=(1.0, 10.0)),
    ]
    drawing = dot_figure(["first", "second"], ["x", "x"], columns)
    assert texts(drawing) == ["no value"]
    left, right = drawing.axes
    assert (right.get_xscale(), list(right.get_xticks())) == ("linear", [])
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "2"]
    assert [text.get_text() for text in left.get_yticklabels()] == ["first", "second"]
    assert_nothing_is_cut(drawing)
