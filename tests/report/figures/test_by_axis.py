from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

import sweeps
from drawings import assert_nothing_is_cut
from gradscape._text import shorten
from gradscape.analysis.comparisons import comparisons
from gradscape.analysis.sweep_points import exactly, format_setting, named, points, ranked, short_names
from gradscape.report.figures.base import Figure, render
from gradscape.report.figures.by_axis import axis_figure, chosen_lines, evenly
from gradscape.report.figures.heatmap import heat_figure
from gradscape.report.figures.labels import every
from gradscape.report.figures.style import looks
from gradscape.report.figures.sweep_curves import MOST, chosen, curve_figure, flow_lines
from gradscape.stats.student_t import interval

DEPTHS = (8, 14, 20, 38)
TWO: dict[str, Any] = {"net.depth": DEPTHS, "optim.lr": sweeps.RATES}


def bars(drawing: Drawing) -> list[ErrorbarContainer]:
    return [each for each in drawing.axes[0].containers if isinstance(each, ErrorbarContainer)]


def labels(drawing: Drawing) -> list[str]:
    return [text.get_text() for legend in drawing.legends for text in legend.get_texts()]


def assert_names_are_apart(drawing: Drawing) -> None:
    """No two names of ticks of one axis overlap, and no name leaves the page."""
    assert_nothing_is_cut(drawing)
    axes = drawing.axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        texts = [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_text()]
        turned = {text.get_rotation() for text in texts} - {0.0, 90.0}  # boxes of slanted names do overlap
        boxes = [text.get_window_extent() for text in texts]
        assert turned or not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_means_intervals_and_dots_are_where_the_runs_are() -> None:
    found = points(sweeps.sweep({"optim.lr": sweeps.RATES}, 3))
    drawing, note = axis_figure(found, "optim.lr")
    (bar,) = bars(drawing)
    line, _, (stems,) = bar.lines
    assert isinstance(line, Line2D)
    assert isinstance(stems, LineCollection)
    assert line.get_xdata() == pytest.approx(sweeps.RATES)
    expected = [interval(list(point.accuracies.values())) for point in found]
    assert line.get_ydata() == pytest.approx([each.mean for each in expected])
    ends = [(stem[0][1], stem[1][1]) for stem in stems.get_segments()]
    assert ends == [(pytest.approx(each.low), pytest.approx(each.high)) for each in expected]
    dots = drawing.axes[0].lines[-1].get_xydata()
    assert sorted(dots[:, 1]) == sorted(v for p in found for v in p.accuracies.values())  # type: ignore[index]
    assert (drawing.axes[0].get_xscale(), labels(drawing), note) == ("log", [], "")


def test_numbers_near_one_another_and_words_are_categories() -> None:
    axes: dict[str, tuple[Any, ...]] = {
        "net.depth": (20, 8, 38),
        "net.norm": ("none", "batch"),
        "equal_updates": (False, True),
    }
    for axis, values in axes.items():
        drawing, _ = axis_figure(points(sweeps.sweep({axis: values}, 2)), axis)
        names = [text.get_text() for text in drawing.axes[0].get_xticklabels()]
        expected = ["8", "20", "38"] if axis == "net.depth" else [format_setting(value) for value in values]
        assert (drawing.axes[0].get_xscale(), names) == ("linear", expected)


def test_a_line_for_each_setting_of_the_others_or_for_the_axis_that_matters_most() -> None:
    few = points(sweeps.sweep(TWO, 2))
    lines, note = chosen_lines(few, "optim.lr")
    assert (list(lines), note) == ([f"depth {depth}" for depth in DEPTHS], "")
    assert [len(line) for line in lines.values()] == [6] * 4
    many = points(sweeps.sweep({**TWO, "net.norm": ("batch", "none")}, 2))
    lines, note = chosen_lines(many, "optim.lr")
    assert [label.split(",")[0] for label in lines] == [f"depth {depth}" for depth in DEPTHS]
    assert note.startswith(
        "A line for each value of net.depth, whose mean accuracies differ most, the rest as"
    )
    best = ranked([point for point in many if point.values["net.depth"] == 20])[0]
    assert best in lines[named({"net.depth": 20, "net.norm": best.values["net.norm"]})]
    twelve = points(sweeps.sweep({"net.depth": range(8, 20), "optim.lr": (0.1, 0.2)}, 1))
    lines, note = chosen_lines(twelve, "optim.lr")
    assert list(lines) == [f"depth {depth}" for depth in (8, 10, 12, 15, 17, 19)]
    assert note == "A line for 6 of 12 values of net.depth; one for each of 12 settings would be too many."
    assert evenly(12, 6)[-1] == 11


