"""How long the commands of the README take here; run it on a quiet machine.

`python benchmarks/commands.py [--data-root DIR] [--quick DIR] [--fp32]` times `--help`, `reproduce` (the
whole quick study, also in bf16 where the processor has it), `report` and, where CIFAR-100 is in DIR, reading
it and one epoch of VGG38 with BatchNorm on all of its 47,500 training images. It prints a table and writes
`results/commands.json`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import gradscape as gs
from gradscape.train.precision import settle
from measure import spread, write

COMMAND = [sys.executable, "-m", "gradscape"]


def timed(*arguments: object) -> float:
    start = time.perf_counter()
    subprocess.run([*COMMAND, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cifar(root: Path, folder: Path) -> dict[str, Any]:
    """Reading CIFAR-100 (first time, then from the cache), and one epoch at the paper's settings."""
    cache = folder / "cache"
    reading = []
    for _ in range(4):
        start = time.perf_counter()
        gs.load_images("cifar100", root, cache=cache)
        reading.append(time.perf_counter() - start)
    out = folder / "epoch"
    timed(
        "train", "--net.depth=38", "--net.norm=batch", "--data.name=cifar100", "--data.statistics=cifar10",
        "--epochs=1", "--data-root", root, "--out", out,
    )  # fmt: skip
    record = gs.RunFolder(out).record()
    (epoch,) = record.epochs
    return {
        "cifar100_first_read_seconds": reading[0],
        "cifar100_cached_read_seconds": spread(reading[1:]),
        "full_epoch_seconds": epoch.seconds,
        "full_epoch_images_per_second": epoch.images_per_second,
        "full_epoch_threads": record.status["threads"],
        "full_epoch_train_loss": epoch.train_loss,
        "full_epoch_valid_accuracy": epoch.valid_accuracy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="the folder that holds CIFAR-100")
    parser.add_argument("--quick", type=Path, help="keep the quick study in this folder, for keep.py")
    parser.add_argument("--fp32", action="store_true", help="leave out bf16")
    given = parser.parse_args()
    root = given.data_root
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values: dict[str, Any] = {"help_seconds": spread([timed("--help") for _ in range(9)])}
        quick = given.quick or folder / "quick"
        values["quick_seconds"] = timed("reproduce", "--out", quick)
        values["quick_runs"] = len(gs.load(quick).runs)
        if not given.fp32 and not settle("bf16", torch.device("cpu"))[1]:
            values["quick_bf16_seconds"] = timed(
                "reproduce", "--precision", "bf16", "--out", folder / "quick-bf16"
            )
        values["report_seconds"] = spread([timed("report", quick) for _ in range(3)])
        if root:
            values |= cifar(root, folder)
    for key, value in values.items():
        print(f"{key:<32} {value}")
    write("commands", values)


if __name__ == "__main__":
    main()
