"""A number of each layer before training: the mean over seeds, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest

import synthetic
from drawings import assert_nothing_is_cut, texts
from gradscape.records.role import Role
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import Figure
from gradscape.report.figures.before_training import depth_figure

Scale = Literal["linear", "log"]


def study(**rows: list[tuple[float, ...] | None]) -> StudyRecord:
    """Role → gradients of the layers of each seed; None for a run whose start was not measured."""
    made: dict[str, RunRecord] = {}
    for role, seeds in rows.items():
        for seed, values in enumerate(seeds):
            start = None if values is None else synthetic.start(values, values)
            made[f"{role}-s{seed}"] = dataclasses.replace(synthetic.run("vgg38", seed, 2), start=start)
    asked = {"title": "", "data": "cifar100", "seeds": [0, 1], "notes": []}
    roles = {
        role: Role(role, role.upper(), runs=tuple(f"{role}-s{seed}" for seed in range(len(seeds))))
        for role, seeds in rows.items()
    }
    return StudyRecord("remedies", "small", asked, roles, made)


def figure(found: StudyRecord, scale: Scale) -> Figure:
    drawn = depth_figure(
        found,
        "figure-2a",
        "Title",
        "",
        found.labels(),
        lambda start: start.gradients,
        "y",
        scale,
        "The lead.",
    )
    assert_nothing_is_cut(drawn.drawing)
    return drawn


def legend(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.drawing.legends[0].get_texts()]


@pytest.mark.parametrize(("scale", "mean"), [("log", [1e-3, 1e-1]), ("linear", [5.05e-3, 0.1])])
def test_a_line_is_the_mean_over_seeds_and_a_band_its_extremes(scale: Scale, mean: list[float]) -> None:
    drawn = figure(study(a=[(1e-4, 0.1), (1e-2, 0.1)], b=[(1e-6, 1e-5, 1e-4)]), scale)
    axes = drawn.drawing.axes[0]
    first, second = axes.lines
    assert np.asarray(first.get_ydata()).tolist() == pytest.approx(mean)
    assert np.asarray(second.get_xdata()).tolist() == [1, 2, 3]
    (band,) = axes.collections
    (path,) = band.get_paths()
    assert {round(float(y), 9) for y in path.vertices[:, 1]} == {1e-4, 1e-2, 0.1}
    assert axes.get_yscale() == scale
    assert list(axes.get_xticks()) == [1, 2, 3]
    assert legend(drawn) == ["A", "B"]
    assert drawn.title == "Figure 2a. Title"
    assert drawn.caption == "The lead. Mean over 1 to 2 seeds, band from the lowest to the highest."


def test_roles_without_a_start_are_named() -> None:
    found = study(a=[(1e-4, 0.1)], b=[None], c=[])
    drawn = figure(
        dataclasses.replace(found, roles={**found.roles, "c": Role("c", "C", runs=("c-s0",))}), "log"
    )
    assert legend(drawn) == ["A", "B (not measured)", "C (not run yet)"]
    assert drawn.caption.endswith("C: not run yet.")
    assert texts(drawn.drawing) == []


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_where_no_role_has_one_the_panel_says_so(scale: Scale) -> None:
    drawn = figure(study(a=[None, None]), scale)
    assert (texts(drawn.drawing), legend(drawn)) == (["not measured"], ["A (not measured)"])


@pytest.mark.parametrize(("value", "scale"), [(0.0, "log"), (math.nan, "log"), (math.nan, "linear")])
def test_values_without_a_place_on_the_axis(value: float, scale: Scale) -> None:
    drawn = figure(study(a=[(value, value)]), scale)
    assert texts(drawn.drawing) == ["0 or not finite"]
    some = figure(study(a=[(value, 0.1)]), scale).drawing  # in one layer of two it leaves a gap
    assert texts(some) == []
    heights = np.asarray(some.axes[0].lines[0].get_ydata())
    assert heights.tolist() == pytest.approx([math.nan, 0.1], nan_ok=True)


def test_a_run_that_has_begun_without_a_start_is_no_seed_of_the_mean() -> None:
    found = study(a=[(1e-4, 0.1), None])
    assert "Mean over 1 seed, band" in figure(found, "log").caption
