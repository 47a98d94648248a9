"""What distributions cost and how exact they are: sketches beside other ways, and two trainings on a CPU.

`python benchmarks/distribution_cost.py` takes three minutes and writes `results/distribution_cost.json`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
import watch_cost
from torch import Tensor, nn
from watch_cost import SUBJECTS, Training, Way

import gradscape as gs
from gradscape.measure.core.sketch import CHUNK, COLUMNS, RELATIVE_ERROR, quantiles, sketch
from gradscape.measure.watch.distribution_reader import BUDGET, REGULAR
from gradscape.measure.watch.schedule import SMALL
from gradscape.records.distributions import QUANTILES
from gradscape.train.process import prepare_process
from measure import spread, write

ELEMENTS, ROUNDS, STEPS, WARM_UP = 2**23, 5, 12, 3
NETWORKS = ("VGG38 + BatchNorm, batch 100, 32×32", "transformer, batch 32, 64 tokens")
READ = "distributions, each step"
SAMPLED = 16_384


def by_logarithm(values: Tensor) -> Tensor:
    """Counts in the same number of buckets, found by a logarithm instead of by bits."""
    counts = torch.zeros(COLUMNS, dtype=torch.int64)
    for chunk in values.split(CHUNK["cpu"]):
        place = (chunk.abs().log2_() * 8).add_(1_024).clamp_(0, COLUMNS // 2 - 1).long()
        counts.scatter_add_(0, place + (chunk > 0) * (COLUMNS // 2), torch.ones_like(place))
    return counts


def by_linear_bins(values: Tensor) -> Tensor:
    """A histogram as `wandb.watch` makes it: 64 bins between the least value and the largest."""
    low, high = values.min().item(), values.max().item()
    counts = torch.histc(values, 64, low, high).cumsum(0)
    places = torch.searchsorted(counts, torch.tensor(QUANTILES) * counts[-1])
    return low + (places + 0.5) * (high - low) / 64


def by_sample(values: Tensor) -> Tensor:
    """Quantiles of evenly spread elements."""
    return torch.quantile(values[:: -(-len(values) // SAMPLED)], torch.tensor(QUANTILES))


def by_sorting(values: Tensor) -> Tensor:
    return values.sort().values[[math.floor(q * (len(values) - 1)) for q in QUANTILES]]


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "sketch": lambda values: quantiles(sketch([values]), QUANTILES)[0],
    "buckets by logarithm": by_logarithm,
    "64 equal bins": by_linear_bins,
    "sample of 16,384": by_sample,
    "sort": by_sorting,
    "one norm, for comparison": lambda values: values.norm(),
}


def samples() -> dict[str, Tensor]:
    """Numbers as gradients are: a bell, one over many decades, and one with zeros and few large ones."""
    generator = torch.Generator().manual_seed(0)
    bell = torch.randn(ELEMENTS, generator=generator)
    wide = bell * torch.logspace(-9, 0, ELEMENTS)[torch.randperm(ELEMENTS, generator=generator)]
    sparse = bell * (torch.rand(ELEMENTS, generator=generator) < 0.3)
    sparse[::100_003] *= 1e3
    return {"normal": bell, "nine decades": wide, "zeros and outliers": sparse}


def speeds(values: Tensor) -> dict[str, Any]:
    """Nanoseconds of the processor's time an element, on one thread."""
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        times = []
        for _ in range(ROUNDS):
            start = time.thread_time()
            way(values)
            times.append(1e9 * (time.thread_time() - start) / len(values))
        found[name] = spread(times)
        print(f"{name:<28} {found[name]['median']:8.2f} ns an element")
    return found


def errors() -> dict[str, Any]:
    """Largest error of the quantiles beside the median, which may lie anywhere near 0, in parts of them."""
    found: dict[str, Any] = {}
    for name, values in samples().items():
        true = by_sorting(values).double().numpy()
        seen = (true != 0) & (np.array(QUANTILES) != 0.5)
        found[name] = {}
        for way in ("sketch", "64 equal bins", "sample of 16,384"):
            off = np.abs(WAYS[way](values).double().numpy() - true)
            found[name][way] = float((off[seen] / np.abs(true[seen])).max())
        print(name, found[name])
    return found


def read_each_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Way:
    flow = gs.watch(model, optimizer, every=1, activations=True, distributions=True)
    part = flow._recorder.distributions
    return Way(lambda _: None, lambda: part.spent)


def training(name: str) -> dict[str, Any]:
    """Milliseconds of a step and of a reading within it, and one of how many steps is read by default."""
    run = Training(SUBJECTS[name], READ)
    taken = [run.step() for _ in range(STEPS + WARM_UP)][WARM_UP:]
    reading = [1e3 * looking for _, looking in taken]
    alone = [1e3 * (whole - looking) for whole, looking in taken]
    count = sum(p.numel() for p in run.model.parameters())
    share = median(reading) / median(alone)
    every = REGULAR if count <= SMALL else math.ceil(share / BUDGET)
    found = {
        "parameters": count,
        "step_ms": spread(alone),
        "reading_ms": spread(reading),
        "every": every,
        "percent": 100 * share / every,
    }
    print(name, found)
    return found


def main() -> None:
    prepare_process(threads=1)
    watch_cost.WAYS[READ] = read_each_step
    write(
        "distribution_cost",
        {
            "elements": ELEMENTS,
            "bound": RELATIVE_ERROR,
            "bytes_of_a_sketch": 4 * COLUMNS,
            "ns": speeds(samples()["normal"]),
            "errors": errors(),
            "networks": {name: training(name) for name in NETWORKS},
        },
    )


if __name__ == "__main__":
    main()
