"""Landscapes of a study: the record's own numbers in table and captions, panels on one scale."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

import synthetic
from gradscape.records.landscape import Check
from gradscape.report.figures.basin import basins_table, landscape_figures
from gradscape.report.pages.landscape import turning_pages

ROLES = {"vgg38": "VGG38", "vgg38-bn": "VGG38 + BatchNorm"}


def test_the_table_has_the_width_of_the_bowls() -> None:
    table = basins_table(synthetic.study(seeds=1), "table-5", "Table 5", ROLES)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    loss = synthetic.bowl(synthetic.BETA["vgg38-bn"])
    record = synthetic.landscape(loss)
    assert rows["VGG38 + BatchNorm"]["loss in the middle"] == "0.1"
    assert float(rows["VGG38 + BatchNorm"]["width at +1"]) == pytest.approx(record.basin(1.0).width[0], 0.01)
    assert record.basin(1.0).width[0] == pytest.approx(sqrt(1 / (20 * sqrt(2))), rel=0.15)  # on 9 points
    assert rows["VGG38 + BatchNorm"]["roughness"] == "0"
    assert rows["VGG38"]["seeds"] == "1 of 1"


def test_panels_share_their_scale_and_say_how_far_they_are_to_be_trusted() -> None:
    study = synthetic.study(seeds=2)
    figures = landscape_figures(study, "figure-7", "Figure 7", ROLES)
    assert [figure.name for figure in figures] == ["figure-7a", "figure-7b"]
    scales = [figure.drawing.axes[0].collections[0].get_clim() for figure in figures]
    assert scales[0] == pytest.approx(scales[1])
    assert "Loss of 500 training images" in figures[0].caption
    assert "81 of 81 points evaluated" in figures[0].caption


def test_checks_and_holes_are_told() -> None:
    loss = synthetic.bowl(1.0)
    loss[0, 0, :2] = float("inf")
    torn = synthetic.landscape(loss, check=Check(10, 0.01, 0.05, "relative"))
    run = replace(synthetic.run("vgg38", 0), landscape=torn)
    (figure,) = landscape_figures(
        synthetic.study(seeds=1, replaced={"vgg38-s0": run}), "figure-7", "Figure 7", {"vgg38": "VGG38"}
    )
    assert "interpolation is off by 1 % (typical) to 5 % (worst of 10)" in figure.caption
    assert "2 points are not finite" in figure.caption


def test_what_was_not_measured_is_said() -> None:
    study = synthetic.study(seeds=1)
    runs = {name: replace(run, landscape=None) for name, run in study.runs.items()}
    without = replace(study, runs=runs)
    (figure,) = landscape_figures(without, "figure-7", "Figure 7", {"vgg38": "VGG38"})
    assert "not measured" in [text.get_text() for text in figure.drawing.axes[0].texts]
    (row,) = basins_table(without, "table-5", "Table 5", {"vgg38": "VGG38"}).rows
    assert row[1] == "–"
    assert turning_pages(without, {"figure-7": ROLES}) == []


def test_a_page_of_several_figures_has_one_script_for_all_and_stays_below_5_mb() -> None:
    study = synthetic.study(seeds=1)
    groups = {"figure-7": ROLES, "figure-8": {"batch-800": "batch 800"}}
    (page,) = turning_pages(study, groups)
    html = page.data.decode()
    assert page.name == "surfaces.html"
    (packed,) = re.findall(r'<script type="text/plain" id="plotly">([^<]*)<', html)
    assert gzip.decompress(base64.b64decode(packed)).decode().count("plotly.js v") == 1
    for number in (1, 2):
        count = len(groups[f"figure-{number + 6}"])
        assert html.count(f'<figure id="surfaces-{number}-contours-') == count
    figures = re.findall(r'<div class="surface"></div>\n<script type="application/json">(.*)</script>', html)
    assert [json.loads(figure)["data"][0]["type"] for figure in figures] == ["surface"] * (len(ROLES) + 1)
    assert len(page.data) < 3 * 10**6
    assert 'showSendToCloud: false, plotlyServerURL: ""' in html  # plotly's own default offers to upload


@pytest.mark.parametrize(("height", "cut"), [(1e7, True), (2.0, False)])
def test_a_network_that_explodes_hides_no_other_surface(height: float, cut: bool) -> None:
    loss = np.full((1, 9, 9), 1.0)
    loss[0, 0, 0] = height
    run = replace(synthetic.run("vgg38", 0), landscape=synthetic.landscape(loss))
    study = synthetic.study(seeds=1, replaced={"vgg38-s0": run})
    (page,) = turning_pages(study, {"figure-7": {"vgg38": "VGG38"}})
    top = 10 * log(100) if cut else height
    (end,) = re.findall(r'"cmax":([0-9.]+)', page.data.decode())
    assert (10 ** float(end) if cut else float(end)) == pytest.approx(top)
    assert ("Scales end at 46.1; what is higher is cut off." in page.data.decode()) is cut
