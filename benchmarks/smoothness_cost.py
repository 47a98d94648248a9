"""What a measure of smoothness within a training costs: a step with one beside a step without, in turns.

`python benchmarks/smoothness_cost.py` takes two minutes and writes `results/smoothness_cost.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from gradscape._machine import cores
from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, RunConfig
from gradscape.study.network_cost import dummy_step
from gradscape.train.loop import DIRECTIONS
from gradscape.train.process import prepare_process
from measure import spread, write

EVERY = 50  # steps from one to the next, at most, in the study
CASES = {
    "32×32, batch 100": RunConfig(net=NetConfig(depth=38, norm="batch"), data=DataConfig(name="cifar100")),
    "16×16, batch 20": RunConfig(
        net=NetConfig(depth=38, norm="batch"), data=DataConfig(name="digits"), batch_size=20
    ),
}


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cost(config: RunConfig, rounds: int) -> dict[str, Any]:
    """Steps that a measure takes, and what it adds to a run with one every `EVERY` steps, in per cent."""
    size, lr = config.batch_size, config.optim.lr
    step = dummy_step(config, torch.device("cpu"), batches=2 * (rounds + 1) * (len(DIRECTIONS) + 1))
    plain: list[float] = []
    measured: dict[str, list[float]] = {direction: [] for direction in DIRECTIONS}
    for number in range(rounds + 1):
        took = seconds(lambda: step(size))
        measures = {d: seconds(lambda d=d: step.measure(size, d, lr, 0)) for d in DIRECTIONS}
        if number:  # the first one allocates and plans
            plain.append(took)
            for direction in DIRECTIONS:
                measured[direction].append(measures[direction])
    step_seconds = median(plain)
    more = {d: [measure / step_seconds - 1 for measure in found] for d, found in measured.items()}
    added = [100 / EVERY * one for found in more.values() for one in found]
    return {
        "step_seconds": spread(plain),
        "steps": {direction: spread(found) for direction, found in more.items()},
        "added_percent": spread(added),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    prepare_process(threads=cores())
    found = {name: cost(config, rounds) for name, config in CASES.items()}
    for name, one in found.items():
        print(name, one)
    write("smoothness_cost", {"threads": cores(), "every": EVERY, "cases": found})


if __name__ == "__main__":
    main()
