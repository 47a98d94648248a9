"""What a watch costs a compiled training step, without layers' outputs and with them handed out of its graph.

Each way is a process of its own, since one compiled code serves all models of a class; the ways take turns,
step by step. Times are the process's, on one thread. Of a watch's steps some are read and the others are not:
each is held to the unwatched step of its round. `python benchmarks/compiled_cost.py` takes ten minutes and
writes `results/compiled_cost.json`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from watch_cost import CLASSES, SUBJECTS

import gradscape as gs
from gradscape.train.process import prepare_process
from measure import spread, write

NETWORKS = ("VGG38 + BatchNorm, batch 100, 32×32", "transformer, batch 32, 64 tokens")
WAYS: dict[str, dict[str, Any] | None] = {
    "not watched": None,
    "watched": {},
    "watched, outputs too": {"activations": True},
}
WARM_UP, EVERY = 3, 4


def train(name: str, way: str, pipe: Connection) -> None:
    """Train a compiled copy, a step for each message that is true; send its seconds and if it was read."""
    prepare_process(threads=1)
    torch.manual_seed(0)
    subject = SUBJECTS[name]
    model = torch.compile(subject.make())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x = subject.batch()
    y = torch.arange(len(x)) % CLASSES
    options = WAYS[way]
    flow = None if options is None else gs.watch(model, optimizer, every=EVERY, **options)
    step = 0
    while pipe.recv():
        start = time.process_time()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        taken = time.process_time() - start
        pipe.send((taken, flow is not None and step in flow.history().steps))
        step += 1


@contextmanager
def trainings(name: str) -> Iterator[dict[str, Connection]]:
    """A process for each way."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for way in WAYS:
        pipes[way], other = context.Pipe()
        processes.append(context.Process(target=train, args=(name, way, other)))
        processes[-1].start()
    try:
        yield pipes
    finally:
        for pipe, process in zip(pipes.values(), processes, strict=True):
            pipe.send(False)
            process.join()


def measured(name: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of an unwatched step, and what a step that is read and one that is not take beside it."""
    with trainings(name) as pipes:
        taken = []
        for number in range(WARM_UP + rounds):
            found = {}
            for way in list(pipes)[:: -1 if number % 2 else 1]:
                pipes[way].send(True)
                found[way] = pipes[way].recv()
            if number >= WARM_UP:
                taken.append(found)
    rows: dict[str, Any] = {"step_ms": spread([1e3 * found["not watched"][0] for found in taken])}
    for way in list(WAYS)[1:]:
        rows[way] = {
            "read" if read else "not read": spread(
                [found[way][0] / found["not watched"][0] for found in taken if found[way][1] is read]
            )
            for read in (True, False)
        }
    print(name, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    write("compiled_cost", {"networks": {name: measured(name, rounds) for name in NETWORKS}})


if __name__ == "__main__":
    main()
