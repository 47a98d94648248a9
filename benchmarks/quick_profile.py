"""Why the quick study takes as long as it does: its arithmetic, and where the time of its largest pack goes.

`python benchmarks/quick_profile.py` takes a minute, and writes `results/quick_profile.json`: what all runs
compute, how many epochs they have, and each operation's share of a step of the largest pack, on one thread.
"""

from __future__ import annotations

import numpy as np
import torch
from step_profile import CPU, PARTS, PROFILED, TIMED, named, profiled_step, seconds

from gradscape.config.run import RunConfig
from gradscape.data.device_batches import DeviceImages, epoch_draw
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.network_cost import macs_per_image
from gradscape.study.packs import divide
from gradscape.train.packed_step import PackedStep
from gradscape.train.process import prepare_process
from gradscape.train.state import TrainState
from measure import write

SHORT = 120.0  # seconds, the first aim
STEPS = PROFILED + TIMED + 2
MATRICES = 2_048  # edge of those whose product is what a core reaches at most


def training_flop(config: RunConfig) -> float:
    """Operations of a run's training steps: two a multiply-add, and two passes backward for one forward."""
    assert config.data.train is not None
    return 6.0 * macs_per_image(config) * config.data.train * config.epochs


def packed_step(configs: list[RunConfig]) -> PackedStep:
    """The step of a pack, begun on mini-batches of noise."""
    draw, first = np.random.default_rng(0), configs[0]
    data, count = first.data.dataset, STEPS * first.batch_size
    images = draw.integers(0, 256, (count, data.size, data.size, 3), dtype=np.uint8)
    pool = DeviceImages.make(images, draw.integers(0, data.classes, count), 0, CPU)
    states = [TrainState(config, CPU) for config in configs]
    step = PackedStep(states, pool, (0.5,) * 3, (0.25,) * 3)
    step.begin(
        [epoch_draw(count, 0, config.seed, 0, False) for config in configs],
        [config.optim.lr for config in configs],
    )
    for batches in step.batches:
        batches.take = named(PARTS[0], batches.take)  # type: ignore[method-assign]
    step.recorder.before_step = named(PARTS[1], step.recorder.before_step)  # type: ignore[method-assign]
    step.recorder.after_step = named(PARTS[1], step.recorder.after_step)  # type: ignore[method-assign]
    return step


def matrix_product() -> float:
    """GFLOP/s of a product of large matrices on one core."""
    matrix = torch.randn(MATRICES, MATRICES)
    return 2 * MATRICES**3 / min(seconds(lambda: torch.mm(matrix, matrix)) for _ in range(8)) / 1e9


def main() -> None:
    prepare_process(threads=1)
    torch.manual_seed(0)
    plan = BATCHNORM.plan("quick")
    runs = plan.runs()
    largest = max(divide(runs, runs, plan.together, workers=2), key=lambda pack: len(pack.names))
    configs = [runs[name] for name in largest.names]
    size = configs[0].batch_size
    flop = sum(6.0 * macs_per_image(config) * size for config in configs)
    step = packed_step(configs)
    found = profiled_step(lambda: step(size), flop)
    total = sum(map(training_flop, runs.values()))
    write(
        "quick_profile",
        {
            "runs": len(runs),
            "epochs": configs[0].epochs,
            "training_flop": total,
            "gflops_of_a_core_in_short": total / SHORT / 2 / 1e9,
            "matrix_product_gflops": matrix_product(),
            "pack": len(configs),
            **found,
        },
    )


if __name__ == "__main__":
    main()
