"""Six runs as one network against the same six one after the other: whole runs, on one thread.

VGG38 with BatchNorm and 16 filters, 1,000 digits of 8×8 pixels, batch 25, four epochs: six learning rates.
`python benchmarks/packed.py` writes `results/packed.json`: seconds a run, of the clock and of the processor,
which other work on the machine disturbs less; rounds of both are interleaved.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.data import load_images
from gradscape.storage.run_folder import RunFolder
from gradscape.train.loop import train_run, train_together
from gradscape.train.process import prepare_process
from measure import spread, write

ROUNDS = 3
BASE = RunConfig(
    net=NetConfig(depth=38, filters=16, norm="batch"),
    data=DataConfig(name="digits", size=8, train=1_000, valid=75, crop_pad=0, flip=False),
    batch_size=25,
    epochs=4,
)
RATES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)
RUNS = [replace(BASE, optim=OptimConfig(lr=lr)) for lr in RATES]
IMAGES = load_images("digits")


def alone(place: Path, runs: Sequence[RunConfig]) -> None:
    for config in runs:
        train_run(config, place / config.identity, IMAGES)


def together(place: Path, runs: Sequence[RunConfig]) -> None:
    folders = [(config, RunFolder(place / config.identity)) for config in runs]
    train_together(folders, IMAGES, lambda told: None, lambda name, end: None)


def seconds(
    train: Callable[[Path, Sequence[RunConfig]], None], runs: Sequence[RunConfig]
) -> dict[str, float]:
    """Seconds a run: of the clock, of the processor, and of the clock in its steps, as its epochs say."""
    with tempfile.TemporaryDirectory() as place:
        clock, processor = time.perf_counter(), time.process_time()
        train(Path(place), runs)
        found = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
        epochs = [epoch for run in runs for epoch in RunFolder(Path(place) / run.identity).epochs()]
    steps = sum(1_000 / epoch.images_per_second for epoch in epochs)
    return {name: value / len(runs) for name, value in (found | {"steps": steps}).items()}


def main() -> None:
    prepare_process(threads=1)
    ways = {"alone": alone, "together": together}
    for train in ways.values():  # the first allocates and plans
        train(Path(tempfile.mkdtemp()), [replace(run, epochs=1) for run in RUNS])
    rounds = [{name: seconds(train, RUNS) for name, train in ways.items()} for _ in range(ROUNDS)]
    kinds = rounds[0]["alone"]
    results: dict[str, Any] = {
        name: {kind: spread([each[name][kind] for each in rounds]) for kind in kinds} for name in ways
    }
    results["times"] = {
        kind: spread([each["alone"][kind] / each["together"][kind] for each in rounds]) for kind in kinds
    }
    for name, found in results.items():
        print(name, {kind: round(value["median"], 2) for kind, value in found.items()})
    write("packed", {"runs": len(RUNS), **results})


if __name__ == "__main__":
    main()
