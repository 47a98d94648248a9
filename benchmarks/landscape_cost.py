"""Points of a loss landscape a second, beside `loss-landscapes`, and what a refined grid saves.

VGG38 with BatchNorm on 1,000 images of 32×32, all cores. `python benchmarks/landscape_cost.py` takes a
quarter of an hour and writes `results/landscape_cost.json`; it wants `pip install loss-landscapes` beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from curvature_cost import NETWORKS, Problem
from torch.nn import functional as F

import gradscape as gs
from gradscape.landscaped import LandscapeRecord
from gradscape.machine import cores
from gradscape.train.process import prepare_process
from measure import spread, write

IMAGES, POINTS, ROUNDS = 1_000, 3, 3
REFINED, ACCURACY = 41, 0.02


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
        problem.model, metric, distance=1, steps=POINTS, normalization="layer", deepcopy_model=True
    )


def ours(problem: Problem, bf16: bool, points: int = 2 * POINTS, **asked: Any) -> LandscapeRecord:
    return gs.landscape(
        problem.model, F.cross_entropy, (problem.x, problem.y), points=points, bf16=bf16, metrics={}, **asked
    )


def rates(problem: Problem, rounds: int) -> dict[str, Any]:
    """Points a second by each way, in turns; making the copies and reading the folding is counted too."""
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "loss-landscapes": (lambda: theirs(problem), POINTS**2),
        "gradscape": (lambda: ours(problem, False), (2 * POINTS) ** 2),
        "gradscape, bf16": (lambda: ours(problem, True), (2 * POINTS) ** 2),
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


def refined(rounds: int) -> dict[str, Any]:
    """Evaluations of a refined grid beside all, and how far its losses are from theirs; on fewer images."""
    problem = Problem(next(iter(NETWORKS)), 50)
    whole = ours(problem, True, REFINED)
    part = ours(problem, True, REFINED, accuracy=ACCURACY)
    off = np.abs(part.loss / whole.loss - 1)
    return {
        "points": int(whole.evaluations),
        "evaluations": int(part.evaluations),
        "asked": ACCURACY,
        "typical": float(np.sqrt(np.mean(off**2))),
        "worst": float(off.max()),
        "seconds": [whole.seconds, part.seconds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    prepare_process(threads=cores())
    problem = Problem(next(iter(NETWORKS)), IMAGES)
    found = {
        "images": IMAGES,
        "threads": cores(),
        "points_per_second": rates(problem, rounds),
        "bf16_error": error_of_bf16(problem),
        "refined": refined(rounds),
    }
    print(found)
    write("landscape_cost", found)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
