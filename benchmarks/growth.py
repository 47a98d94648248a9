"""How training VGG38 with BatchNorm scales: batch size, depth, filters, runs at once; images/s and memory.

Each point is one thread a run, in fresh processes; rounds go through all points forwards and backwards.
`python benchmarks/growth.py` takes a quarter of an hour, prints a table and writes
`results/growth-INSTRUCTIONS.json` and, from it, the picture `results/growth-INSTRUCTIONS.png`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from gradscape._machine import cores
from gradscape.config.run import RunConfig
from gradscape.report.figures.style import DPI, INK, LOOKS, styled
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.network_cost import dummy_step, macs_per_image, run_bytes
from gradscape.train.precision import Arithmetic
from gradscape.train.process import prepare_process
from measure import RESULTS, peak_bytes, spread, write

BASE = BATCHNORM.plan("paper", None, 1).configs["vgg38-bn"]
SECONDS = 6.0  # of timed steps, and two of them at least
GIB = 2**30


@dataclass(frozen=True)
class Point:
    """What is trained: so many like runs at once, each in a process of one thread."""

    axis: str
    value: int
    config: RunConfig
    runs: int = 1


POINTS = [
    *(Point("batch size", n, replace(BASE, batch_size=n)) for n in (10, 25, 50, 100, 200, 400, 800)),
    *(Point("depth", n, replace(BASE, net=replace(BASE.net, depth=n))) for n in (8, 14, 20, 38, 56, 74)),
    *(Point("filters", n, replace(BASE, net=replace(BASE.net, filters=n))) for n in (8, 16, 32, 64)),
    *(Point("runs at once", n, BASE, n) for n in range(1, 2 * cores() + 1)),
]


def train(config: RunConfig, ready: Barrier, results: mp.SimpleQueue[Any]) -> None:
    """A run's process: when it was ready and when each step ended, and its memory's peak."""
    prepare_process(threads=1)
    step = dummy_step(config, torch.device("cpu"), 3, Arithmetic("fp32"))
    step(config.batch_size)  # allocates and plans
    ready.wait()
    times = [time.perf_counter()]  # one clock for all processes
    while len(times) < 3 or times[-1] - times[0] < SECONDS:
        step.place.zero_()  # the images are used again
        step(config.batch_size)
        times.append(time.perf_counter())
    results.put((times, peak_bytes()))


def measure(point: Point) -> tuple[float, int]:
    """Images per second of all runs together while all run, and the most memory that one of them held."""
    context = mp.get_context("spawn")
    ready, results = context.Barrier(point.runs), context.SimpleQueue()
    processes = [
        context.Process(target=train, args=(point.config, ready, results)) for _ in range(point.runs)
    ]
    for process in processes:
        process.start()
    clocks, peaks = zip(*(results.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    all_run = (max(times[0] for times in clocks), min(times[-1] for times in clocks))
    steps = sum(float(np.diff(np.interp(all_run, times, range(len(times))))[0]) for times in clocks)
    return steps * point.config.batch_size / (all_run[1] - all_run[0]), max(peaks)


def measured(rounds: int) -> Iterator[dict[str, Any]]:
    found: dict[Point, list[tuple[float, int]]] = {point: [] for point in POINTS}
    for number in range(rounds):
        for point in POINTS if number % 2 == 0 else reversed(POINTS):
            found[point].append(measure(point))
            rate, peak = found[point][-1]
            print(f"{point.axis:<14} {point.value:>4} {rate:8.1f} images/s {peak / GIB:6.2f} GiB", flush=True)
    for point, values in found.items():
        yield {
            "axis": point.axis,
            "value": point.value,
            "images_per_second": spread([rate for rate, _ in values]),
            "gflop_per_image": 6 * macs_per_image(point.config) / 1e9,
            "memory_gib": max(peak for _, peak in values) / GIB,
            "estimated_gib": run_bytes(point.config) / GIB,
        }


def draw(results: dict[str, Any], path: Path) -> None:
    """Images and operations per second above, memory of a run below, for each axis."""
    axes_names = list(dict.fromkeys(point["axis"] for point in results["points"]))
    with styled():
        figure = Figure(figsize=(3.0 * len(axes_names), 6.6), layout="constrained")
        panels = figure.subplots(3, len(axes_names), sharex="col", sharey="row")
        for column, axis in enumerate(axes_names):
            points = [point for point in results["points"] if point["axis"] == axis]
            x = [point["value"] for point in points]
            rates = [point["images_per_second"] for point in points]
            rate, work, memory = panels[:, column]
            bars(rate, x, rates, [1.0] * len(x), LOOKS[0])
            bars(work, x, rates, [point["gflop_per_image"] for point in points], LOOKS[2])
            for key, look, label in (
                ("memory_gib", LOOKS[1], "held"),
                ("estimated_gib", LOOKS[3], "estimated"),
            ):
                held = [point[key] for point in points]
                memory.plot(
                    x, held, look.dash, color=look.color, marker=look.marker, markersize=4, label=label
                )
            memory.set_xlabel(axis)
            for panel in (rate, work, memory):
                panel.set_xscale("log", base=2)
                panel.set_yscale("log", base=2)
                panel.minorticks_off()
                for side in (panel.xaxis, panel.yaxis):
                    side.set_major_formatter("{x:g}")
                panel.grid(axis="x", visible=False)
            memory.set_xticks(x, [str(value) for value in x])
        panels[0, 0].set_ylabel("images/s")
        panels[1, 0].set_ylabel("GFLOP/s")
        panels[2, 0].set_ylabel("GiB a run")
        panels[2, 0].legend()
        figure.align_ylabels()
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def bars(panel: Any, x: list[int], rates: list[dict[str, float]], factors: list[float], look: Any) -> None:
    """Medians as a line, least and most as bars."""
    middle = [rate["median"] * factor for rate, factor in zip(rates, factors, strict=True)]
    below = [(r["median"] - r["min"]) * f for r, f in zip(rates, factors, strict=True)]
    above = [(r["max"] - r["median"]) * f for r, f in zip(rates, factors, strict=True)]
    panel.errorbar(x, middle, yerr=[below, above], fmt=look.dash, color=look.color, marker=look.marker,
                   markersize=4, ecolor=INK, elinewidth=0.8, capsize=2)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    given = parser.parse_args()
    name = f"growth-{torch.backends.cpu.get_cpu_capability().lower()}"
    if not given.draw:
        write(name, {"network": BASE.label, "points": list(measured(given.rounds))})
    draw(json.loads((RESULTS / f"{name}.json").read_text()), RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
