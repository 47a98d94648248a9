"""How a sweep grows: 100, 1,000 and 10,000 runs of a stub that writes a run's files and trains nothing.

`python benchmarks/sweep_growth.py` takes some minutes. Each number is of a process of its own: having the
runs done by two workers, opening the folder, `gradscape runs`, building the report. It writes
`results/sweep_growth.json` and, from it, the picture `results/sweep_growth.png`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradscape.cli.main import main as command
from gradscape.executors.base import EventSink, Executor, MessageSink
from gradscape.executors.processes import Processes
from gradscape.records.gradients import EPOCH_TABLES, flow_of_epochs
from gradscape.records.run import EpochRecord, RunRecord
from gradscape.report.figures.style import DPI, INK, LOOKS, styled
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.catalogue import rebuild
from gradscape.study.plan import ask
from gradscape.study.progress import ProgressView
from gradscape.study.sweep.sweep import Sweep
from gradscape.study.train_job import TrainJob
from gradscape.study.train_runs import missing, train_runs
from measure import RESULTS, peak_bytes, write

COUNTS = {100: (10, 5), 1_000: (50, 10), 10_000: (100, 50)}  # runs → rates × batch sizes, at two seeds
EPOCHS, LAYERS, WORKERS = 3, 117, 2  # tensors of VGG38 with BatchNorm
TARGETS = {"overhead_ms": 5.0, "report_seconds": 60.0, "report_gib": 2.0}
TITLES = {
    "submit_ms": "to submit a run, ms",
    "overhead_ms": "overhead of a run, ms",
    "driver_gib": "driver's memory, GiB",
    "open_seconds": "to open the folder, s",
    "runs_seconds": "gradscape runs, s",
    "report_seconds": "to build the report, s",
    "report_gib": "report's memory, GiB",
}


def study(count: int) -> Sweep:
    rates, sizes = COUNTS[count]
    return Sweep(
        "growth",
        {"epochs": EPOCHS},
        [
            {"optim.lr": {"log": [1e-4, 1e-1], "points": rates}},
            {"batch_size": list(range(10, 10 + 10 * sizes, 10))},
        ],
        seeds=2,
    )


def stub(job: TrainJob, report: MessageSink) -> RunRecord:
    """A run's files, of a size as VGG38 has them; returns how long they took in its status."""
    begun = time.perf_counter()
    folder, config = RunFolder(job.folder), job.config
    folder.create(config)
    accuracy = 0.5 - abs(config.optim.lr - 0.01) - config.batch_size / 5_000 + 0.01 * config.seed
    names = [f"stages.{layer}.conv.weight" for layer in range(LAYERS)]
    tables = np.empty((1, len(EPOCH_TABLES), LAYERS))
    tables[:] = config.optim.lr * (1 + np.arange(LAYERS))
    with folder.locked():
        for number in range(1, EPOCHS + 1):
            grown = accuracy * number / EPOCHS
            flow = flow_of_epochs(names, ["conv"] * LAYERS, [9] * LAYERS, [number], tables)
            folder.append(EpochRecord(number, 0.1, 2.0, grown, 2.0, grown, 1.0, 100.0), flow)
        tested = {"epoch": EPOCHS, "loss": 2.0, "accuracy": accuracy}
        folder.set_status("done", test={"last": tested, "best": tested})
    epochs = (EpochRecord(EPOCHS, 0.1, 2.0, grown, 2.0, grown, 1.0, 100.0),)
    seconds = time.perf_counter() - begun
    return RunRecord(config.identity, {}, "done", {"seconds": seconds}, epochs, {})


