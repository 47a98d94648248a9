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
from matplotlib.colors import to_rgb
from PIL import Image

from gradscape.report.figures.base import Drawing, Figure, render, round_ticks
from gradscape.report.figures.gradient_flow import gradient_flow
from gradscape.report.figures.style import EPOCHS, LOOKS
from gradscape.report.svg import inline_svg


def figure(drawing: Drawing) -> Figure:
    return Figure("figure-x", "Title", "", "", drawing)


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


@pytest.mark.slow
def test_no_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, gradscape.studies.batchnorm.report as r; "
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules), 'heavy imports'"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
