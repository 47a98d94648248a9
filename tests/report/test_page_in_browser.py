"""A study's report in a browser: its runs are sorted, opened, compared and printed from the file alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradscape as gs
import synthetic
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.build import build
from gradscape.report.interactive.page import runs_page
from gradscape.report.interactive.runs import run_row
from gradscape.report.interactive.study import study_values
from gradscape.studies.batchnorm.report import PARTS
from live.browsing import page, violations
from undrawn import rendering

pytestmark = pytest.mark.slow
PLAIN, NORMED = "vgg38-s0", "vgg38-bn-s0"
COMPARED = f"#compare={PLAIN},{NORMED}"
VIEWS = ["", "#C2", "#runs=", f"#training={PLAIN}", COMPARED]
LIGHT_INK = "#1f2329"


def judged(run: RunRecord) -> RunRecord:
    """The run with the diagnosis that is stored when it ends."""
    return dataclasses.replace(run, status={**run.status, "diagnosis": gs.diagnose(run).to_dict()})


def study() -> StudyRecord:
    made = synthetic.study(2)
    return dataclasses.replace(made, runs={name: judged(run) for name, run in made.runs.items()})


@pytest.fixture(scope="module")
def address(once: Callable[[str, Callable[[Path], object]], Path]) -> str:
    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gradscape.report.build.rendering", rendering)
            build(study(), dataclasses.replace(PARTS, pages=lambda study: ()), folder)

    return (once("browsed-report", make) / "index.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1024, "dark"), (390, "dark")])
def test_every_view_is_within_its_width_and_passes_axe(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    with page(chromium, width, scheme) as opened:
        for view in VIEWS:
            opened.goto("about:blank")
            opened.goto(f"{address}{view}")
            opened.wait_for_selector("main:not([hidden]) h1")
            assert opened.locator("main:not([hidden])").count() == 1
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            if width != 1024 and view != "#C2":
                assert violations(opened) == []


def test_pointing_reads_the_value_of_the_record(chromium: Any, address: str) -> None:
    flow = synthetic.run("vgg38", 0).flow
    assert flow is not None
    with page(chromium) as opened:
        opened.goto(f"{address}#training={PLAIN}")
        opened.locator(".chart .over").nth(2).hover(position={"x": 300, "y": 200})
        said = opened.locator("output").nth(2).inner_text()
        found = re.fullmatch(r"(\S+) \((\d+) of 38\), epoch (\d+): mean \|∂L/∂W\| (\S+)", said)
        assert found is not None, said
        layer, epoch = flow.layers.index(found[1]), int(found[3])
        assert layer == int(found[2]) - 1
        assert float(found[4]) == pytest.approx(flow.mean_abs[epoch - 1, layer], rel=6e-3)
        opened.locator(".chart .over").nth(2).click(position={"x": 300, "y": 200})
        assert opened.locator(".layer h3").inner_text() == found[1]


def test_ticked_runs_are_compared_and_the_way_leads_back(chromium: Any, address: str) -> None:
    with page(chromium) as opened:
        opened.goto(address)
        opened.get_by_role("link", name="Sort, find, open and compare").click()
        opened.get_by_label("Find").fill("vgg38-")
        opened.get_by_role("button", name="best valid").click()
        names = opened.locator("tbody th").all_inner_texts()
        accuracies = [max(synthetic.run(*split(name)).curve("valid_accuracy")) for name in names]
        assert len(names) == 6
        assert accuracies == sorted(accuracies)
        for name in (PLAIN, NORMED):
            opened.get_by_label(f"compare {name}", exact=True).check()
        opened.get_by_role("link", name="Compare 2").click()
        opened.wait_for_selector("text=Side by side")
        difference = opened.locator("figure", has_text="Difference")
        chart = difference.locator(".over")
        chart.scroll_into_view_if_needed()
        chart.hover(position={"x": 300, "y": 200})
        said = re.fullmatch(
            r"\S+ \((\d+) of 38\), epoch (\d+): log10 .* (\S+)", difference.locator("output").inner_text()
        )
        assert said is not None
        plain, normed = (synthetic.gradients(role, int(said[2]), 0) for role in ("vgg38", "vgg38-bn"))
        over = np.log10(normed / plain)[int(said[1]) - 1]
        assert float(said[3].replace("−", "-")) == pytest.approx(over, rel=6e-3)
        opened.get_by_role("link", name="Claims 9").click()
        assert opened.locator("#C1").is_visible()
        assert not opened.get_by_text("Side by side").is_visible()
        opened.go_back()
        opened.wait_for_selector("text=Side by side")


def test_maps_side_by_side_are_of_one_quantity_though_another_was_looked_at(
    chromium: Any, tmp_path: Path
) -> None:
    whole, other = (synthetic.run(role, 0) for role in ("vgg38-bn", "vgg38"))
    assert other.flow is not None
    unknown = dataclasses.replace(other.flow, relative_update=np.full_like(other.flow.mean_abs, np.nan))
    runs = [dataclasses.replace(other, flow=unknown), whole]
    made = dataclasses.replace(synthetic.study(1), runs={run.identity: run for run in runs})
    (tmp_path / "runs.html").write_text(runs_page("runs", study_values(made)))
    with page(chromium) as opened:
        opened.goto(f"{(tmp_path / 'runs.html').as_uri()}#training={NORMED}")
        opened.get_by_role("tab", name="update").click()
        opened.goto(f"{(tmp_path / 'runs.html').as_uri()}{COMPARED}")
        opened.wait_for_selector("text=Side by side")
        assert opened.get_by_role("heading", name="Gradient on one scale").is_visible()
        assert set(opened.locator("section .scale .what").all_inner_texts()) == {
            "mean |∂L/∂W|",
            f"log10 of {NORMED} over {PLAIN}",
        }
        headings = opened.locator("figure h2").all_inner_texts()
        assert headings[:2] == ["Loss, validation", "Accuracy, validation"]


def test_a_loss_that_is_no_number_is_sorted_behind_all_others(chromium: Any, tmp_path: Path) -> None:
    losses = {"b": 2.0, "lost": np.nan, "a": 1.0, "high": np.inf, "c": 3.0}
    rows = [run_row(name, name, spark=[4.0, loss]) for name, loss in losses.items()]
    (tmp_path / "runs.html").write_text(runs_page("runs", {"runs": rows, "trainings": {}}))
    with page(chromium) as opened:
        opened.goto((tmp_path / "runs.html").as_uri())
        opened.get_by_role("button", name="loss").click()
        names = opened.locator("tbody th").all_inner_texts()
        assert names[:3] == ["a", "b", "c"]
        assert sorted(names[3:]) == ["high", "lost"]


def split(name: str) -> tuple[str, int]:
    role, seed = name.rsplit("-s", 1)
    return role, int(seed)


def test_a_run_of_the_report_leads_to_its_view_and_a_strange_one_to_a_word(
    chromium: Any, address: str
) -> None:
    with page(chromium) as opened:
        opened.goto(address)
        opened.locator(f"#runs a[href='#training={PLAIN}']").click()
        assert opened.locator("#view h1").inner_text().startswith("Vanishing, beginning at")
        opened.goto(f"{address}#training=none")
        opened.wait_for_selector("text=There is no run none here.")


def test_the_report_reads_without_scripts(chromium: Any, address: str) -> None:
    with page(chromium, scripts=False) as opened:
        opened.goto(address)
        assert not opened.locator("body > nav").is_visible()
        assert not opened.get_by_role("link", name="Sort, find, open and compare").is_visible()
        assert opened.locator("#runs tbody tr").count() == 30
        assert opened.locator("#C1 .forest b").count() == 4  # two parts of two seeds


@pytest.mark.parametrize("view", VIEWS)
def test_paper_is_light_and_has_no_controls_and_all_that_matters(
    chromium: Any, address: str, view: str
) -> None:
    with page(chromium, 390, "dark") as opened:
        opened.goto(f"{address}{view}")
        opened.wait_for_selector("main:not([hidden]) h1")
        opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        opened.emulate_media(media="print", color_scheme="dark")
        opened.set_viewport_size({"width": 680, "height": 900})
        assert opened.evaluate("getComputedStyle(root).getPropertyValue('--ink')") == LIGHT_INK
        assert opened.evaluate("document.documentElement.scrollWidth") <= 682
        assert not opened.locator("body > nav").is_visible()
        for control in opened.locator("main:not([hidden]) :is(input, select, .tabs)").all():
            assert not control.is_visible()
        charts = opened.locator("main:not([hidden]) .chart canvas:first-child")
        widths = charts.evaluate_all("all => all.map((each) => [each.width / 3, each.clientWidth])")
        assert all(abs(drawn - shown) <= 1 for drawn, shown in widths)
        count = {f"#training={PLAIN}": 6, COMPARED: 5}.get(view, 0)
        assert len(widths) == count
        if view == "#runs=":
            assert opened.locator("#view tbody tr").count() == 30
        assert opened.pdf(format="A4").startswith(b"%PDF")
        opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert opened.locator("main:not([hidden]) .chart").count() == {6: 4}.get(count, count)
