"""Cost of a run, from its configuration and a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradscape.config.run import RunConfig
from gradscape.study.shapes import convolutions, features

if TYPE_CHECKING:
    import torch

    from gradscape.train.precision import Arithmetic
    from gradscape.train.step import TrainStep

EVAL_SHARE = 1 / 3  # cost of a forward pass as a share of forward and backward
MEASURE = 2  # gradients per measure of smoothness
SPECTRUM = 150  # gradients of its images per measure of curvature, about
SURFACE = 200  # forward passes over its images per landscape, about: its grid is refined
NORM_COPIES = {"none": 1, "weight": 1, "algorithm1": 4, "renorm": 6}  # copies of an activation; 2 by others
PROCESS_BYTES = 440 * 2**20  # Python, torch, oneDNN's kernels and buffers
TEST_IMAGES = {"digits": 300, "cifar10": 10_000, "cifar100": 10_000}


def macs_per_image(config: RunConfig) -> int:
    """Return the multiply-adds of one forward pass, convolutions and linear layer.

    They are 140.23 million for VGG38 at 32×32.

    Args:
        config: Configuration of a run.
    """
    net, data = config.net, config.data.dataset
    linear = features(net, data.size) * data.classes
    return sum(conv.macs for conv in convolutions(net, data.size)) + linear


def run_macs(config: RunConfig) -> float:
    """Return the multiply-adds of a run's training (three forward passes an image), validation and measures.

    Args:
        config: Configuration of a run.
    """
    assert config.data.train is not None
    assert config.data.valid is not None
    per_epoch = config.data.train + EVAL_SHARE * config.data.valid
    if config.smoothness_every:
        per_epoch += MEASURE * config.data.train / config.smoothness_every
    images = config.epochs * per_epoch + 2 * EVAL_SHARE * TEST_IMAGES[config.data.name]
    images += config.noise_batches * config.batch_size
    images += 2 * SPECTRUM * config.curvature_images + EVAL_SHARE * SURFACE * config.landscape_images
    return 3 * macs_per_image(config) * images


def measure_rate(configs: Iterable[RunConfig]) -> float:
    """Measure the multiply-adds per second of one thread, by three timed training steps of the largest run.

    Args:
        configs: Configurations of the runs.
    """
    import torch

    from gradscape.train.process import prepare_process

    prepare_process(threads=1)
    config = max(configs, key=run_macs)
    step = dummy_step(config, torch.device("cpu"), batches=5)
    step(config.batch_size)  # the first two allocate and plan
    step(config.batch_size)
    start = time.perf_counter()
    for _ in range(3):
        step(config.batch_size)
    seconds = (time.perf_counter() - start) / 3
    return 3 * macs_per_image(config) * config.batch_size / seconds


def run_bytes(config: RunConfig) -> int:
    """Return the bytes of main memory that a process training the run holds at most, rounded up.

    Tensors kept for the backward pass take the most: each convolution's output, which with a norm behind it
    is kept twice (more often where the norm is written out), and once more by activations that cannot be
    undone and by dropout. In a DenseNet it is each convolution's input, the output of all layers before it.

    Args:
        config: Configuration of the run.
    """
    net, data = config.net, config.data
    known, pad = data.dataset, data.crop_pad
    assert pad is not None
    entry, *convs = convolutions(net, known.size)
    full = entry.outputs * entry.pixels  # values in the largest tensor of one image
    dense = net.family.startswith("densenet")
    more = dense + (net.activation in ("gelu", "selu")) + 2 * (net.dropout > 0)
    kept = sum(
        (conv.inputs if dense else conv.outputs)
        * conv.pixels
        * ((NORM_COPIES.get(net.norm, 2) if conv.normed else 1) + more)
        for conv in convs
    )
    written_out = net.norm in ("algorithm1", "renorm")  # they compute in float32
    width = 2 if config.precision == "bf16" and not written_out else 4
    images = 3 * (known.pool + TEST_IMAGES[data.name]) * ((known.size + 2 * pad) ** 2 + known.size**2)
    return int(PROCESS_BYTES + images + config.batch_size * (16 * full + 1.6 * width * kept))


def pack_bytes(configs: Sequence[RunConfig]) -> int:
    """Return the bytes of main memory that a process training runs together holds at most, rounded up.

    Args:
        configs: Configurations of the runs, one or more.
    """
    return sum(map(run_bytes, configs)) - (len(configs) - 1) * PROCESS_BYTES


def dummy_step(
    config: RunConfig, device: torch.device, batches: int, how: Arithmetic | None = None
) -> TrainStep:
    """Return the run's training step, begun on an epoch of mini-batches of noise.

    Args:
        config: Configuration of the run.
        device: Device to train on.
        batches: Number of mini-batches of the epoch.
        how: Arithmetic; None for the device's choice.
    """
    import numpy as np

    from gradscape.data.device_batches import DeviceImages, epoch_draw
    from gradscape.train.precision import decide
    from gradscape.train.state import TrainState
    from gradscape.train.step import TrainStep

    draw, data = np.random.default_rng(0), config.data.dataset
    count = batches * config.batch_size
    images = draw.integers(0, 256, (count, data.size, data.size, 3), dtype=np.uint8)
    labels = draw.integers(0, data.classes, count)
    pool = DeviceImages.make(images, labels, 0, device)
    how = how or decide(config.precision, device)
    step = TrainStep(TrainState(config, device), pool, (0.5,) * 3, (0.25,) * 3, how)
    step.begin(epoch_draw(count, 0, 0, 0, False), config.optim.lr)
    return step


def duration(seconds: float) -> str:
    """Return a time in words, as exact as an estimate is: `45 s`, `3 min`, `2.5 h`.

    Args:
        seconds: Time in seconds.
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
