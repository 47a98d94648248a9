"""Processes of a group, of which each returns something."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable
from typing import Any


def results_of_ranks(target: Callable[..., None], world: int, *arguments: Any) -> dict[int, Any]:
    """What each rank put into the queue that it is given last, as (rank, value).

    Args:
        target: Function of a module, called with rank, arguments and queue.
        world: Number of processes.
        arguments: The same for all of them.
    """
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=target, args=(rank, *arguments, results)) for rank in range(world)]
    for each in processes:
        each.start()
    found = dict(results.get() for _ in processes)
    for each in processes:
        each.join()
    return found
