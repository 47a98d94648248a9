"""The pages in a browser, while a real training runs and afterwards."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gradscape as gs
from gradscape.analysis.claims import above
from gradscape.cli.main import main
from gradscape.report.interactive.document import watch_document
from gradscape.report.interactive.forest import forest
from gradscape.report.interactive.page import training_page
from gradscape.report.interactive.verdicts import Verdict
from gradscape.storage.watch_folder import WatchReader
from libraries import skip_without
from live.browsing import page, violations
from live.test_server import started
from live.watching import watch_in

skip_without("starlette")
pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="document.title=1">'
TRAINING = """
import sys, time, torch
from torch import nn
import gradscape as gs
from gradscape.integrations import Folder
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
with gs.watch(model, optimizer) as flow, Folder(sys.argv[1]).follow(flow):
    while True:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 3).backward()
        optimizer.step()
        time.sleep(0.02)
"""

HEADINGS = """() => {
    window.headings = [];
    const look = () => headings.push(document.querySelector("#view h1").innerText);
    new MutationObserver(look).observe(document.getElementById("view"), { childList: true });
}"""


@pytest.fixture(scope="module")
def folder(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(path: Path) -> None:
        watch_in(path / "well", 30)
        watch_in(path / HOSTILE.replace("/", ""), 30, deep=True)
        small = ["--net.filters=4", "--data.train=60", "--data.valid=20", "--batch-size=20", "--epochs=3"]
        for seed in (0, 1):
            main(
                [
                    "train",
                    *small,
                    "--net.depth=8",
                    "--threads=1",
                    f"--seed={seed}",
                    "--out",
                    str(path / f"run-{seed}"),
                ]
            )

    return once("browsed", make)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process, found = started(folder, "--port", "0", "--end-with-input")
    yield found
    process.communicate(timeout=30)


VIEWS = ["", "#training=well", "#training=run-0", "#compare=run-0,run-1", "#claims", "#events"]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_view_is_within_its_width_and_passes_axe(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    with page(chromium, width, scheme) as opened:
        for view in VIEWS:
            opened.goto("about:blank")
            opened.goto(f"{address}{view}")
            opened.wait_for_selector("#view h1")
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            assert violations(opened) == []


def test_values_on_the_page_are_those_of_the_files(chromium: Any, address: str, folder: Path) -> None:
    reader = WatchReader(folder / "well")
    reader.poll()
    history = reader.history
    with page(chromium) as opened:
        opened.goto(f"{address}#training=well")
        chart = opened.locator(".chart .over").nth(1)
        chart.focus()
        for key in ("ArrowDown", "ArrowUp", "ArrowLeft"):
            chart.press(key)
        said = opened.locator("output").nth(1).inner_text()
        found = re.fullmatch(r"(\S+) \(1 of 2\), step (\d+): mean \|∂L/∂W\| (\S+)", said)
        assert found is not None, said
        place = history.layers.index(found[1])
        assert float(found[3]) == pytest.approx(
            history.mean_abs[list(history.steps).index(int(found[2])), place], rel=5e-3
        )
        opened.get_by_text("All 4 parameter tensors").click()
        shown = opened.locator("details tbody tr").first.locator("td").nth(3).inner_text()
        assert float(shown) == pytest.approx(history.mean_abs[-1, 0], rel=5e-3)


def test_a_click_opens_a_layer_and_the_wheel_looks_closer(chromium: Any, address: str) -> None:
    with page(chromium) as opened:
        opened.goto(f"{address}#training=run-0")
        chart = opened.locator(".chart .over").nth(2)
        chart.click(position={"x": 200, "y": 30})
        assert opened.locator(".layer h3").first.inner_text().endswith("weight")
        low, high = opened.evaluate("[main.firstChild.span.low, main.firstChild.span.high]")
        chart.hover(position={"x": 200, "y": 30})
        opened.mouse.wheel(0, -100)
        assert opened.evaluate("main.firstChild.span.high - main.firstChild.span.low") <= high - low


def test_news_leave_the_page_as_its_reader_had_it(chromium: Any, address: str) -> None:
    with page(chromium) as opened:
        opened.goto(f"{address}#training=run-0")
        opened.wait_for_selector("#connection:has-text('live')")
        chart = opened.locator(".chart .over").nth(2)
        chart.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "Enter"):
            chart.press(key)
            opened.evaluate("show()")
        said = opened.locator("output").nth(2).inner_text()
        assert re.match(r"\S+ \(2 of \d+\), epoch 2: mean \|∂L/∂W\|", said), said
        layer = opened.locator(".layer h3").inner_text()
        assert said.startswith(f"{layer} (")
        assert opened.evaluate("document.activeElement === main.querySelectorAll('.over')[2]")

        line = opened.locator(".keys button").first
        line.click()
        opened.locator("details.fold summary").click()
        opened.evaluate("main.firstChild.span.zoom(0.5, 2)")
        steps = opened.evaluate("[main.firstChild.span.low, main.firstChild.span.high]")
        for _ in range(2):
            opened.evaluate("show()")
        assert line.get_attribute("aria-pressed") == "false"
        assert opened.evaluate("main.querySelector('.chart').chart.hidden.size") == 1
        assert opened.locator("details.fold").get_attribute("open") is not None
        assert opened.evaluate("[main.firstChild.span.low, main.firstChild.span.high]") == steps
        assert opened.locator("output").nth(2).inner_text() == said
        assert violations(opened) == []

        opened.evaluate("location.hash = '#training=run-1'")
        opened.wait_for_selector("ul.meta li:text-is('run-1')")
        assert opened.locator(".layer h3").count() == 0
        assert opened.locator("output").nth(2).inner_text().strip() == ""


def test_a_late_answer_is_not_shown_over_another_run(chromium: Any, address: str) -> None:
    held: list[Any] = []
    with page(chromium) as opened:
        opened.goto(f"{address}#training=run-0")
        opened.wait_for_selector("ul.meta li:text-is('run-0')")
        opened.route(re.compile("api/training.*id=run-0"), lambda route: held.append(route))
        opened.evaluate("void show()")
        opened.evaluate("location.hash = '#training=run-1'")
        opened.wait_for_selector("ul.meta li:text-is('run-1')")
        with opened.expect_response(re.compile("api/training.*id=run-0")):
            held[0].continue_()
        opened.wait_for_timeout(300)
        assert opened.locator("ul.meta li").first.inner_text() == "run-1"
        opened.unroute_all(behavior="ignoreErrors")


def test_a_finger_reads_values_and_a_tap_opens_a_layer(chromium: Any, address: str) -> None:
    with page(chromium, 390, touch=True) as opened:
        opened.goto(f"{address}#training=well")
        opened.locator(".chart .over").nth(1).tap(position={"x": 150, "y": 40})
        opened.wait_for_selector(".layer h3")
        assert re.search(r"step \d+: mean", opened.locator("output").nth(1).inner_text())
        assert opened.locator(".touch").is_visible()
        assert not opened.locator(".mouse").is_visible()


def test_a_verdict_that_was_renamed_is_told_with_its_steps(chromium: Any, folder: Path) -> None:
    reader = WatchReader(folder / "well")
    reader.poll()
    names = [
        ("vanishing", 5),
        ("vanishing", 9),
        ("sigmoids between layers", 12),
        ("sigmoids between layers", 29),
    ]
    verdicts = [Verdict(step, name, "fail", "0.weight") for name, step in names]
    text = training_page(watch_document(reader.history, gs.diagnose(reader.history), verdicts, id="w"), "w")
    with page(chromium) as opened:
        opened.set_content(text)
        told = [
            "steps 5–9: vanishing, from 0.weight on",
            "steps 12–29: sigmoids between layers, from 0.weight on",
        ]
        assert opened.locator("ul.spells li").all_inner_texts() == told
        assert [each.get_attribute("title") for each in opened.locator(".ribbon i").all()] == told


def test_runs_are_sorted_found_and_compared(chromium: Any, address: str, folder: Path) -> None:
    with page(chromium) as opened:
        opened.goto(address)
        _wait(lambda: opened.locator("tbody tr input").count() == 4)
        opened.wait_for_selector("p.note:text-is('4 of 4 runs')")
        opened.get_by_label("Find").fill("run-")
        assert opened.locator("tbody tr input").count() == 2
        for tick in opened.locator("tbody tr input").all():
            tick.check()
        opened.get_by_role("link", name="Compare 2").click()
        opened.wait_for_selector("text=Side by side")
        found = gs.compare(folder / "run-0", folder / "run-1")
        said = opened.locator("#differences").inner_text()
        assert found.verdict in said.lower() if not found.first else found.verdict[1:] in said
        assert found.basis[1:] in said
        settings = opened.locator("#differences tbody tr").all_inner_texts()
        assert [line.split() for line in settings] == [
            [each.name, str(each.a), str(each.b)] for each in found.settings
        ]
        assert ["seed", "0", "1"] in [line.split() for line in settings]
        assert opened.locator("figure h2", has_text="Difference").count() == 1


def test_claims_are_drawn_with_their_limits(chromium: Any, address: str) -> None:
    part = above("accuracy", {0: 0.4, 1: 0.5, 2: 0.6}, 0.1)
    words = {"text": part.measured, "rule": part.rule, "shown": part.reason, "forest": forest(part)}
    claim = {
        "id": "C1",
        "title": "It trains",
        "text": "",
        "verdict": part.verdict,
        "note": "",
        "parts": [words],
    }
    with page(chromium) as opened:
        opened.goto(f"{address}#claims")
        opened.wait_for_selector("text=No claim has been judged yet.")
        opened.evaluate("(claims) => { state.claims = claims; show(); }", [claim])
        opened.wait_for_selector(".forest")
        assert [opened.locator(f".forest {tag}").count() for tag in ("b", "i", "u")] == [3, 1, 1]
        assert violations(opened) == []


def test_a_hostile_name_is_text(chromium: Any, address: str) -> None:
    with page(chromium) as opened:
        opened.goto(address)
        link = opened.get_by_role("link", name=HOSTILE)
        link.click()
        opened.wait_for_selector("#findings")
        assert opened.locator("img").count() == 0
        assert opened.title() != "1"


def test_without_scripts_there_is_a_table(chromium: Any, address: str) -> None:
    with page(chromium, scripts=False) as opened:

        def whole() -> bool:  # the server may have begun just now, and know one run after the other
            opened.goto(address)
            return int(opened.locator("tbody tr").count()) >= 4

        _wait(whole)
        assert opened.locator("tbody tr").count() == 4
        assert HOSTILE in opened.locator("table").inner_text()
        assert not opened.locator("#connection").is_visible()  # it would say "connecting" for good


def test_a_training_is_followed_a_killed_server_harms_nothing_and_the_page_comes_back(
    chromium: Any, tmp_path: Path
) -> None:
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(tmp_path / "w")])
    process, address = started(tmp_path, "--port", "0")
    port = address.split(":")[2].strip("/")
    try:
        with page(chromium) as opened:
            opened.goto(f"{address}#training=w")
            opened.wait_for_selector("text=step", timeout=60_000)
            before = _step(opened)
            _wait(lambda: _step(opened) > before)
            opened.evaluate(HEADINGS)
            process.kill()
            process.communicate()
            opened.wait_for_selector("text=not connected", timeout=30_000)
            assert training.poll() is None
            process, again = started(tmp_path, "--port", port)
            assert again == address
            before = _step(opened)
            opened.wait_for_selector("#connection:has-text('live')", timeout=60_000)
            _wait(lambda: _step(opened) > before)
            reader = WatchReader(tmp_path / "w")
            reader.poll()
            assert _step(opened) <= reader.info.step
            assert "This cannot be shown" not in opened.evaluate("headings")
    finally:
        for each in (training, process):
            each.kill()
            each.communicate()


def _step(opened: Any) -> int:
    found = re.search(r"step ([\d,]+)", opened.locator("ul.meta").inner_text())
    return int(found[1].replace(",", "")) if found else -1


def _wait(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_saved_page_hovers_without_a_server(chromium: Any, folder: Path, tmp_path: Path) -> None:
    reader = WatchReader(folder / "well")
    reader.poll()
    saved = gs.save_html(reader.history, tmp_path / "page.html")
    with page(chromium, 390, "dark") as opened:
        opened.goto(saved.as_uri())
        opened.locator(".chart .over").nth(1).hover(position={"x": 150, "y": 40})
        assert "mean |∂L/∂W|" in opened.locator("output").nth(1).inner_text()
        assert not opened.locator("nav").is_visible()
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(opened) == []
