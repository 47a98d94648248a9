"""Loss spikes: how often noise is taken for one, which are found, whom a replay blames, and what it costs.

    python benchmarks/healthy.py train --keep DIR    # an hour on a core, unless DIR is there from the other
    python benchmarks/spikes.py --keep DIR           # minutes; writes results/spikes.json

Trainings are those of benchmarks/healthy.py: their losses as they are, and with one late loss made 3, 10 or
30 times as high. A replay is of a small classifier with AdamW after 200 steps, with one of nine batches
spoiled, or a learning rate 100 times too large, or nothing. The cost is that of copying a batch's
fingerprint within the forward pass.
"""

from __future__ import annotations

import argparse
import pickle
import time
import warnings
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from healthy import declare_torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.watch.batch_recorder import BatchRecorder
from gradscape.records.encoding import Values
from gradscape.records.spike_search import spikes_of
from gradscape.records.spikes import Spike
from gradscape.train.process import prepare_process
from measure import write

LATE = 60, 135  # steps of which one is made higher
WATCHED = 150
FACTORS = 3, 10, 30
SEEDS = 20
FAULTS = "labels", "inputs", "rate", "nothing"
INPUTS = {
    "32 × 64 floats": lambda: torch.randn(32, 64),
    "8 × 1,024 tokens": lambda: torch.randint(50_000, (8, 1_024)),
    "32 images of 224 × 224": lambda: torch.randn(32, 3, 224, 224),
}


def losses(keep: Path) -> list[Values]:
    """Losses of the healthy trainings that are long enough."""
    kept = (pickle.loads(path.read_bytes()) for path in sorted(keep.glob("*.pickle")))
    found = [np.array(each["losses"]) for each in kept if each is not None]
    return [each for each in found if len(each) >= WATCHED]


def over(values: Values) -> list[Spike]:
    """Spikes that the diagnosis tells of: those from which the loss is back."""
    return [each for each in spikes_of(np.arange(len(values)), values) if each.back is not None]


def of_trainings(curves: list[Values]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    found = Counter[int]()
    for values in curves:
        place = int(random.integers(*LATE))
        for factor in FACTORS:
            raised = values[:WATCHED].copy()
            raised[place] *= factor
            found[factor] += any(each.first == place for each in over(raised))
    return {
        "trainings": len(curves),
        "with a spike as they are": sum(bool(over(each)) for each in curves),
        "found of one loss times": {str(factor): found[factor] for factor in FACTORS},
    }


def heavy(random: np.random.Generator, steps: int) -> dict[str, Values]:
    """Noise without a spike, from light to heavy tails."""
    tail = random.standard_t
    return {
        "normal": 2 + 0.1 * random.normal(size=steps),
        "lognormal": np.exp(random.normal(size=steps)),
        "exponential": random.exponential(size=steps),
        "Pareto, exponent 1.5": 1 + random.pareto(1.5, size=steps),
        "Student's t of 5": np.abs(2 + 0.3 * tail(5, size=steps)) + 1e-3,
        "Student's t of 3": np.abs(2 + 0.2 * tail(3, size=steps)) + 1e-3,
        "exponential of Student's t of 3": np.exp(0.1 * tail(3, size=steps)),
    }


def of_noise(steps: int = 1_000, draws: int = 100) -> dict[str, Any]:
    found = Counter[str]()
    for seed in range(draws):
        for name, values in heavy(np.random.default_rng(seed), steps).items():
            found[name] += bool(over(values))
    names = heavy(np.random.default_rng(0), 50)
    return {"steps": steps, "draws": draws, "with a spike": {name: found[name] for name in names}}


def of_replay(fault: str, seed: int) -> str:
    """Whom a replay blames."""
    torch.manual_seed(seed)
    teacher = torch.randn(16, 4)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def draw() -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 16)
        return x, (x @ teacher).argmax(1)

    for _ in range(200):
        x, y = draw()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    batches = [draw() for _ in range(9)]
    x, y = batches[4]
    batches[4] = {"labels": (x, y[torch.randperm(64)]), "inputs": (1_000 * x, y)}.get(fault, (x, y))
    optimizer.param_groups[0]["lr"] *= 100 if fault == "rate" else 1
    return gs.replay(model, optimizer, batches, cross_entropy, suspect=4).verdict


def of_cost(calls: int = 2_000) -> dict[str, float]:
    """Microseconds a step that keeping a batch's fingerprint takes."""
    found = {}
    for name, make in INPUTS.items():
        model = nn.Identity()
        recorder, x, spent = BatchRecorder(model, print), make(), []
        for step in range(calls):
            start = time.perf_counter()
            recorder._before_forward(model, (x,), {})
            recorder.end_step(step)
            spent.append(time.perf_counter() - start)
        found[name] = round(1e6 * median(spent), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    declare_torchvision()
    prepare_process(threads=1)
    blamed = {fault: dict(Counter(of_replay(fault, seed) for seed in range(SEEDS))) for fault in FAULTS}
    values = {
        "trainings": of_trainings(losses(arguments.keep)),
        "noise": of_noise(),
        "replay": {"seeds": SEEDS, "verdicts": blamed},
        "microseconds a step": of_cost(),
    }
    print(values)
    write("spikes", values)


if __name__ == "__main__":
    main()
