"""Number of runs trained at once: as many as memory holds, and on a GPU only as many as make it faster.

On CPUs it is one for each core. A step of a small network leaves most of a GPU idle; several runs, each on
its own stream, fill it. The best number is not computed but measured, with steps of these runs on images of
noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from gradscape._machine import memory_free
from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.study.network_cost import dummy_step, pack_bytes
from gradscape.train.cuda_graph import WARM_UP, advance
from gradscape.train.precision import Arithmetic
from gradscape.train.process import compute_on
from gradscape.train.step import TrainStep

WORTH = 1.05  # twice as many runs must do this many times the images per second
TIMED = 30  # steps


def share_gpu(
    configs: Sequence[RunConfig],
    device: torch.device,
    arithmetic: Mapping[str, Arithmetic],
    wanted: int | None,
) -> tuple[int, str]:
    """Return the number of these runs to train at once on a CUDA device, and a sentence on why.

    It is 1 where any of them draws random numbers: all threads draw from one generator, and such runs have
    not been measured on a GPU.

    Args:
        configs: Configurations of the runs.
        device: CUDA device.
        arithmetic: Arithmetic per precision.
        wanted: Number that the user set; None for the fastest.

    Raises:
        ConfigError: The memory does not hold one run.
    """
    largest = max(configs, key=lambda config: (config.batch_size, config.net.depth))
    needed = memory_needed(largest, device, arithmetic[largest.precision])
    free, _ = torch.cuda.mem_get_info(device)
    fit = int(free // needed)
    if fit < 1:
        raise ConfigError(
            f"{largest.label} needs {needed / 2**30:.1f} GiB of GPU memory; {free / 2**30:.1f} GiB are free; "
            "give a smaller batch size or --device cpu"
        )
    if len(configs) > 1 and any(config.net.random for config in configs):
        return 1, f"{_runs_at_once(1)}: dropout and stochastic depth draw from a generator that threads share"
    typical = sorted(configs, key=lambda config: config.batch_size)[len(configs) // 2]
    how = arithmetic[typical.precision]
    return at_once(wanted, len(configs), fit, lambda count: images_per_second(typical, device, how, count))


def share_memory(jobs: Sequence[Sequence[RunConfig]], wanted: int) -> tuple[int, str]:
    """Return the number of these jobs to do at once on CPUs, and a sentence on why if memory limits it.

    Args:
        jobs: Configurations of the runs of each job.
        wanted: Number to do at once, at most.
    """
    needed = max(map(pack_bytes, jobs), default=1)
    free = memory_free()
    fit = max(1, int(min(free // needed, wanted)))
    if fit >= min(wanted, len(jobs)):
        return wanted, ""
    return fit, f"{_runs_at_once(fit)}: the memory does not hold {wanted} ({needed / 2**30:.1f} GiB each)"


def at_once(wanted: int | None, runs: int, fit: int, rate: Callable[[int], float]) -> tuple[int, str]:
    """Return the number of runs to train at once, and a sentence on why; empty where it is the wanted one.

    Args:
        wanted: Number that the user set; None for the fastest.
        runs: Number of runs.
        fit: Number of runs that the memory holds, 1 or more.
        rate: Function from a number of runs at once to their images per second together, measured.

    Example:
        >>> at_once(8, 13, 6, lambda count: 0.0)
        (6, '6 runs at once: the memory does not hold 8')
    """
    if wanted is not None:
        count = min(wanted, runs)
        if count <= fit:
            return count, ""
        return fit, f"{_runs_at_once(fit)}: the memory does not hold {count}"
    count, reached = 1, rate(1)
    while count < min(runs, fit):
        more = min(2 * count, runs, fit)
        faster = rate(more)
        if faster < WORTH * reached:
            return count, f"{_runs_at_once(count)}, {reached:.0f} images/s: {more} do {faster:.0f}"
        count, reached = more, faster
    why = "the memory holds no more" if count < runs else "all there are"
    return count, f"{_runs_at_once(count)}, {reached:.0f} images/s: {why}"


def _runs_at_once(count: int) -> str:
    return "1 run at once" if count == 1 else f"{count} runs at once"


def memory_needed(config: RunConfig, device: torch.device, how: Arithmetic) -> int:
    """Return the bytes of a CUDA device that a run holds at its peak, in its first steps and its graph.

    Args:
        config: Configuration of the run.
        device: CUDA device.
        how: Arithmetic of the run.
    """
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    images_per_second(config, device, how, 1, timed=1)
    needed = torch.cuda.max_memory_reserved(device) - before
    torch.cuda.empty_cache()
    return needed


def images_per_second(
    config: RunConfig, device: torch.device, how: Arithmetic, count: int, timed: int = TIMED
) -> float:
    """Measure the training images per second of several equal runs at once, all together, each in a thread.

    Args:
        config: Configuration of the runs.
        device: Device to train on.
        how: Arithmetic of the runs.
        count: Number of runs.
        timed: Number of timed steps.
    """

    def prepare(_: int) -> tuple[TrainStep, Callable[[int], None]]:
        with compute_on(device, how.precision):
            step = dummy_step(config, device, WARM_UP + 1 + timed, how)
            take = advance(step)
            for _ in range(WARM_UP + 1):
                take(config.batch_size)
            step.tally.means()  # waits for the device
            return step, take

    def train(prepared: tuple[TrainStep, Callable[[int], None]]) -> tuple[float, float]:
        step, take = prepared
        with compute_on(device, how.precision):
            start = time.perf_counter()
            for _ in range(timed):
                take(config.batch_size)
            step.tally.means()
            return start, time.perf_counter()

    with ThreadPoolExecutor(count) as threads:
        spans = list(threads.map(train, list(threads.map(prepare, range(count)))))
    return count * timed * config.batch_size / (max(e for _, e in spans) - min(s for s, _ in spans))