def run_all(folder: StudyFolder, count: int) -> dict[str, float]:
    """Have all runs done; how long a submission took, and a run beyond what the stub itself did."""
    plan = study(count)
    runs = plan.runs()
    ask(folder, plan)
    busy: list[float] = []
    submitting: list[float] = []

    class Timed(Processes):
        def submit(self, name: str, job: Any) -> Any:
            begun = time.perf_counter()
            future = super().submit(name, job)
            submitting.append(time.perf_counter() - begun)
            return future

    def executor(tell: EventSink) -> Executor:
        def also(event: Any) -> None:
            if event.kind == "finished":
                busy.append(event.payload.status["seconds"])
            tell(event)

        return Timed(stub, WORKERS, also, ("gradscape.storage.run_folder", "gradscape.study.train_job"))

    begun = time.perf_counter()
    left = missing(runs, folder)
    jobs = {name: TrainJob(config, folder.run(name).path) for name, config in left.items()}
    with ProgressView(left, 0) as view:
        failed = train_runs(runs, jobs, folder, view, executor)
    wall = time.perf_counter() - begun
    assert not failed
    assert len(busy) == count == len(submitting)
    return {
        "submit_ms": 1_000 * sum(submitting) / count,
        "stub_ms": 1_000 * sum(busy) / count,
        "overhead_ms": 1_000 * (wall - sum(busy) / WORKERS) / count,
        "driver_gib": peak_bytes() / 2**30,
    }


def timed(act: Callable[[], Any], name: str) -> dict[str, float]:
    begun = time.perf_counter()
    act()
    return {f"{name}_seconds": time.perf_counter() - begun, f"{name}_gib": peak_bytes() / 2**30}


def part(name: str, folder: StudyFolder, count: int) -> dict[str, float]:
    """One part, in this process."""
    acts: dict[str, Callable[[], Any]] = {
        "open": folder.record,
        "runs": lambda: command(["runs", str(folder.path)]),
        "report": lambda: rebuild(folder),
    }
    return run_all(folder, count) if name == "do" else timed(acts[name], name)


def apart(name: str, folder: Path, count: int) -> dict[str, float]:
    """One part, in a process of its own."""
    arguments = [sys.executable, __file__, "--part", name, "--folder", str(folder), "--count", str(count)]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def draw(points: list[dict[str, float]], path: Path) -> None:
    """Each number by the number of runs, on axes of whole decades."""
    counts = [point["runs"] for point in points]
    with styled():
        figure = Figure(figsize=(12.0, 5.8), layout="constrained")
        panels = list(figure.subplots(2, 4).flat)
        for panel, (name, title) in zip(panels, TITLES.items(), strict=False):
            values = [point[name] for point in points]
            panel.loglog(counts, values, marker="o", color=LOOKS[0].color)
            shown = [*values, TARGETS.get(name, values[0])]
            low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
            panel.set(title=title, xlabel="runs", ylim=(10**low, 10 ** max(high, low + 1)))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            if name in TARGETS:
                panel.axhline(TARGETS[name], color=INK, linestyle="--", linewidth=0.8)
                panel.annotate(
                    f"target {TARGETS[name]:g}", (counts[-1], TARGETS[name]), xytext=(0, -4),
                    textcoords="offset points", ha="right", va="top",
                )  # fmt: skip
        panels[-1].set_visible(False)
        figure.savefig(path, dpi=DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="*", default=list(COUNTS), choices=COUNTS)
    parser.add_argument("--draw", action="store_true", help="the picture again, of what was measured")
    parser.add_argument("--part", help="measured in this process")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    if given.draw:
        draw(json.loads((RESULTS / "sweep_growth.json").read_text())["points"], RESULTS / "sweep_growth.png")
        return
    if given.part:
        print(json.dumps(part(given.part, StudyFolder(given.folder), given.count)))
        return
    points = []
    for count in given.counts:
        with tempfile.TemporaryDirectory() as place:
            point: dict[str, float] = {"runs": count}
            for name in ("do", "open", "runs", "report"):
                point |= apart(name, Path(place), count)
            points.append(point)
        print(point, flush=True)
    write("sweep_growth", {"workers": WORKERS, "epochs": EPOCHS, "points": points})
    draw(points, RESULTS / "sweep_growth.png")


if __name__ == "__main__":
    main()
