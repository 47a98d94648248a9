"""What the live page costs: a folder of many runs, and a watch of many layers and steps.

    cd benchmarks && PYTHONPATH=../src python live.py

writes `results/live.json`: seconds until the page is there and until all runs are known, from a run's new
epoch, and from the failure of any other, to the news of it at a client and in the table of a browser, the
server's memory, and milliseconds of the browser for drawing and pointing (with chromium and playwright). The
trainings are made up: files as gradscape writes them, with random numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from gradscape._codec import encode
from gradscape.config.run import RunConfig
from gradscape.records.gradients import FlowHistory, OptimizerFacts
from gradscape.records.loss import LossHistory
from gradscape.records.role import Role
from gradscape.records.run import EpochRecord
from gradscape.storage.json_files import with_checksum
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.storage.watch_folder import WatchReader, WatchWriter
from measure import write

EPOCHS = 100


def epoch_line(identity: str, epoch: int, draw: np.random.Generator) -> bytes:
    loss = float(2.3 * np.exp(-epoch / 40) + 0.1 * draw.random())
    record = EpochRecord(epoch, 1e-3, loss, 1 - loss / 3, loss + 0.1, 0.9 - loss / 3, 10.0, 1_000.0)
    return with_checksum({"run": identity, **encode(record)})


def make_study(folder: Path, runs: int) -> None:
    """A study of runs that are done but for the last, which is at its 50th epoch."""
    os.fsync = lambda _: None  # type: ignore[assignment]  # ten thousand folders wait for no disk
    draw, names = np.random.default_rng(0), []
    for seed in range(runs):
        config = RunConfig(seed=seed, epochs=EPOCHS)
        run = RunFolder(folder / "runs" / config.identity)
        run.create(config)
        last = EPOCHS if seed < runs - 1 else 50
        lines = (epoch_line(config.identity, epoch, draw) for epoch in range(1, last + 1))
        run.metrics.write_bytes(b"".join(lines))
        run.set_status("done" if last == EPOCHS else "running", attempts=1)
        names.append(config.identity)
    role = Role("all", "all", "runs", {})
    asked = {"study": "many", "preset": "none", "roles": {"all": replace(role, runs=tuple(names))}}
    StudyFolder(folder).ask(asked)


def made_history(steps: int, rows: int, layers: int) -> FlowHistory:
    """A watch of a deep network, of which every `steps // rows`-th step was read."""
    draw = np.random.default_rng(1)
    shape = (rows, layers)
    small = 10 ** (-6 + 3 * np.linspace(0, 1, layers) + 0.2 * draw.standard_normal(shape))
    ones, zeros = np.ones(shape), np.zeros(shape)
    return FlowHistory(
        layers=tuple(f"blocks.{place}.weight" for place in range(layers)),
        kinds=("linear",) * layers,
        sizes=(1_000,) * layers,
        steps=np.linspace(0, steps - 1, rows).astype(np.int64),
        skipped=np.zeros(rows, dtype=np.bool_),
        mean_abs=small, last_mean_abs=small, max_abs=5 * small, rms=1.3 * small,
        zeros=zeros, nonfinite=zeros, agreement=0.3 * ones, weight=ones, update=1e-3 * ones,
        relative=1.3 * small * np.sqrt(1_000), relative_update=1e-3 * ones,
        optimizers=(OptimizerFacts("Adam", 1e-3, 1e-8, None, tuple(range(layers))),),
        seen="after the backward pass", notes=(),
        loss=LossHistory(np.arange(steps), 2.3 * np.exp(-np.arange(steps) / 3e4) + 0.1 * draw.random(steps)),
    )  # fmt: skip


def serving(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    command = [sys.executable, "-m", "gradscape", "live", str(folder), "--port", "0", "--end-with-input"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    return server, server.stdout.readline().decode().strip()


def resident(process: int) -> float:
    """Most memory that a process has held, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def messages(stream: Any) -> Any:
    """Yield the news of a stream of events."""
    for line in stream:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def many_runs(runs: int) -> dict[str, Any]:
    folder, running = Path(tempfile.mkdtemp()), ExitStack()
    try:
        make_study(folder, runs)
        running.enter_context(last_run(folder, runs).locked())
        server, address = serving(folder)
        began = time.perf_counter()
        urllib.request.urlopen(address).read()
        page = time.perf_counter() - began
        stream = urllib.request.urlopen(f"{address}events")
        known: set[str] = set()
        for news in messages(stream):
            known |= {row["id"] for row in (*news.get("runs_all", ()), *news.get("runs", ()))}
            if len(known) == runs:
                break
        everything = time.perf_counter() - began
        painted = browser_seconds(address)
        delays = [news_of_an_epoch(folder, stream, runs, epoch) for epoch in range(51, 71)]
        shown = shown_in_a_browser(folder, address, runs)
        failures = [
            news_of_a_failure(folder, stream, seed) for seed in range(0, runs - 1, max(1, runs // 20))
        ]
        memory = resident(server.pid)
        server.communicate()
        return {
            "runs": runs, "epochs": EPOCHS, "page_seconds": page, "all_known_seconds": everything,
            "news_seconds": spread(delays), "shown_seconds": spread(shown),
            "failure_seconds": spread(failures), "server_mb": memory, **painted,
        }  # fmt: skip
    finally:
        running.close()
        shutil.rmtree(folder)


def spread(seconds: list[float]) -> dict[str, Any]:
    return {"median": median(seconds), "longest": max(seconds), "all": seconds}


def last_run(folder: Path, runs: int) -> RunFolder:
    return RunFolder(folder / "runs" / RunConfig(seed=runs - 1, epochs=EPOCHS).identity)


def news_of_an_epoch(folder: Path, stream: Any, runs: int, epoch: int) -> float:
    """Seconds from an epoch's line in the file to its row at the browser."""
    time.sleep(np.random.default_rng(epoch).random() / 5)  # at any moment between two looks of the server
    began = add_epoch(last_run(folder, runs), epoch)
    for news in messages(stream):
        if any(row["progress"] == f"epoch {epoch}/{EPOCHS}" for row in news.get("runs", ())):
            return time.perf_counter() - began
    raise AssertionError("the stream has ended")


def add_epoch(run: RunFolder, epoch: int) -> float:
    """Add an epoch's line, and return when."""
    line, began = epoch_line(run.identity(), epoch, np.random.default_rng(epoch)), time.perf_counter()
    with open(run.metrics, "ab") as file:
        file.write(line)
    return began


def news_of_a_failure(folder: Path, stream: Any, seed: int) -> float:
    """Seconds from the failure of a run that was over to its row at the browser."""
    time.sleep(np.random.default_rng(seed).random() / 5)
    run, began = (
        RunFolder(folder / "runs" / RunConfig(seed=seed, epochs=EPOCHS).identity),
        time.perf_counter(),
    )
    run.set_status("failed", error="made up")
    for news in messages(stream):
        if any(row["state"] == "failed" and run.path.name in row["id"] for row in news.get("runs", ())):
            return time.perf_counter() - began
    raise AssertionError("the stream has ended")


def shown_in_a_browser(folder: Path, address: str, runs: int) -> list[float]:
    """Seconds from each of some epochs' lines to the table of a browser that shows the run among all."""
    from playwright.sync_api import sync_playwright

    run, seconds = last_run(folder, runs), list[float]()
    with sync_playwright() as player:
        found = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = found.new_page()
        page.goto(address)
        page.get_by_label("Find").fill(run.identity())
        for epoch in range(71, 91):
            page.wait_for_timeout(int(200 * np.random.default_rng(epoch).random()))
            page.evaluate(SEEN, f"epoch {epoch}/{EPOCHS}")
            began = time.time()
            add_epoch(run, epoch)
            seconds.append(page.evaluate("window.seen") / 1000 - began)
        found.close()
    return seconds


SEEN = """(text) => {
  window.seen = new Promise((done) => {
    const look = () => { if (main.textContent.includes(text)) { watch.disconnect(); done(Date.now()); } };
    const watch = new MutationObserver(look);
    watch.observe(main, { childList: true, subtree: true, characterData: true });
  });
}"""


def browser_seconds(address: str) -> dict[str, Any]:
    """Seconds to the first paint of a browser that comes when all is known, and of scrolling the table."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        found = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = found.new_page()
        page.goto(address)
        page.wait_for_selector("tbody tr input")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        row = page.evaluate("performance.now()")
        scroll = page.evaluate(SCROLL)
        found.close()
    return {"first_paint_ms": paint, "first_row_ms": row, "scroll_ms": scroll}


SCROLL = """async () => {
  const box = document.querySelector(".runs"), times = [];
  for (let k = 0; k < 20; k++) {
    const began = performance.now();
    box.scrollTop = (k + 1) * 2000;
    box.dispatchEvent(new Event("scroll"));
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[10];
}"""
POINT = """async () => {
  const over = document.querySelectorAll(".chart .over")[1], box = over.getBoundingClientRect(), times = [];
  for (let k = 0; k < 40; k++) {
    const began = performance.now();
    const at = { clientX: box.x + 100 + 10 * k, clientY: box.y + 50 + 5 * k, bubbles: true };
    over.dispatchEvent(new PointerEvent("pointermove", at));
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[20];
}"""
ZOOM = """async () => {
  const span = main.firstChild.span, times = [];
  for (let k = 0; k < 20; k++) {
    const began = performance.now();
    span.zoom(0.9, (span.low + span.high) / 2);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[10];
}"""


def large_watch(steps: int, layers: int) -> dict[str, Any]:
    """A watch that reads every step, written in parts of a thousand rows."""
    from playwright.sync_api import sync_playwright

    folder = Path(tempfile.mkdtemp())
    try:
        part = 500  # the sink writes when half of a watch's thousand rows are new
        whole = made_history(steps, part, layers)
        writer = WatchWriter(folder / "w", "Deep", time.time())
        for first in range(0, steps, part):
            now = np.arange(first, first + part, dtype=np.int64)
            writer.write(replace(whole, steps=now), lambda: whole, step=first + part, written=time.time())
        size = sum(path.stat().st_size for path in (folder / "w").iterdir()) / 1e6
        reader, began = WatchReader(folder / "w"), time.perf_counter()
        reader.poll()
        read = time.perf_counter() - began
        server, address = serving(folder)
        with sync_playwright() as player:
            found = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = found.new_page()
            page.goto(f"{address}#training=w")
            page.wait_for_selector(".chart", timeout=120_000)
            point, zoom = page.evaluate(POINT), page.evaluate(ZOOM)
            answer = urllib.request.urlopen(f"{address}api/training?id=w").read()
            found.close()
        memory = resident(server.pid)
        server.communicate()
        return {
            "steps": steps, "layers": layers, "rows_kept": len(reader.history.steps), "folder_mb": size,
            "read_seconds": read, "document_mb": len(answer) / 1e6, "point_ms": point, "zoom_ms": zoom,
            "server_mb": memory,
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=400)
    options = parser.parse_args()
    write(
        "live",
        {"many_runs": many_runs(options.runs), "large_watch": large_watch(options.steps, options.layers)},
    )


if __name__ == "__main__":
    main()
