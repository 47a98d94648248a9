"""One pass over the training images: its steps, the measures within them, and what it is reported as."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn.functional import cross_entropy

from gradscape.config.run import RunConfig
from gradscape.data.device_batches import EpochDraw
from gradscape.measure.smoothness.within_training import Direction, step_smoothness
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import Progress
from gradscape.records.smoothness import StepSmoothness
from gradscape.train.packed_step import PackedStep
from gradscape.train.process import lock_gpu
from gradscape.train.step import Tally, TrainStep, cosine

DIRECTIONS: tuple[Direction, ...] = ("gradient", "step", "relative")  # of measures of smoothness, in turns
PROGRESS_EVERY = {"cpu": 0.5, "cuda": math.inf}  # seconds; a GPU would have to wait: once an epoch is enough


@dataclass(frozen=True)
class TrainedEpoch:
    """Results of the training part of an epoch.

    Attributes:
        measured: Fields of its `EpochRecord`.
        flow: Gradients, in one row.
        first_bad: First step, from 1, whose loss is not finite; infinite without one. It is known when the
            epoch ends: asking after every step would make the device wait.
        seconds: Wall time; of a pack's, an equal share.
    """

    measured: dict[str, Any]
    flow: FlowHistory
    first_bad: float
    seconds: float


def train_epoch(
    config: RunConfig,
    step: TrainStep,
    take: Callable[[int], None],
    draw: EpochDraw,
    report: Callable[[Progress], None],
) -> TrainedEpoch:
    """Train one run for an epoch.

    Args:
        config: Configuration of the run.
        step: Step of the run.
        take: Result of `advance` for the step.
        draw: Order, crops and flips of the epoch.
        report: Function called about twice a second on a CPU, and at the end.
    """
    epoch, images = step.state.epoch, len(draw.order)
    lr = learning_rate(config, epoch)
    step.begin(draw, lr)
    start = said = time.perf_counter()
    measures: list[StepSmoothness] = []
    number = epoch * math.ceil(images / config.batch_size)
    for first in range(0, images, config.batch_size):
        done = min(first + config.batch_size, images)
        if direction := direction_at(config, number):
            with lock_gpu(step.device):
                measures.append(step.measure(done - first, direction, lr, number))
        else:
            take(done - first)
        number += 1
        if (now := time.perf_counter()) - said >= PROGRESS_EVERY[step.device.type] or done == images:
            said = now
            report(_progress(config, epoch, step.tally, done / images, done / (now - start)))
    seconds = time.perf_counter() - start
    return _trained(lr, step.tally, measures, step.flow.result(epoch + 1), seconds)


def train_epochs(
    configs: Sequence[RunConfig],
    step: PackedStep,
    draws: Sequence[EpochDraw],
    report: Callable[[dict[str, Progress | str]], None],
) -> list[TrainedEpoch]:
    """Train each run of a pack for an epoch, its next one.

    Args:
        configs: Configurations of the runs, which have the same number of images and the same batch size.
        step: Step of all runs.
        draws: Order, crops and flips of each run's epoch.
        report: Function called about twice a second and at the end, with the progress per run's identity.
    """
    epochs, images, size = [state.epoch for state in step.states], len(draws[0].order), configs[0].batch_size
    lrs = [learning_rate(config, epoch) for config, epoch in zip(configs, epochs, strict=True)]
    step.begin(draws, lrs)
    start = said = time.perf_counter()
    measures: list[list[StepSmoothness]] = [[] for _ in configs]
    numbers = [epoch * math.ceil(images / size) for epoch in epochs]
    for first in range(0, images, size):
        done = min(first + size, images)
        along = [direction_at(config, number) for config, number in zip(configs, numbers, strict=True)]
        before = [step.parameters_of(run) if along[run] else [] for run in range(len(configs))]
        batches = step(done - first)
        for run, direction in enumerate(along):
            if direction:  # loss and gradient are the network's alone, as those it is compared with
                of = step.states[run].model, cross_entropy, batches[run], before[run], None
                measures[run].append(step_smoothness(*of, direction, lrs[run], numbers[run]))
        numbers = [number + 1 for number in numbers]
        if (now := time.perf_counter()) - said >= PROGRESS_EVERY["cpu"] or done == images:
            said = now
            parts, rate = zip(configs, epochs, step.tallies, strict=True), done / (now - start)
            report({part[0].identity: _progress(*part, done / images, rate) for part in parts})
    share = (time.perf_counter() - start) / len(configs)
    step.finish()
    flows = [step.flow(run, epoch + 1) for run, epoch in enumerate(epochs)]
    return list(map(_trained, lrs, step.tallies, measures, flows, [share] * len(configs)))


def learning_rate(config: RunConfig, epoch: int) -> float:
    """Return the learning rate of a run's epoch.

    Args:
        config: Configuration of the run.
        epoch: Epoch, from 0.
    """
    assert config.optim.period is not None
    return cosine(config.optim.lr, config.optim.min_lr, config.optim.period, epoch)


def direction_at(config: RunConfig, number: int) -> Direction | None:
    """Return the direction in which a step's smoothness is measured; None if it is not.

    Args:
        config: Configuration of the run.
        number: Number of the step, from 0.
    """
    if not config.smoothness_every or number % config.smoothness_every:
        return None
    return DIRECTIONS[number // config.smoothness_every % len(DIRECTIONS)]


def _progress(config: RunConfig, epoch: int, tally: Tally, share: float, rate: float) -> Progress:
    return Progress(epoch + 1, config.epochs, share, *tally.means(), rate)


def _trained(
    lr: float, tally: Tally, measures: Sequence[StepSmoothness], flow: FlowHistory, seconds: float
) -> TrainedEpoch:
    loss, accuracy = tally.means()
    measured = {"lr": lr, "train_loss": loss, "train_accuracy": accuracy, "smoothness": tuple(measures)}
    return TrainedEpoch(measured, flow, tally.first_bad.item(), seconds)
