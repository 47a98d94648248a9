"""What a comparison of ranks costs: checksums by size, a DDP training on gloo, and a store with many ranks.

`python benchmarks/rank_cost.py` takes about two minutes and writes `results/rank_cost.json`.
"""

from __future__ import annotations

import multiprocessing as mp
import tempfile
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import gradscape as gs
from gradscape.measure.watch.ranks.board import Board
from gradscape.measure.watch.ranks.comparison import Row
from gradscape.measure.watch.ranks.exchange import Exchange
from gradscape.measure.watch.ranks.watch_ranks import checksum
from measure import spread, write

SIZES = {1_000_000: 20, 10_000_000: 60, 124_000_000: 148}  # numbers: tensors, the last as of GPT-2
STEPS, EVERY, WIDTH = 60, 10, 512
RANKS, TENSORS = (4, 64, 1_024), 2_000


def checksums() -> dict[str, Any]:
    """Milliseconds of the processor's time for the checksums of parameters and gradients, on one thread."""
    found = {}
    for size, tensors in SIZES.items():
        held = [torch.randn(size // tensors) for _ in range(tensors)]
        times = []
        for _ in range(5):
            start = time.thread_time()
            for each in held:
                checksum(each)
            times.append(2_000 * (time.thread_time() - start))
        found[str(size)] = {"tensors": tensors, "ms": spread(times)}
        print(size, found[str(size)])
    return found


def _train(rank: int, world: int, meeting: str, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(4)]
    model = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    flow = gs.watch(model, optimizer, ranks=EVERY, every=1_000)
    watch = flow._recorder.ranks
    assert watch is not None
    assert watch.exchange is not None
    compare, held, steps = watch._compare, [], []

    def timed() -> None:
        start = time.thread_time()
        compare()
        held.append(1_000 * (time.thread_time() - start))

    watch._compare = timed  # type: ignore[method-assign]
    x = torch.randn(64, WIDTH)
    for _ in range(STEPS):
        start = time.thread_time()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        steps.append(1_000 * (time.thread_time() - start))
    flow.close()
    ranks = flow.history().ranks
    results.put((rank, held[1:], steps, watch.exchange.sent / len(held), ranks and len(ranks.differences)))
    dist.destroy_process_group()


def training(world: int) -> dict[str, Any]:
    """A comparison within a training: processor time of the training's thread, and bytes sent."""
    context = mp.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        processes = [
            context.Process(target=_train, args=(rank, world, meeting, results)) for rank in range(world)
        ]
        for each in processes:
            each.start()
        rows = sorted(results.get() for _ in processes)
        for each in processes:
            each.join()
    assert rows[0][4] == 0
    found = {
        "parameters": 4 * (WIDTH * WIDTH + WIDTH),
        "tensors": 8,
        "held_ms": spread([value for row in rows for value in row[1]]),
        "step_ms": spread(rows[0][2][1:]),
        "bytes": max(row[3] for row in rows),
    }
    print(world, found)
    return found


def store() -> dict[str, Any]:
    """Time of the first rank to read and compare the rows of many ranks, which one process leaves here."""
    server = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    keys = tuple(f"p layers.{number}.weight 4096x4096 0-1023" for number in range(TENSORS))
    sums = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (2, TENSORS), dtype=np.int64)
    found = {}
    for world in RANKS:
        board = Board(server, f"ranks/{world}")
        exchange = Exchange(board, 0, world, 1e6, lambda: (0, 0), lambda _: None)
        row = Row(1, 1, 0, (0.1,), "model", keys, sums)
        put, compared = [], []
        board.put(f"keys/{row.layout}", "\n".join(keys).encode())
        for step in range(1, 6):
            row = Row(step, step, 0, (0.1,), "model", keys, sums)
            start = time.perf_counter()
            for rank in range(world):
                board.put(f"row/{step}/{rank}", row.sums.tobytes())
                board.put(f"head/{step}/{rank}", row.head())
            put.append(1_000 * (time.perf_counter() - start) / world)
            start = time.perf_counter()
            assert exchange._compare(step, time.monotonic())
            compared.append(1_000 * (time.perf_counter() - start))
            for rank in range(1, world):
                exchange._drop(step, rank)
        assert exchange.comparison.differences == ()
        size = len(row.head()) + row.sums.nbytes
        found[str(world)] = {"put_ms": spread(put), "compare_ms": spread(compared), "bytes_per_rank": size}
        exchange.close()
        print(world, found[str(world)])
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(
        "rank_cost",
        {
            "every": EVERY,
            "steps": STEPS,
            "store_tensors": TENSORS,
            "checksums": checksums(),
            "training": {str(world): training(world) for world in (2, 4)},
            "store": store(),
        },
    )
