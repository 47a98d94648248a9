import numpy as np
import pytest
from matplotlib.collections import LineCollection

from drawings import assert_nothing_is_cut, texts
from gradscape.report.figures.base import Drawing, Figure, render
from gradscape.report.figures.gradient_flow import gradient_flow


def figure(drawing: Drawing) -> Figure:
    return Figure("figure-x", "Title", "", "", drawing)


def test_gradient_flow_draws_a_line_per_epoch_and_seed() -> None:
    runs = [10.0 ** np.random.default_rng(seed).uniform(-9, -1, (4, 38)) for seed in range(2)]
    drawing, note = gradient_flow(runs, band=(1e-4, 1e-1), marks={"eps": 1e-8, "outside": 1e-30})
    axes = drawing.axes[0]
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert [len(c.get_segments()) for c in lines] == [4, 4]
    assert np.array_equal(lines[1].get_segments()[2][:, 1], runs[1][2])
    assert axes.get_yscale() == "log"
    assert axes.get_xticks().tolist() == [1, 5, 10, 15, 20, 25, 30, 38]
    assert (note, texts(drawing)) == ("", ["eps"])
    assert_nothing_is_cut(drawing)


def test_panels_beside_each_other_have_one_scale() -> None:
    deep, shallow = 10.0 ** np.linspace(-19, -4, 38)[None], 10.0 ** np.linspace(-2, -3, 8)[None]
    first, second = (
        gradient_flow([one], beside=[other])[0].axes[0].get_ylim()
        for one, other in ((deep, shallow), (shallow, deep))
    )
    assert first == second == (1e-19, 1e-2)


def test_zeros_stand_on_the_floor_and_are_told() -> None:
    flow = np.array([[0.0, 1e-12, 1e-3], [0.0, 0.0, np.nan]])
    drawing, note = gradient_flow([flow])
    axes = drawing.axes[0]
    floor = axes.get_ylim()[0]
    assert floor == pytest.approx(1e-13)
    (triangles,) = axes.lines
    assert triangles.get_xydata().tolist() == [[1, floor], [2, floor]]  # type: ignore[union-attr]
    assert note.startswith("3 of 6 values are exactly 0: triangles on the axis floor.")
    assert note.endswith("1 of 6 values are not finite and leave gaps.")
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    assert lines.get_segments()[0][:, 1].tolist() == [floor, 1e-12, 1e-3]


def test_all_zeros_and_nothing_at_all_still_draw() -> None:
    drawing, note = gradient_flow([np.zeros((1, 3))])
    assert "3 of 3" in note
    render(figure(drawing))
    for runs in ([], [np.empty((0, 0))]):
        drawing, note = gradient_flow(runs, absent="diverged in epoch 1, step 17")
        assert texts(drawing) == ["diverged in epoch 1, step 17"]
        assert_nothing_is_cut(drawing)
