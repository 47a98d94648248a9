"""Documents of trainings: values on the page are those of the records, and no more than a page can hold."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.records.gradients import FlowHistory, slice_rows
from gradscape.report.interactive.document import CELLS, COLUMNS, joined, shown_rows, watch_document
from gradscape.report.interactive.page import inlined, training_page
from gradscape.report.interactive.verdicts import Verdict, past_verdicts, since


def watched(steps: int = 30, name: str = "first") -> FlowHistory:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module(name, nn.Linear(6, 5))
    model.add_module("last", nn.Linear(5, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with gs.watch(model, optimizer, activations=True) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 3).backward()
            optimizer.step()
    return flow.history()


def document(history: FlowHistory, **facts: Any) -> dict[str, Any]:
    return watch_document(history, gs.diagnose(history), past_verdicts(history), **facts)


def cells(found: dict[str, Any], key: str) -> np.ndarray:
    """A map's values (L, T)."""
    each = next(each for each in found["maps"] if each["key"] == key)
    return np.frombuffer(base64.b64decode(each["values"]), "<f4").reshape(len(each["layers"]), -1)


def test_maps_and_curves_have_the_values_of_the_history() -> None:
    history = watched()
    found = json.loads(json.dumps(document(history, id="a"), allow_nan=False))
    assert found["steps"] == list(range(30))
    for key in ("mean_abs", "relative_update", "weight"):
        np.testing.assert_allclose(cells(found, key), getattr(history, key)[:, history.weights].T, rtol=1e-6)
    assert history.activations is not None
    np.testing.assert_allclose(cells(found, "second_moment"), history.activations.second_moment.T, rtol=1e-6)
    assert history.loss is not None
    (curve,) = found["curves"]
    assert curve["series"][0]["y"] == history.loss.values.tolist()
    assert curve["reference"] == {"label": "guessing among 3", "value": pytest.approx(math.log(3))}
    assert [each["name"] for each in found["layers"]] == list(history.layers)
    assert found["layers"][0]["mean_abs"] == history.mean_abs[-1, 0]
    assert found["diagnosis"]["verdict"] == gs.diagnose(history).verdict
    assert found["optimizers"] == ["Adam, lr 0.01, ε 1e-08"]


def test_a_gradient_that_is_not_finite_differs_from_none_in_a_map() -> None:
    history = watched(4)
    first = history.weights[0]
    for column, nonfinite in ((first, 1.0), (history.weights[1], 0.0)):
        history.mean_abs[2, column], history.nonfinite[2, column] = np.nan, nonfinite
    found = cells(watch_document(history, None, (), id="a"), "mean_abs")
    assert found[0, 2] == np.inf
    assert np.isnan(found[1, 2])
    assert np.isfinite(found[:, [0, 1, 3]]).all()


def test_many_rows_are_thinned_and_every_value_shown_is_one_that_was_read() -> None:
    history = watched(5)
    rows = np.arange(4_000) % 5
    long = slice_rows(history, rows)
    found = watch_document(long, None, (), id="a")
    assert len(found["steps"]) <= COLUMNS + 1
    assert found["rows"] == 4_000
    shown = shown_rows(4_000, 2)
    np.testing.assert_allclose(cells(found, "mean_abs"), long.mean_abs[shown][:, long.weights].T, rtol=1e-6)


@given(st.integers(0, 100_000), st.integers(1, 5_000))
def test_a_map_has_a_bounded_number_of_cells_and_ends_at_the_last_row(rows: int, layers: int) -> None:
    shown = shown_rows(rows, layers)
    assert len(shown) <= COLUMNS + 1
    assert len(shown) * layers <= CELLS + 3 * layers
    if rows:
        assert (shown[0], shown[-1]) == (0, rows - 1)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 50))
def test_joined_curves_keep_the_lowest_the_highest_and_the_mean(values: list[float], most: int) -> None:
    steps = np.arange(len(values))
    found = joined(steps, np.array(values), most)
    assert len(found["x"]) == min(len(values), most)
    assert found["x"][-1] == steps[-1]
    assert max(found.get("high", found["y"])) == max(values)
    assert min(found.get("low", found["y"])) == min(values)
    if len(values) > most:
        widths = np.diff([-1, *found["x"]])
        np.testing.assert_allclose((found["y"] * widths).sum(), sum(values), rtol=1e-6, atol=1e-3)


def test_verdicts_are_those_of_the_rows_that_were_there_then() -> None:
    history = watched()
    found = past_verdicts(history, 6)
    assert [each.step for each in found] == [4, 9, 14, 19, 24, 29]
    for each in found:
        then = gs.diagnose(slice_rows(history, slice(each.step + 1)))
        assert (each.verdict, each.grade, each.layer) == (then.verdict, then.grade, then.layer)


def test_a_verdict_stands_since_the_first_of_its_like_without_a_break() -> None:
    made = [("vanishing", 1), ("healthy", 2), ("vanishing", 3), ("vanishing", 4)]
    assert since([Verdict(step, name, "fail", "") for name, step in made]) == 3
    assert since([]) is None


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<!--", "a\u2028b", "\udc80"])
def test_no_name_ends_the_script_or_becomes_markup(name: str) -> None:
    text = training_page(document(watched(3, name), id="a", name=name), name)
    assert text.count("<script") == 2
    assert "<script>alert(1)" not in text
    assert "<!--" not in text
    assert text.encode()
    data = text.split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(data)["trainings"]["a"]["layers"][0]["name"].endswith(".weight")
    assert "\u2028" not in inlined({"a": "\u2028"})
