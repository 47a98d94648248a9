"""What a run costs, from its configuration and a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gradscape.config import RunConfig

EVAL_SHARE = 1 / 3  # a forward pass beside forward and backward
TEST_IMAGES = {"digits": 300, "cifar10": 10_000, "cifar100": 10_000}


def macs_per_image(config: RunConfig) -> int:
    """Multiply-adds of one forward pass, convolutions and linear layer (140.23 M for VGG38 at 32×32)."""
    net, size = config.net, config.data.dataset.size
    kernel = 9 * net.filters
    total = kernel * 3 * size**2
    for stage in range(net.stages):
        pixels = (size >> stage) ** 2
        total += kernel * net.filters * (pixels * (2 * net.blocks + 1) + pixels // 4)
    features = net.filters * ((size >> net.stages) ** 2 if net.head == "flatten" else 1)
    return total + features * config.data.dataset.classes


def run_macs(config: RunConfig) -> float:
    """Multiply-adds of a whole run: training (three forward passes an image), validation, test."""
    assert config.data.train is not None
    assert config.data.valid is not None
    per_epoch = config.data.train + EVAL_SHARE * config.data.valid
    images = config.epochs * per_epoch + 2 * EVAL_SHARE * TEST_IMAGES[config.data.name]
    return 3 * macs_per_image(config) * images


def measure_rate(configs: Iterable[RunConfig]) -> float:
    """Multiply-adds per second of one thread here, from three timed training steps of the largest run."""
    import torch

    from gradscape.measure.gradient_flow import FlowRecorder
    from gradscape.train.loop import prepare_process
    from gradscape.train.state import TrainState
    from gradscape.train.step import Tally, train_step

    prepare_process(threads=1)
    config = max(configs, key=run_macs)
    device = torch.device("cpu")
    state = TrainState(config, device)
    flow, tally = FlowRecorder(state.model), Tally(device)
    size = config.data.dataset.size
    x = torch.rand(config.batch_size, 3, size, size).to(memory_format=torch.channels_last)
    y = torch.zeros(config.batch_size, dtype=torch.int64)
    train_step(state.model, state.optimizer, flow, tally, x, y)  # the first allocates and plans
    start = time.perf_counter()
    for _ in range(3):
        train_step(state.model, state.optimizer, flow, tally, x, y)
    seconds = (time.perf_counter() - start) / 3
    return 3 * macs_per_image(config) * config.batch_size / seconds


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`: as exact as an estimate is."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