def test_axes_that_hold_only_under_a_condition() -> None:
    """The slope is leaky_relu's: with relu there is one point, at the base's slope."""
    axes = {"net.activation": ("relu", "leaky_relu"), "net.slope": (0.01, 0.1, 0.3)}
    study = sweeps.sweep(axes, 2, where=lambda s: s["net.activation"] != "relu" or s["net.slope"] == 0.01)
    lines, _ = chosen_lines(points(study), "net.slope")
    assert {label: len(line) for label, line in lines.items()} == {
        "activation relu": 1,
        "activation leaky_relu": 3,
    }
    drawing, note = heat_figure(points(study), "net.slope", "net.activation")
    (mesh,) = (c for c in drawing.axes[0].collections if isinstance(c, QuadMesh))
    assert np.ma.getmaskarray(mesh.get_array()).reshape(2, 3).tolist() == [[False, True, True], [False] * 3]
    assert "Hatched: no run that is done." in note


def test_a_heat_map_says_in_its_cells_what_it_colours() -> None:
    lost = {f"net.depth=38 optim.lr=0.05-s{seed}": "failed" for seed in range(3)}
    lost["net.depth=8 optim.lr=0.01-s1"] = "diverged"
    found = points(sweeps.sweep(TWO, 3, lost))
    drawing, note = heat_figure(found, "optim.lr", "net.depth")
    texts = {text.get_position(): text.get_text() for text in drawing.axes[0].texts}
    assert len(texts) == 23
    for (column, row), text in texts.items():
        label = f"net.depth={DEPTHS[int(row)]} optim.lr={sweeps.RATES[int(column)]}"
        (point,) = (each for each in found if each.label == label)
        assert point.accuracy is not None
        assert text == f"{point.accuracy.mean:.3f}{'' if point.complete else '*'}"
    assert texts[4, 0].endswith("*")
    assert note == (
        "Mean over seeds, of the runs that are done. Hatched: no run that is done. "
        "*: not all of its runs are done."
    )
    three = points(sweeps.sweep({**TWO, "net.norm": ("batch", "none")}, 1))
    _, note = heat_figure(three, "optim.lr", "net.depth")
    assert note.startswith("Mean over seeds and over all settings of the other axes")


LONG = {"net.activation": [f"a_category_with_a_long_name_{i}" for i in range(20)]}
MANY = {"optim.lr": [float(f"{1e-5 * 1.1**i:.3g}") for i in range(100)], "net.depth": range(8, 58)}


@pytest.mark.slow
@pytest.mark.parametrize("axes", [TWO, {**LONG, "optim.lr": sweeps.RATES}, MANY], ids=["two", "long", "many"])
def test_names_stay_readable(axes: dict[str, Any]) -> None:
    study = sweeps.sweep(axes, 1)
    found = points(study)
    for axis in axes:
        assert_names_are_apart(axis_figure(found, axis)[0])
    first, second = axes
    for drawing, _ in (heat_figure(found, first, second), heat_figure(found, second, first)):
        assert_names_are_apart(drawing)
    for drawing, _ in (curve_figure(study, found), flow_lines(found)):
        assert_names_are_apart(drawing)
        height = drawing.axes[0].get_position().height * drawing.get_figheight()
        assert height > 2.0


