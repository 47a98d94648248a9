"""How much memory watching a transformer takes: GPT-2, 124 million parameters, four steps, each one read.

The most that a process of its own holds, watched and not: each large block of memory is taken from the system
and given back at once (`MALLOC_MMAP_THRESHOLD_`), so that what the allocator keeps for later does not count.
`code loaded` is not watched either, but gradscape's modules have been used on a network of two parameters.
`python benchmarks/transformer_memory.py` takes about six minutes and writes
`results/transformer_memory.json`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import torch
from torch import nn
from transformer_cost import BATCH, LENGTH, WAYS, Training, Way, batch, each_step

from measure import peak_bytes, spread, write

PROCESSES = 3  # of each way
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def code_loaded(_: nn.Module, __: torch.optim.Optimizer) -> Way:
    tiny = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(tiny.parameters(), lr=0.1)
    each_step(tiny, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.mse_loss(tiny(torch.ones(1, 1)), torch.ones(1, 1)).backward()
        optimizer.step()
    return Way()


MEASURED = {"not watched": WAYS["not watched"], "code loaded": code_loaded, **WAYS}


def train(way: str) -> int:
    torch.set_num_threads(1)
    training, ids = Training(MEASURED[way]), batch()
    for _ in range(4):
        training.step(ids)
    return peak_bytes()


def peak(way: str) -> int:
    """Bytes that a process of its own holds at most."""
    command = [sys.executable, __file__, "--way", way]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | AT_ONCE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=MEASURED, help="print the bytes of this one, and no more")
    asked = parser.parse_args()
    if asked.way:
        print(train(asked.way))
        return
    held = {way: spread([peak(way) for _ in range(PROCESSES)]) for way in MEASURED}
    alone = held["not watched"]["median"]
    for way, bytes_ in held.items():
        print(
            f"{way:<32} {bytes_['median'] / 2**20:8,.0f} MiB  {100 * (bytes_['median'] / alone - 1):+.2f} %"
        )
    write("transformer_memory", {"batch": BATCH, "length": LENGTH, "peak_bytes": held})


if __name__ == "__main__":
    main()
