"""Cost of a run, from its configuration and a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradscape._machine import cores
from gradscape.config.run import RunConfig
from gradscape.records.run import Phase
from gradscape.study.shapes import convolutions, features

if TYPE_CHECKING:
    import torch

    from gradscape.train.precision import Arithmetic
    from gradscape.train.step import TrainStep

# Measured on runs of the quick preset, one thread, in processor seconds.
EVAL_SHARE = 0.3  # cost of a forward pass as a share of forward and backward
MEASURE = 3  # gradients per measure of smoothness
START = 8  # gradients of its images per measure of the initial weights
SPECTRUM = 50  # gradients of its images per measure of curvature, about
SURFACE = 150  # forward passes over its images per landscape, about: its grid is refined
NOISE = 3  # gradients of its mini-batches: whole, halved and quartered
NORM = 130  # multiply-adds in whose time a value is normalized, forward and backward
STEP = 25e6  # multiply-adds in whose time a mini-batch is cut, gradients are read and weights stepped
LAYER = 16e6  # multiply-adds in whose time the operations of a layer's step are started
REPORT = 4.0, 24.0  # seconds of a report that one process takes, and that all cores share
NORM_COPIES = {"none": 1, "weight": 1, "algorithm1": 4, "renorm": 6}  # copies of an activation; 2 by others
PROCESS_BYTES = 440 * 2**20  # Python, torch, oneDNN's kernels and buffers
IMAGES = 100  # of the initial weights' measure
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


def step_macs(config: RunConfig, rows: int = 1) -> float:
    """Return the multiply-adds in whose time a training step is done, three forward passes an image and more.

    Args:
        config: Configuration of a run.
        rows: Number of runs whose operations are started together.
    """
    convs = convolutions(config.net, config.data.dataset.size)
    normed = sum(conv.outputs * conv.pixels for conv in convs if conv.normed)
    images = (3 * macs_per_image(config) + NORM * normed) * config.batch_size
    return images + STEP + LAYER * (len(convs) + 1) / rows


def phase_macs(config: RunConfig, rows: int = 1) -> dict[Phase, float]:
    """Return the multiply-adds of each phase of a run, in order; 0 for those that it does not ask for.

    Args:
        config: Configuration of a run.
        rows: Number of runs that are trained as one network.
    """
    data = config.data
    assert data.train is not None
    assert data.valid is not None
    per_image = step_macs(config) / config.batch_size
    packed = step_macs(config, rows) / config.batch_size
    images = data.train + EVAL_SHARE * data.valid
    if config.smoothness_every:
        images += MEASURE * data.train / config.smoothness_every
    spectrum = SPECTRUM * config.curvature_images
    of_phase: dict[Phase, float] = {
        "signal at the start": START * min(IMAGES, data.train),
        "curvature at the start": spectrum,
        "training": config.epochs * images,
        "curvature at the end": spectrum,
        "landscape": EVAL_SHARE * SURFACE * config.landscape_images,
        "gradient noise": NOISE * config.noise_batches * config.batch_size,
        "test": 2 * EVAL_SHARE * TEST_IMAGES[data.name],
    }
    return {
        phase: (packed if phase == "training" else per_image) * count for phase, count in of_phase.items()
    }


def run_macs(config: RunConfig, rows: int = 1) -> float:
    """Return the multiply-adds of a run, its measures among them.

    Args:
        config: Configuration of a run.
        rows: Number of runs that are trained as one network.
    """
    return sum(phase_macs(config, rows).values())


def report_seconds() -> float:
    """Return about how long a study's report takes on this machine."""
    alone, shared = REPORT
    return alone + shared / cores()


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
    return step_macs(config) / seconds


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
