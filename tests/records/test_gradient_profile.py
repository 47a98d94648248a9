"""Gradients beside a verdict: what a logarithmic axis can show, what it cannot, where the fault begins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import gradscape as gs
from gradscape.records.gradient_profile import GradientProfile
from gradscape.records.heatmap import NAMED


def test_a_diagnosis_has_the_median_of_the_steps_that_were_made() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    flow = gs.watch(model, optimizer)
    for _ in range(5):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    history = flow.history()
    profile = gs.diagnose(replace(history, skipped=np.array([False, True, False, False, True]))).profile
    assert profile is not None
    assert profile.layers == ("0.weight", "2.weight")
    assert profile.values == tuple(np.median(history.mean_abs[[0, 2, 3]][:, [0, 2]], axis=0))
    nonfinite = history.nonfinite.copy()
    nonfinite[2, 2] = 1
    broken = gs.diagnose(replace(history, nonfinite=nonfinite)).profile
    assert broken is not None
    assert [math.isinf(value) for value in broken.values] == [False, True]


def test_zeros_and_what_is_not_finite_stand_at_the_edges() -> None:
    profile = GradientProfile(("a.weight", "b.weight", "c.weight", "d.weight"), (0.0, 2e-5, math.inf, 3e-5))
    axes = profile.plot(Figure().add_subplot(), "b (call 2)")
    line, zeros, broken = axes.get_lines()
    assert np.array_equal(line.get_xdata(), [np.nan, 2e-5, np.nan, 3e-5], equal_nan=True)
    assert list(line.get_ydata()) == [1, 2, 3, 4]
    assert (list(zeros.get_xdata()), list(zeros.get_ydata()), zeros.get_label()) == ([0.0], [1], "0")
    assert (list(broken.get_xdata()), list(broken.get_ydata())) == ([1.0], [3])
    (mark,) = axes.patches
    assert mark.get_bbox().intervaly.tolist() == [1.5, 2.5]
    assert mark.get_label() == "begins here"
    assert axes.get_xlim() == pytest.approx((1e-5, 1e-4))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c", "d"]


def test_of_many_layers_the_marked_one_is_named() -> None:
    names = tuple(f"block.{number}.weight" for number in range(NAMED + 1))
    profile = GradientProfile(names, (1e-3,) * len(names))
    axes = profile.plot(Figure().add_subplot(), "block.7.weight")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["begins at block.7.weight"]
    assert profile.place_of("head") is None
    assert profile.plot(Figure().add_subplot(), "head").get_legend() is None
