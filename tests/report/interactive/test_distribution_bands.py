"""Bands of a layer's panel: the quantiles of the record, few enough for a page, drawn where they belong."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradscape as gs
from gradscape.records.distributions import DistributionHistory, LayerQuantiles
from gradscape.records.gradients import FlowHistory
from gradscape.report.interactive.distribution_bands import BANDS, READINGS, distribution_bands
from live.browsing import page, violations
from small_nets import mlp, train


def history() -> FlowHistory:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, distributions=True, activations=True) as flow:
        for _ in range(4):
            train(model, optimizer)
    return flow.history()


def values(bands: dict[str, Any]) -> np.ndarray:
    shape = (len(bands["layers"]), len(bands["steps"]), 7)
    return np.frombuffer(base64.b64decode(bands["values"]), "<f4").reshape(shape)


def test_bands_are_the_quantiles_of_weight_layers_and_of_all_outputs() -> None:
    found = history().distributions
    assert found is not None
    gradients, weights, outputs = distribution_bands(found, ["0.weight", "2.weight"])
    assert gradients["layers"] == weights["layers"] == ["0.weight", "2.weight"]
    assert outputs["layers"] == ["0", "1", "2"]
    assert np.array_equal(values(gradients), found.gradients.values[:, [0, 2]].transpose(1, 0, 2))
    assert gradients["steps"] == found.steps.tolist()
    assert distribution_bands(None, []) == []


@pytest.mark.parametrize(("layers", "readings"), [(2, 5_000), (2_000, 900)])
def test_many_readings_and_layers_have_few_bands(layers: int, readings: int) -> None:
    table = np.random.default_rng(0).normal(size=(readings, layers, 10))
    each = LayerQuantiles.of(tuple(map(str, range(layers))), table)
    found = DistributionHistory(np.arange(readings), each, each)
    gradients, _ = distribution_bands(found, each.layers)
    assert len(gradients["steps"]) <= READINGS + 1
    assert gradients["steps"][-1] == readings - 1
    assert values(gradients).size <= 7 * (BANDS + layers)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_a_layer_s_panel_draws_and_tells_them(chromium: Any, width: int, scheme: str, tmp_path: Path) -> None:
    made = history()
    assert made.distributions is not None
    broken = made.distributions.gradients.values.copy()
    broken[2] = np.nan  # a gap
    gradients = replace(made.distributions.gradients, values=broken)
    made = replace(made, distributions=replace(made.distributions, gradients=gradients))
    made.save_html(tmp_path / "watched.html")
    with page(chromium, width, scheme) as opened:
        opened.goto((tmp_path / "watched.html").as_uri())
        opened.locator(".whole .over").first.click(position={"x": 120, "y": 20})
        assert opened.locator(".layer h3").inner_text() == "0.weight"
        titles = opened.locator(".layer h4").all_inner_texts()
        assert titles[-3:] == ["distribution of ∂L/∂W", "distribution of W", "distribution of the output"]
        drawn = opened.locator(".layer .over")
        drawn.nth(len(titles) - 3).hover(position={"x": 150, "y": 60})
        said = opened.locator(".layer output").nth(len(titles) - 3).inner_text()
        step, median = re.match(r"step (\d+): median (\S+);", said).groups()  # type: ignore[union-attr]
        row = made.distributions.steps.tolist().index(int(step))  # type: ignore[union-attr]
        assert float(median) == pytest.approx(broken[row, 0, 3], rel=6e-3)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(opened) == []
