"""Points of a loss landscape a second, beside `loss-landscapes`, and what a refined grid saves.

VGG38 with BatchNorm on 1,000 images of 32×32, and the quick study's trained networks, all cores. `python
benchmarks/landscape_cost.py` takes half an hour and writes `results/landscape_cost.json`; it wants
`pip install loss-landscapes` beside.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curvature_cost import NETWORKS, Problem
from torch.nn import functional as F

import gradscape as gs
from gradscape.landscaped import LandscapeRecord
from gradscape.machine import cores
from gradscape.study.batchnorm import plan
from gradscape.subject import Source, Subject, subject_of
from gradscape.train.process import prepare_process
from measure import spread, write

IMAGES, THEIRS, OURS, ROUNDS = 1_000, 3, 8, 3
FEWER, REFINED, ACCURACY = 200, 41, 0.02
CASES: tuple[tuple[str, Any], ...] = (
    ("vgg08", "running"), ("vgg38", "running"), ("vgg38-he", "running"), ("vgg38-bn", "running"),
    ("vgg38-bn", "batch"),
)  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def theirs(problem: Problem) -> None:
    """Normalised by layers: its filter normalisation divides by zero on BatchNorm's zero biases."""
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


def error_of_bf16(problem: Problem) -> float:
    """The largest relative difference of a loss, over a plane."""
    plain, low = (ours(problem, bf16).loss for bf16 in (False, True))
    return float(np.nanmax(np.abs(low / plain - 1)))


def trained(role: str, folder: Path) -> Subject:
    """A network of the quick study after its training, on the first images that it was trained on."""
    config = replace(
        plan("quick", None, None).roles[role], smoothness_every=0, curvature_images=0, landscape_images=0
    )
    gs.train_run(config, gs.RunFolder(folder / role), gs.load_images("digits"))
    return subject_of(str(folder / role), Source("digits", None, False, (), FEWER, 50), "cpu")


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
            "sampling_error": float(np.median(whole.error / whole.loss)),
            "seconds": whole.seconds,
            "refined_seconds": part.seconds,
            "bf16_seconds": low.seconds,
        }
        print(role, bn, found[f"{role}, {bn}"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(cores())
    problem = Problem(next(iter(NETWORKS)), IMAGES)
    plain = rates(problem, rounds)  # as in anyone's own program
    prepare_process(threads=cores())  # as in gradscape's commands: the C library keeps its memory
    with tempfile.TemporaryDirectory() as folder:
        drawn = surfaces(Path(folder))
    found = {
        "images": IMAGES,
        "threads": cores(),
        "points_per_second": plain,
        "memory_kept": rates(problem, rounds),
        "bf16_error": error_of_bf16(problem),
        "surfaces": {"images": FEWER, "asked": ACCURACY, "points": REFINED, "networks": drawn},
    }
    print(found)
    write("landscape_cost", found)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
