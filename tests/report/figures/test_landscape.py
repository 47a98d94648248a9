"""Pictures of landscapes: complete, on one scale, holes where nothing is known."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image

import gradscape as gs
from drawings import assert_nothing_is_cut
from gradscape._codec import decode
from gradscape.errors import ConfigError
from gradscape.records.landscape import Check, LandscapeRecord, TrainingPath, between
from gradscape.report.figures.base import Figure, render
from gradscape.report.figures.landscape import contours, save_animation, slices, surfaces, tick_labels
from gradscape.report.figures.style import SHADOW, styled
from gradscape.report.svg import inline_svg
from synthetic import bowl
from synthetic import landscape as record

PATH = TrainingPath(
    np.array([[0.9, 0.8], [0.3, 0.2], [0.0, 0.0]]),
    np.array([0.1, 0.05, 0.0]),
    np.array([0.8, 0.15]),
    np.array([3.0, 1.0, 0.1]),
    np.array([2.9, 1.0, 0.1]),
)


def test_contours_stand_side_by_side_on_one_scale() -> None:
    drawing = contours({"plain": record(bowl(0.1)), "BatchNorm": record(bowl(30.0), PATH)})
    assert_nothing_is_cut(drawing)
    panels = [axes for axes in drawing.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["plain", "BatchNorm"]
    for axes in panels:
        assert axes.collections[0].get_clim() == pytest.approx((0.1, 90.1))
    assert len(panels[1].lines) > len(panels[0].lines)  # the path


def test_surfaces_share_their_axis_of_heights() -> None:
    drawing = surfaces({"plain": record(bowl(0.1)), "BatchNorm": record(bowl(30.0))})
    limits = {tuple(np.round(axes.get_zlim(), 6)) for axes in drawing.axes}  # type: ignore[attr-defined]
    assert limits == {(-1.0, round(float(np.log10(90.1)), 6))}
    assert len(png(drawing)) > 10_000


def test_what_is_not_finite_is_a_hole() -> None:
    torn = bowl(1.0)
    torn[0, :3, :3] = np.inf
    drawing = contours({"torn": record(torn)})
    assert_nothing_is_cut(drawing)
    whole = contours({"torn": record(bowl(1.0))})
    assert white(drawing) > white(whole) + 0.01


def test_the_cross_at_the_models_own_weights_is_seen_on_pages_too() -> None:
    """White as the ground of a page, which is taken out, it was drawn by nothing."""
    drawn = render(Figure("plane", "", "", "", contours({"plain": record(bowl(1.0), PATH)})), ("svg",))["svg"]
    svg = inline_svg(drawn.decode(), "plane")
    marks = re.findall(r'<use [^>]*style="fill: [^;]*; stroke: (#[0-9a-f]+)', svg)
    assert marks[-2:] == [SHADOW, "#ffffff"]
    assert "fill: #ffffff" not in svg


def png(drawing: Drawing) -> bytes:
    out = io.BytesIO()
    with styled():
        drawing.savefig(out, format="png", dpi=150)
    return out.getvalue()


def white(drawing: Drawing) -> float:
    """Share of a picture."""
    pixels = np.asarray(Image.open(io.BytesIO(png(drawing))).convert("RGB"))
    return float((pixels == 255).all(axis=2).mean())


def test_slices_have_a_band_over_directions() -> None:
    lines = np.stack([1 + s * np.linspace(-1, 1, 11) ** 2 for s in (1, 2, 4)])
    drawing = slices({"plain": record(lines), "alone": record(lines[:1])})
    assert_nothing_is_cut(drawing)
    (axes,) = drawing.axes
    *_, mark = axes.lines
    assert len(axes.lines) == 3
    assert (set(mark.get_xdata()), [text.get_text() for text in axes.texts]) == ({0.0}, ["model"])
    assert len(axes.collections) == 1
    assert axes.lines[0].get_ydata()[0] == pytest.approx(1 + 7 / 3)


def test_each_of_many_slices_is_drawn() -> None:
    drawing = slices({f"runs/vgg38-bn-s{place}": record(np.full((1, 11), 1.0 + place)) for place in range(8)})
    heights = [line.get_ydata()[0] for line in drawing.axes[0].lines[:8]]
    assert heights == [1.0 + place for place in range(8)]
    assert_nothing_is_cut(drawing)


def test_metrics_are_drawn_by_name() -> None:
    drawing = contours({"plain": record(bowl(1.0))}, "accuracy")
    assert drawing.axes[-1].get_ylabel() == "accuracy"
    with pytest.raises(ConfigError, match="'f1' was not measured; known here: loss, accuracy"):
        contours({"plain": record(bowl(1.0))}, "f1")
    with pytest.raises(ConfigError, match="a slice has no contours; give a record of dims=2"):
        contours({"line": record(bowl(1.0)[:, 0])})


def test_the_page_to_turn_is_self_contained(tmp_path: Path) -> None:
    path = gs.save_html({"a": record(bowl(1.0)), "b": record(bowl(9.0))}, tmp_path / "turn.html")
    text = path.read_text()
    assert "Plotly.newPlot" in text
    assert 'src="http' not in text
    assert text.count('"type":"surface"') >= 2


@pytest.mark.slow
def test_an_animation_goes_from_surface_to_surface(tmp_path: Path) -> None:
    moments = {f"epoch {n}": record(bowl(1.0 + n, points=5)) for n in range(2)}
    path = save_animation(moments, tmp_path / "film.gif")
    with Image.open(path) as film:
        assert film.n_frames == 16  # type: ignore[attr-defined]
    assert [each.name for each in tmp_path.iterdir()] == ["film.gif"]
    with pytest.raises(ConfigError, match="give two surfaces or more, all of the same number of points"):
        save_animation({"one": record(bowl(1.0))}, tmp_path / "film.gif")


def test_a_record_says_what_was_found() -> None:
    text = str(record(bowl(1.0, points=41), PATH))
    assert "loss over 41 × 41 points" in text
    assert "basin of half a unit of loss: width 0.59" in text  # √(½ / √2)
    assert "the plane explains 95 % of its variation" in text
    plain = record(bowl(1.0), PATH).to_dict()
    assert plain["path"]["explained"] == [0.8, 0.15]
    assert plain["roughness"] == [pytest.approx(0)]
    json.dumps(plain, allow_nan=False)


def test_between_points_a_valley_is_as_narrow_as_its_parabola() -> None:
    c = np.linspace(-1, 1, 9)
    fine = between(c**2, np.linspace(0, 8, 65), 0)
    assert fine[::8] == pytest.approx(c**2)
    assert fine == pytest.approx(np.linspace(-1, 1, 65) ** 2, abs=0.01)  # straight lines: 0.016
    assert (np.diff(fine)[:32] < 0).all()
    assert (np.diff(fine)[32:] > 0).all()
    torn = between(np.array([1.0, np.inf, 2.0, 3.0, np.nan]), np.array([0.0, 0.5, 1.5, 2.0, 2.5, 3.5]), 0)
    assert np.isfinite(torn).tolist() == [True, False, False, True, True, False]


def test_a_record_is_read_again_as_it_was() -> None:
    loss = bowl(1.0)
    loss[0, 0, 0] = np.nan
    found = record(loss, PATH, check=Check(3, 0.1, 0.2, "relative"), notes=("one",))
    again = decode(LandscapeRecord, json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again.to_dict() == found.to_dict()
    assert again.check == found.check
    assert np.isnan(again.loss[0, 0, 0])
    assert again.measured.dtype == bool


def test_ticks_of_a_flat_landscape_have_labels_that_differ() -> None:
    assert tick_labels([2.31, 2.312, 2.314]) == ["2.31", "2.312", "2.314"]
    assert tick_labels([1000.0, 1020.0, 1e6]) == ["1e3", "1.02e3", "1e6"]
