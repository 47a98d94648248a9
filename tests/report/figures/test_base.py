import dataclasses
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from PIL import Image

from drawings import assert_nothing_is_cut, texts
from gradscape.report.figures.base import (
    NARROWEST,
    Drawing,
    Figure,
    Series,
    curves,
    gradient_flow,
    render,
    round_ticks,
)
from gradscape.report.figures.style import EPOCHS, LOOKS
from gradscape.report.svg import inline_svg


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


def test_curves_without_runs_say_so() -> None:
    drawing = curves([Series("a (not run yet)", (), (), LOOKS[0])], "loss", reference=("guessing", 4.6))
    assert texts(drawing) == ["not run yet"]


@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("length", [5, 12, 20, 24, 28, 36, 57])
def test_legends_fit(length: int, count: int) -> None:
    label = "batch 800, here 400 (1 of 3 diverged, 1 of 3 not run yet)"[:length]
    drawing = curves([Series(label, ((0.1,),), (False,), look) for look in LOOKS[:count]], "y")
    assert_nothing_is_cut(drawing)


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (1, [1]),
        (2, [1, 2]),
        (8, list(range(1, 9))),
        (38, [1, 5, 10, 15, 20, 25, 30, 38]),
        (100, [1, 20, 40, 60, 80, 100]),
    ],
)
def test_round_ticks(last: int, ticks: list[int]) -> None:
    assert round_ticks(last) == ticks


def test_files_are_whole_dateless_and_the_same_again() -> None:
    def files() -> dict[str, bytes]:
        return render(figure(gradient_flow([np.array([[1e-3, 1e-2], [1e-4, 1e-2]])])[0]))

    first, second = files(), files()
    assert first == second
    assert list(first) == ["svg", "png", "pdf"]
    ET.fromstring(first["svg"])
    Image.open(io.BytesIO(first["png"])).verify()
    assert first["pdf"].startswith(b"%PDF")
    for data in first.values():
        for word in (b"Matplotlib v", b"CreationDate", b"dc:date", b"Software"):
            assert word not in data


def test_the_users_settings_do_not_matter() -> None:
    def svg() -> bytes:
        return render(figure(gradient_flow([np.array([[1e-3, 1e-2]])])[0]))["svg"]

    plain = svg()
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "none", "lines.linewidth": 9}):
        assert svg() == plain


def test_inline_svg_takes_the_pages_colours_and_shares_no_ids() -> None:
    drawing, _ = gradient_flow([np.array([[1e-3, 1e-2]])], band=(1e-4, 1e-1))
    svg = render(figure(drawing))["svg"].decode()
    first, second = ET.fromstring(inline_svg(svg, "a")), ET.fromstring(inline_svg(svg, "b"))
    ids = [{e.get("id") for e in root.iter() if e.get("id")} for root in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    text = inline_svg(svg, "a")
    assert "currentColor" in text
    assert "var(--grid)" in text
    assert "var(--shade)" in text
    assert "<style" not in text
    assert not any(word in text for word in ("#1f2329", "#ffffff", "<metadata", "xlink"))
    targets = {e.get("href", "#a-")[:3] for e in first.iter()}
    assert targets == {"#a-"}


def luminance(colour: object) -> float:
    """Relative luminance, WCAG 2."""
    channels = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_lines_are_readable_on_white_and_on_dark() -> None:
    shades = [EPOCHS(x) for x in np.linspace(0, 1, 9)]
    dark = luminance("#181c20")
    for colour in [*shades, *(look.color for look in LOOKS)]:
        assert 1.05 / (luminance(colour) + 0.05) > 2
        assert (luminance(colour) + 0.05) / (dark + 0.05) > 2
    light = [luminance(shade) for shade in shades]
    assert light == sorted(light), "the order of epochs must survive in grey"


def test_series_differ_without_colour() -> None:
    assert len({(look.dash, look.marker) for look in LOOKS}) == len(LOOKS)


def test_a_figure_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        figure(Drawing()).name = "x"  # type: ignore[misc]


def test_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, gradscape.studies.batchnorm.report as r; "
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules), 'heavy imports'"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
