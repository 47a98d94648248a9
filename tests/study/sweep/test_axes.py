"""Axes: fields, values and where they vary; what cannot be is one line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.config.paths import CONTROLS, SETTINGS, flat, format_value, value_in
from gradscape.config.run import RunConfig
from gradscape.config.serialize import to_dict
from gradscape.errors import ConfigError
from gradscape.study.sweep.axes import Axis, axis_in, axis_of, condition_in, label, matches
from gradscape.study.sweep.spacing import read_values, values_in


def test_every_field_but_the_seed_can_be_an_axis() -> None:
    everything = to_dict(RunConfig())
    del everything["seed"]
    assert list(flat(everything, "base")) == list(SETTINGS)
    assert {"net.depth", "optim.lr", "batch_size", "data.name", "precision"} <= set(SETTINGS)
    assert not set(SETTINGS) & set(CONTROLS)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optim.lr=1e-4,1e-3,1e-2", [1e-4, 1e-3, 1e-2]),
        ("optim.lr=1", [1.0]),
        ("optim.lr=log:1e-4:1e-1:4", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("optim.lr=log:1e-4:1e-3:3", [1e-4, 3.16e-4, 1e-3]),
        ("optim.lr=log:1.23456e-4:1e-3:2", [1.23456e-4, 1e-3]),
        ("optim.lr=log:1.0004e-3:1.0012e-3:3", [1.0004e-3, 1.0008e-3, 1.0012e-3]),  # not 1e-3, below them
        ("batch_size=log:10001:10009:3", [10_001, 10_005, 10_009]),
        ("batch_size=log:10:1000:5", [10, 32, 100, 316, 1000]),
        ("batch_size=log:1:3:5", [1, 2, 3]),  # values that round to one number are one
        ("net.depth=range:8:38:6", [8, 14, 20, 26, 32, 38]),
        ("net.depth=range:8:40:12", [8, 20, 32]),
        ("net.slope=range:0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("net.norm=none,batch", ["none", "batch"]),
        ("data.flip=yes,no,default", [True, False, None]),
        ("optim.period=default,10", [None, 10]),
        ("equal_updates=yes,no", [True, False]),
        ("scale_lr=none,linear,sqrt", ["none", "linear", "sqrt"]),
        ("net.depth=8,8,14", [8, 14]),
    ],
)
def test_text_is_read_by_the_fields_type(text: str, values: list[Any]) -> None:
    axis = axis_in([text], "--axis")
    found = [row[0] for row in axis.rows]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ([8, 20], [8, 20]),
        (range(8, 21, 6), [8, 14, 20]),
        (np.array([8, 14]), [8, 14]),
        ({"range": [8, 20], "step": 6}, [8, 14, 20]),
        ({"log": [8, 32], "points": 3}, [8, 16, 32]),
    ],
)
def test_values_are_read_from_plain_ones(given: Any, values: list[int]) -> None:
    found = axis_of({"net.depth": given}).rows
    assert found == tuple((value,) for value in values)
    assert {type(row[0]) for row in found} == {int}


def test_fields_vary_together() -> None:
    axis = axis_in(["batch_size=50,100", "optim.lr=1e-3,2e-3"], "--zip")
    assert axis == Axis(("batch_size", "optim.lr"), ((50, 1e-3), (100, 2e-3)))
    assert axis == axis_of({"batch_size": [50, 100], "optim.lr": [1e-3, 2e-3]})
    assert axis.at({"net.depth": 8}, {}) == [
        {"net.depth": 8, "batch_size": 50, "optim.lr": 1e-3},
        {"net.depth": 8, "batch_size": 100, "optim.lr": 2e-3},
    ]


def test_an_axis_varies_where_its_condition_holds() -> None:
    axis = axis_of({"net.slope": [0.1, 0.2], "where": {"net.activation": ["leaky_relu"]}})
    base = {"net.slope": 0.01, "net.activation": "leaky_relu"}
    assert [point["net.slope"] for point in axis.at({}, base)] == [0.1, 0.2]
    relu = {"net.activation": "relu"}
    assert axis.at(relu, base) == [{"net.activation": "relu", "net.slope": 0.01}]
    assert axis_of(axis.to_dict()) == axis


def test_conditions_match_all_of_their_fields() -> None:
    condition = condition_in(["net.depth=8,14", "optim.lr=1e-2"], "--exclude")
    assert matches(condition, {"net.depth": 14, "optim.lr": 0.01, "batch_size": 3})
    assert not matches(condition, {"net.depth": 14, "optim.lr": 0.1})
    assert not matches(condition, {"net.depth": 20, "optim.lr": 0.01})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lr=1"], "axis: no such field: lr; did you mean 'optim.lr'?"),
        (["net.dept=8"], "axis: no such field: net.dept; did you mean 'net.depth'?"),
        (["x=8"], "axis: no such field: x; gradscape sweep --help lists them"),
        (["seed=1,2"], "axis: seed: give seeds, with --seeds"),
        (["net.depth"], "--axis: expected FIELD=VALUES, such as optim.lr=1e-4,1e-3; got 'net.depth'"),
        (["net.depth="], "axis net.depth: expected one or more values; got none"),
        (["net.depth=8,x"], "axis net.depth: expected a whole number; got 'x'"),
        (["net.depth=8.5"], "axis net.depth: expected a whole number; got '8.5'"),
        (["net.depth=default"], "axis net.depth: expected a whole number; got 'default'"),
        (["optim.lr=fast"], "axis optim.lr: expected a number; got 'fast'"),
        (["data.flip=maybe"], "axis data.flip: expected yes or no; got 'maybe'"),
        (["scale_lr=root"], "axis scale_lr: expected one of none, linear, sqrt; got 'root'"),
        (["optim.lr=log:1e-4:1e-1"], "axis optim.lr: 'log:1e-4:1e-1' is not log:low:high:points"),
        (["net.depth=range:8"], "axis net.depth: 'range:8' is not range:low:high:step"),
        (["optim.lr=log:1e-4:1e-1:x"], "axis optim.lr: points: expected a number; got 'x'"),
        (["optim.lr=log:1e-4:1e-1:2.5"], "axis optim.lr: points: expected a whole number; got 2.5"),
        (["optim.lr=log:1e-4:1e-1:1"], "axis optim.lr: points: expected 2 … 1000; got 1"),
        (["optim.lr=range:-inf:1:1"], "axis optim.lr: expected two finite numbers, low, then high; got -inf"),
        (["optim.lr=log:0:1e-1:3"], "axis optim.lr: low 0.0 has no logarithm; give a number above 0"),
        (["optim.lr=log:1:0.1:3"], "axis optim.lr: low 1.0 is not below high 0.1; give low, then high"),
        (["optim.lr=range:0:inf:1"], "axis optim.lr: low 0.0 is not below high inf"),
        ([f"batch_size=log:1:{10**400}:3"], f"axis batch_size: low 1 is not below high {10**400}"),
        (["net.depth=range:8:38:0"], "axis net.depth: step: expected a number above 0; got 0"),
        (["net.depth=range:8:38:2.5"], "axis net.depth: step: expected a whole number; got 2.5"),
        (["net.depth=range:1:5000:1"], "axis net.depth: step: 1 gives more than 1000 values; give a"),
        (
            ["net.norm=range:a:b:1"],
            "axis net.norm: only a field of numbers has a range; give a list of values",
        ),
        (["optim.period=log:1:default:3"], "axis optim.period: only a field of numbers has a range"),
        (
            ["batch_size=50,100", "optim.lr=1e-3"],
            "axis batch_size, optim.lr: values pair up, but batch_size has 2, optim.lr has 1; give",
        ),
        (["batch_size=50", "batch_size=60"], "--axis: batch_size is given twice; give it once"),
    ],
)
def test_text_that_cannot_be_is_said_in_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        axis_in(texts, "--axis")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (8, "axes: expected an axis such as {net.depth: [8, 20]}; got 8"),
        ({}, "axes: expected an axis such as {net.depth: [8, 20]}; got one without a field"),
        (
            {"where": {"net.depth": 8}},
            "axes: expected an axis such as {net.depth: [8, 20]}; got one without a field",
        ),
        ({1: [2]}, "axis: no such field: 1"),
        ({"net.depth": 8}, "axis net.depth: expected a list of values, such as [8]; got 8"),
        ({"net.norm": "none"}, "axis net.norm: expected a list of values, such as ['none']; got 'none'"),
        ({"net.depth": []}, "axis net.depth: expected one or more values; got none"),
        ({"net.depth": range(1001)}, "axis net.depth: more than 1000 values; give fewer"),
        ({"net.depth": ["8"]}, "axis net.depth: expected a whole number; got '8'"),
        ({"net.depth": [True]}, "axis net.depth: expected a whole number; got True"),
        ({"net.norm": [3]}, "axis net.norm: expected one of none, batch, algorithm1"),
        ({"net.norm": [["none"]]}, "axis net.norm: expected one of none, batch, algorithm1"),
        ({"equal_updates": ["yes"]}, "axis equal_updates: expected true or false; got 'yes'"),
        (
            {"optim.lr": {"log": [1e-4, 1e-2]}},
            "axis optim.lr: expected {log: [low, high], points: n} or {range: [low, high], step: s}; got",
        ),
        (
            {"optim.lr": {"lag": [1, 2], "points": 3}},
            "got {'lag': [1, 2], 'points': 3}; did you",
        ),
        ({"optim.lr": {"log": 1, "points": 3}}, "axis optim.lr: 1 is not [low, high]"),
        ({"optim.lr": {"log": [1, 2, 3], "points": 3}}, "axis optim.lr: [1, 2, 3] is not [low, high]"),
        ({"optim.lr": {"range": [1, 2], "step": "a"}}, "axis optim.lr: step: expected a number; got 'a'"),
        ({"net.slope": [0.1], "where": 3}, "axis net.slope: where: expected fields and values; got 3"),
        ({"net.slope": [0.1], "where": {}}, "axis net.slope: where: expected fields and values; got {}"),
        (
            {"net.slope": [0.1], "where": {"net.dept": 3}},
            "axis net.slope: where: no such field: net.dept",
        ),
        ({"net.slope": [0.1], "where": {"net.slope": 0.1}}, "where: net.slope is what the axis varies"),
        (
            {"net.slope": [0.1], "where": {"net.depth": "a"}},
            "where net.depth: expected a whole number; got 'a'",
        ),
    ],
)
def test_plain_values_that_cannot_be_are_said_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        axis_of(given)
    assert "\n" not in str(caught.value)


def test_conditions_in_text_name_their_flag() -> None:
    with pytest.raises(ConfigError, match=r"--exclude: expected FIELD=VALUE, such as net\.depth=38; got"):
        condition_in(["net.depth"], "--exclude")
    with pytest.raises(ConfigError, match=r"--exclude net\.depth: expected a whole number; got 'x'"):
        condition_in(["net.depth=x"], "--exclude")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_number_is_no_other_numbers(value: float) -> None:
    assert value_in("optim.lr", format_value(value), "axis") == value


@given(low=st.floats(1e-8, 1), factor=st.floats(1.0001, 1e6), points=st.integers(2, 50))
def test_log_spaced_values_rise_from_end_to_end(low: float, factor: float, points: int) -> None:
    high = low * factor
    values = read_values("optim.lr", {"log": [low, high], "points": points})
    assert (values[0], values[-1]) == (low, high)
    exact = np.geomspace(low, high, points)
    apart = factor ** (1 / (points - 1)) - 1
    assert np.allclose(np.array(values, float), exact, rtol=min(0.0051, 0.2501 * apart))
    assert (np.diff(np.array(values, float)) > 0).all()
    if apart >= 0.02:
        assert all(float(f"{value:.3g}") == value for value in values[1:-1])


@given(low=st.integers(1, 50), step=st.integers(1, 9), count=st.integers(2, 30), rest=st.integers(0, 8))
def test_ranges_are_pythons_with_their_end(low: int, step: int, count: int, rest: int) -> None:
    high = low + step * (count - 1) + min(rest, step - 1)
    assert values_in("batch_size", f"range:{low}:{high}:{step}") == list(range(low, high + 1, step))


def test_labels_are_short() -> None:
    point = {"net.depth": 8, "optim.lr": 1e-3, "data.flip": True, "optim.period": None, "net.norm": "none"}
    assert label(point) == "net.depth=8 optim.lr=0.001 data.flip=yes optim.period=default net.norm=none"
