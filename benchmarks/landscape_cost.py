"""Points of a loss landscape a second, beside `loss-landscapes`, and what a refined grid saves.

VGG38 with BatchNorm on 1,000 images of 32×32, and the quick study's trained networks, all cores. `python
benchmarks/landscape_cost.py` takes half an hour and writes `results/landscape_cost.json`; its rates want
`pip install loss-landscapes` beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curvature_cost import NETWORKS, Problem
from torch.nn import functional as F

import gradscape as gs
from gradscape._machine import cores
from gradscape.cli.images import ImageSource
from gradscape.cli.target import Target, load_target
from gradscape.measure.core.objective import Objective
from gradscape.measure.landscape.directions import random_plane
from gradscape.measure.landscape.evaluate import PointEvaluator
from gradscape.records.landscape import LandscapeRecord
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.train.process import prepare_process
from measure import RESULTS, machine, spread, write

IMAGES, THEIRS, OURS, ROUNDS = 1_000, 3, 8, 3
FEWER, REFINED, ACCURACY, FEW = 200, 41, 0.02, 11
PARTS = ("plain", "kept", "surfaces", "bf16", "profile")  # each with the machine that it was measured on
SIZE = 2_048  # of matrices whose product a convolution's rate is held against
CASES: tuple[tuple[str, Any], ...] = (
    ("vgg08", "running"), ("vgg38", "running"), ("vgg38-he", "running"), ("vgg38-bn", "running"),
    ("vgg38-bn", "batch"),
)  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def theirs(problem: Problem) -> None:
    """Normalized by layers: its filter normalization divides by zero on BatchNorm's zero biases."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    metric = Loss(F.cross_entropy, problem.x, problem.y)
    loss_landscapes.random_plane(
        problem.model, metric, distance=1, steps=THEIRS, normalization="layer", deepcopy_model=True
    )


def ours(problem: Problem, bf16: bool, points: int = OURS, **asked: Any) -> LandscapeRecord:
    return gs.landscape(
        problem.model, F.cross_entropy, (problem.x, problem.y), points=points, bf16=bf16, metrics={}, **asked
    )


def rates(problem: Problem, rounds: int) -> dict[str, Any]:
    """Points a second by each way, in turns; making the copies and reading the folding is counted too."""
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "loss-landscapes": (lambda: theirs(problem), THEIRS**2),
        "gradscape": (lambda: ours(problem, False), OURS**2),
        "gradscape, bf16": (lambda: ours(problem, True), OURS**2),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (way, points) in ways.items() if number % 2 else reversed(ways.items()):
            took = seconds(way)
            print(name, points / took, flush=True)
            if number:  # the first plans
                found[name].append(points / took)
    return {name: spread(rate) for name, rate in found.items()}


def trained(role: str, folder: Path) -> Target:
    """A network of the quick study after its training, on the first images that it was trained on."""
    planned = BATCHNORM.plan("quick").configs[role]
    config = replace(planned, smoothness_every=0, curvature_images=0, landscape_images=0)
    gs.train_run(config, gs.RunFolder(folder / role), gs.load_images("digits"))
    source = ImageSource(device="cpu", images=FEWER, batch_size=50)
    return load_target(str(folder / role), source, FEWER, statistics=True)


def finite(value: float) -> float | None:
    """A number as JSON holds it: with batch statistics samples have no losses of their own to differ."""
    return value if np.isfinite(value) else None


def surfaces(folder: Path) -> dict[str, Any]:
    """Whole and refined surfaces of the quick study's networks, and how far apart they are."""
    found = {}
    for role, bn in CASES:
        one = trained(role, folder)
        whole, part, low = (
            gs.landscape(one.model, one.loss, one.batches, points=REFINED, bn=bn, metrics={}, **way)
            for way in ({}, {"accuracy": ACCURACY}, {"bf16": True})
        )
        off = np.abs(np.log(part.loss / whole.loss))
        found[f"{role}, {bn}"] = {
            "points": whole.evaluations,
            "evaluations": part.evaluations,
            "typical": float(np.sqrt(np.mean(off**2))),
            "worst": float(off.max()),
            "sampling_error": finite(float(np.median(whole.error / whole.loss))),
            "seconds": whole.seconds,
            "refined_seconds": part.seconds,
            "bf16_seconds": low.seconds,
        }
        print(role, bn, found[f"{role}, {bn}"], flush=True)
    return found


def errors_of_bf16(folder: Path) -> dict[str, Any]:
    """How far losses in bf16 are from those in fp32, relative, over planes around the same networks."""
    found = {}
    for role, bn in CASES:
        one = trained(role, folder)
        plain, low = (
            gs.landscape(one.model, one.loss, one.batches, points=FEW, bn=bn, metrics={}, bf16=bf16).loss
            for bf16 in (False, True)
        )
        off = np.abs(np.log(low / plain))
        found[f"{role}, {bn}"] = {"median": float(np.median(off)), "worst": float(off.max())}
        print(role, bn, found[f"{role}, {bn}"], flush=True)
    return found


def profile(problem: Problem) -> dict[str, Any]:
    """Of one thread: the rate of a point's arithmetic, the share of convolutions, a matrix product's rate."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(1)
    objective = Objective(problem.model, F.cross_entropy, (problem.x, problem.y))
    plane = random_plane(objective, "filter", 2, torch.Generator().manual_seed(0), False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        problem.model(problem.x[:1])
    operations = counter.get_total_flops() * len(problem.x)
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        evaluator = PointEvaluator(objective, plane, "running", {}, kind == torch.bfloat16)
        work, matrix = partial(evaluator.at, (0.1, 0.1)), torch.randn(SIZE, SIZE).to(kind)
        point = min(seconds(work) for _ in range(4))
        product = min(seconds(partial(torch.mm, matrix, matrix)) for _ in range(8))
        with profiled(activities=[ProfilerActivity.CPU]) as trace:
            work()
        times = {event.key: event.self_cpu_time_total for event in trace.key_averages()}
        found[name] = {
            "point_gflops": operations / point / 1e9,
            "convolutions": sum(t for n, t in times.items() if "convolution" in n) / sum(times.values()),
            "product_gflops": 2 * SIZE**3 / product / 1e9,
        }
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    torch.set_num_threads(cores())
    problem = Problem(next(iter(NETWORKS)), IMAGES)
    path = RESULTS / "landscape_cost.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"machines": {}}
    found |= {"images": IMAGES, "threads": cores()}
    if "plain" in asked.parts:  # as in anyone's own program
        found["points_per_second"] = rates(problem, asked.rounds)
    prepare_process(threads=cores())  # as in gradscape's commands: the C library keeps its memory
    if "kept" in asked.parts:
        found["memory_kept"] = rates(problem, asked.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if "surfaces" in asked.parts:
            known = {"images": FEWER, "asked": ACCURACY, "points": REFINED}
            found["surfaces"] = known | {"networks": surfaces(Path(folder))}
        if "bf16" in asked.parts:
            found["bf16"] = {"points": FEW, "networks": errors_of_bf16(Path(folder))}
    if "profile" in asked.parts:
        found["profile"] = profile(problem)
    found["machines"] |= dict.fromkeys(asked.parts, machine())
    found.pop("machine", None)
    write("landscape_cost", found)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
