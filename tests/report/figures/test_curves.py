import dataclasses

import numpy as np
import pytest

import synthetic
from drawings import assert_nothing_is_cut, texts
from gradscape.records.role import Role
from gradscape.report.figures.base import Figure, render
from gradscape.report.figures.curves import NARROWEST, Series, both_splits, curves, one_split
from gradscape.report.figures.style import LOOKS, looks


def test_curves_show_mean_band_leftovers_and_divergence() -> None:
    series = Series("a", ((0.1, 0.2, 0.3), (0.3, 0.4)), (False, True), LOOKS[0])
    drawing = curves([series, Series("b (not run yet)", (), (), LOOKS[1])], "accuracy", bottom=0.0)
    mean, leftover, cross, empty = drawing.axes[0].lines
    assert np.allclose(mean.get_ydata(), [0.2, 0.3])
    assert np.allclose(leftover.get_xydata(), [[2, 0.2], [3, 0.3]])  # type: ignore[arg-type]
    assert (cross.get_marker(), cross.get_xdata()[0], cross.get_ydata()[0]) == ("x", 2, 0.4)  # type: ignore[index]
    assert len(empty.get_xdata()) == 0  # type: ignore[arg-type]
    assert [t.get_text() for t in drawing.legends[0].get_texts()] == ["a", "b (not run yet)"]
    assert drawing.axes[0].get_ylim()[0] == 0


def test_constant_curves_do_not_look_like_noise() -> None:
    low, high = curves([Series("a", ((4.605, 4.606),), (False,), LOOKS[0])], "loss").axes[0].get_ylim()
    assert high - low == pytest.approx(NARROWEST)


def test_panels_beside_each_other_have_one_scale() -> None:
    low, high = (Series("a", ((0.1, level),), (False,), LOOKS[0]) for level in (0.3, 0.9))
    scales = [
        curves([one], "accuracy", bottom=0.0, beside=[other]).axes[0].get_ylim()
        for one, other in ((low, high), (high, low))
    ]
    assert scales[0] == scales[1]
    assert scales[0][0] == 0.0
    assert 0.9 < scales[0][1] < 1.0


def test_curves_without_runs_say_so() -> None:
    drawing = curves([Series("a (not run yet)", (), (), LOOKS[0])], "loss", reference=("guessing", 4.6))
    assert texts(drawing) == ["not run yet"]


@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("length", [5, 12, 20, 24, 28, 36, 57])
def test_legends_fit(length: int, count: int) -> None:
    label = "batch 800, here 400 (1 of 3 diverged, 1 of 3 not run yet)"[:length]
    drawing = curves([Series(label, ((0.1,),), (False,), look) for look in LOOKS[:count]], "y")
    assert_nothing_is_cut(drawing)


@pytest.mark.parametrize("count", [1, 6])
def test_long_labels_are_broken_into_lines(count: int) -> None:
    label = (
        "a network of which its author has told at some length what it is and how it differs from the rest"
    )
    drawing = curves([Series(label, ((0.1,),), (False,), look) for look in LOOKS[:count]], "y")
    assert_nothing_is_cut(drawing)
    assert drawing.axes[0].get_position().height * drawing.get_figheight() > 1.5


@pytest.mark.parametrize("label", ["costs $x^$", "from $5 to $6", "_plain", "half \ud800"])
def test_a_label_of_anybody_is_drawn_as_it_is(label: str) -> None:
    drawing = curves([Series(each, ((0.1,),), (False,), LOOKS[0]) for each in (label, "other")], "y")
    assert render(Figure("figure-1", "", "", "", drawing), ["svg"])["svg"]
    first, other = (text.get_text() for text in drawing.legends[0].get_texts())
    shown = label.replace("\ud800", "?")
    assert (first.lstrip("\u200b").replace(r"\$", "$"), other) == (shown, "other")


@pytest.mark.parametrize("count", [7, 20])
def test_each_of_many_roles_has_a_line_of_its_own(count: int) -> None:
    study = synthetic.study(1)
    runs = study.roles["vgg38"].runs
    roles = {f"role-{place}": Role(f"role-{place}", runs=runs) for place in range(count)}
    labels = {name: role.label for name, role in roles.items()}
    many = dataclasses.replace(study, roles=roles)
    one = one_split(many, "figure-1", "", "", labels, "train")
    both = both_splits(many, "figure-2", "", "", labels, "loss")
    for figure, lines in ((one, count), (both, 2 * count)):
        drawn = [line for line in figure.drawing.axes[0].lines if line.get_label() in figure_labels(figure)]
        styles = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in drawn]
        assert len(set(styles)) == lines


def figure_labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.drawing.legends[0].get_texts()]


def test_looks_differ_and_begin_with_the_colors() -> None:
    assert looks(6) == [*LOOKS]
    assert len(set(looks(36))) == 36
