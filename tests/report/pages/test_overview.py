"""The first figure of a study's page: what its columns read, and that it is there whatever ran."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

import synthetic
from gradscape.analysis.gradient_flow import ended_flows
from gradscape.records.run import StudyRecord
from gradscape.report.pages.overview import BOTTOM, LEFT, RIGHT, TOP, Overview, drawn_overview
from gradscape.report.pages.study import study_page
from gradscape.studies.batchnorm.report import PARTS
from html_pages import Reader

ROLES = ("vgg08", "vgg38", "vgg38-bn")


def page(study: StudyRecord) -> str:
    return study_page(study, "Why?", ["Because."], [], {}, [], [], overview=PARTS.overview)


def test_a_column_reads_the_geometric_mean_over_seeds_of_each_networks_layer() -> None:
    study = synthetic.study(3)
    found = drawn_overview(study, Overview("Depth", ROLES))
    assert len(found.columns) == 38
    for index, role in enumerate(ROLES):
        means = np.array([flow.mean(axis=0) for flow, _ in ended_flows(study, role).values()])
        typical = np.exp(np.log(means).mean(axis=0))
        assert found.lines[index].values == pytest.approx(typical.tolist(), rel=1e-12)
        assert found.lines[index].seeds == 3
    first, last = found.columns[0], found.columns[-1]
    assert (first.x, last.x) == (LEFT, RIGHT)
    deep = found.lines[1].values
    assert first.readings[1] == (1, f"VGG38, layer 1 of 38: {deep[0]:.1e}")
    assert last.readings[0] == (0, f"VGG08, layer 8 of 8: {found.lines[0].values[-1]:.1e}")


def test_equal_decades_are_equal_heights_for_all_lines() -> None:
    found = drawn_overview(synthetic.study(2), Overview("Depth", ROLES))
    heights = {}
    for column in found.columns:
        for (index, text), (_, height) in zip(column.readings, column.points, strict=True):
            layer = int(re.search(r"layer (\d+)", text)[1])  # type: ignore[index]
            heights[np.log10(found.lines[index].values[layer - 1])] = height
    logs = np.array(sorted(heights))
    slope, offset = np.polyfit(logs, [heights[each] for each in logs], 1)
    assert np.abs(slope * logs + offset - [heights[each] for each in logs]).max() < 0.1
    assert min(heights.values()) >= TOP
    assert max(heights.values()) <= BOTTOM
    assert slope < 0


def test_a_gradient_of_0_lies_on_the_floor_and_reads_0() -> None:
    study = synthetic.study(1)
    identity = study.roles["vgg38"].runs[0]
    run = study.runs[identity]
    assert run.flow is not None
    zeros = run.flow.mean_abs.copy()
    zeros[:, 0] = 0
    dead = dataclasses.replace(run, flow=dataclasses.replace(run.flow, mean_abs=zeros))
    changed = dataclasses.replace(study, runs={**study.runs, identity: dead})
    found = drawn_overview(changed, Overview("Depth", ROLES))
    assert "a gradient of exactly 0 counts as the lowest line" in page(changed)
    assert "exactly 0" not in page(study)
    column = found.columns[0]
    assert column.readings[1][1] == "VGG38, layer 1 of 38: 0"
    assert column.points[1] == (1, BOTTOM)


def test_accuracies_and_guessing() -> None:
    found = drawn_overview(synthetic.study(3), Overview("Depth", ROLES))
    assert found.guess == 0.01
    assert [len(line.accuracies) for line in found.lines] == [3, 3, 3]
    assert [round(line.accuracy, 1) for line in found.lines] == [0.5, 0.0, 0.5]


def test_every_line_can_be_taken_away_and_every_column_reached_without_a_mouse() -> None:
    html = page(synthetic.study(2))
    read = Reader(html)
    ids = Counter(read.values("id"))
    for number in range(3):
        assert ids[f"show-{number}"] == 1
        assert f".overview:has(#show-{number}:not(:checked)) .of-{number} {{ display: none; }}" in html
        assert f'class="of-{number}"' in html
    assert read.values("tabindex").count("0") >= 38
    assert not {tag for tag, _, _ in read.attributes} & {"iframe", "img"}


@pytest.mark.parametrize("seeds", [1, 2])
def test_it_is_there_whatever_has_run(seeds: int) -> None:
    study = synthetic.study(seeds)
    none = dataclasses.replace(study, runs={})
    html = page(none)
    assert "no run has ended yet" in html
    assert html.count("not run yet") >= 3
    alone = {name: study.runs[name] for name in study.roles["vgg08"].runs}
    html = page(dataclasses.replace(study, runs=alone))
    assert "VGG08, layer 1 of 8" in html
    assert "VGG38, layer" not in html
    Reader(page(synthetic.broken_study()))


def test_labels_are_escaped() -> None:
    study = synthetic.study(1)
    role = dataclasses.replace(study.roles["vgg08"], label="<script>alert(1)</script>")
    html = page(dataclasses.replace(study, roles={**study.roles, "vgg08": role}))
    assert html.count("<script") == 2  # the page's data, and its own
    assert "&lt;script&gt;" in html