def test_the_best_and_the_worst_are_chosen() -> None:
    found = points(sweeps.sweep(TWO, 2))
    few, note = chosen(found)
    means = sorted(p.accuracy.mean for p in found if p.accuracy)
    assert sorted(p.accuracy.mean for p in few if p.accuracy) == means[:4] + means[-4:]
    assert note == "The best 4 and the worst 4 of 24 points."
    assert chosen(found[:MOST]) == (found[:MOST], "")
    lost = {f"{p.label}-s{s}": "missing" for p in found[3:] for s in range(2)}
    few, note = chosen(points(sweeps.sweep(TWO, 2, lost)))
    assert [len(p.accuracies) for p in few] == [2, 2, 2, 0, 0, 0, 0, 0]
    assert note == "8 of 24 points, those with runs that are done first."


def test_eight_looks_differ() -> None:
    assert len(set(looks(MOST))) == MOST


def test_gradients_are_geometric_means_and_zeros_stay_zero() -> None:
    study = sweeps.sweep({"net.depth": (8,)}, 2)
    first, second = (run.flow.mean_abs[-1] for run in study.runs.values())
    drawing, note = flow_lines(points(study))
    assert drawing.axes[0].lines[0].get_ydata() == pytest.approx(np.sqrt(first * second))
    assert note == ""
    run = next(iter(study.runs.values()))
    run.flow.mean_abs[:, :2] = 0.0, float("nan")
    drawing, note = flow_lines(points(study))
    assert "1 of 8 values are exactly 0: triangles on the axis floor." in note
    assert "1 of 8 values are not finite and leave gaps." in note
    assert_nothing_is_cut(drawing)


def test_nothing_run_yet_still_draws() -> None:
    study = sweeps.sweep(TWO, 1)
    empty = points(sweeps.sweep(TWO, 1, dict.fromkeys(study.runs, "missing")))
    for drawing, _ in (axis_figure(empty, "optim.lr"), heat_figure(empty, "optim.lr", "net.depth")):
        assert [text.get_text() for text in drawing.axes[0].texts] == ["no run is done yet"]
    drawing, _ = flow_lines(empty)
    assert [text.get_text() for text in drawing.axes[0].texts] == ["not run yet"]


@pytest.mark.slow
def test_files_of_a_heat_map_have_equal_bytes() -> None:
    def files() -> dict[str, bytes]:
        found = points(sweeps.sweep(TWO, 1, {"net.depth=8 optim.lr=0.01-s0": "missing"}))
        return render(Figure("figure-x", "", "", "", heat_figure(found, "optim.lr", "net.depth")[0]))

    assert files() == files()
    assert b"pattern" in files()["svg"]  # hatches


def test_values_and_names_in_words() -> None:
    assert [format_setting(v) for v in (1e-4, 1 / 3, 47_500, True, None, "he")] == [
        "0.0001", "0.3333", "47500", "yes", "default", "he",
    ]  # fmt: skip
    assert [exactly(v) for v in (0.1, 1 / 3, 1e-4)] == ["0.1", "0.3333333333333333", "0.0001"]
    assert short_names(["net.depth", "a.seed", "b.seed"]) == {
        "net.depth": "depth", "a.seed": "a.seed", "b.seed": "b.seed",
    }  # fmt: skip
    assert shorten("x" * 20 + "abc", 11) == "xxxxx…xxabc"
    assert shorten("short", 11) == "short"
    assert (every(10, 3.0), every(100, 3.0)) == (1, 5)


def test_fields_that_vary_together_are_one_axis() -> None:
    axes = {
        "batch_size": (50, 100, 200),
        "optim.lr": (0.01, 0.02, 0.04),
        "net.depth": (8, 14),
        "epochs": (6,),
    }
    study = sweeps.sweep(axes, 2, where=lambda s: s["batch_size"] == 5_000 * s["optim.lr"])
    found = points(study)
    assert [list(point.values) for point in found] == [["batch_size / optim.lr", "net.depth", "epochs"]] * 6
    assert named(found[-1].values) == "batch_size / lr 200 / 0.04, depth 14, epochs 6"
    assert dict(found[-1].settings) == {"batch_size": 200, "optim.lr": 0.04, "net.depth": 14, "epochs": 6}
    made = comparisons(study)
    assert [each.axis for each in made] == ["batch_size / optim.lr"] * 4 + ["net.depth"] * 3
    assert_names_are_apart(axis_figure(found, "batch_size / optim.lr")[0])
