"""Measurements of a run's weights between its epochs, on images that are the same at all moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.measure.core.layer_trace import layer_kind
from gradscape.measure.core.preserve import untouched
from gradscape.measure.curvature.curvature import curvature
from gradscape.measure.landscape.landscape import landscape
from gradscape.measure.noise import noise
from gradscape.measure.signal.signal import signal
from gradscape.measure.watch.epoch_recorder import FlowRecorder
from gradscape.records.noise import RunNoise
from gradscape.records.run import Phase, Progress
from gradscape.records.signal import RunStart
from gradscape.storage.run_folder import RunFolder
from gradscape.train.model import build_model, one_draw
from gradscape.train.process import return_memory
from gradscape.train.state import TrainState
from gradscape.train.step import LabeledBatch

PROBES, STEPS = 1, 18  # of the spectral density, for its outline: the search for the ends takes 16 to 31
TOLERANCE = 1e-2  # of an extreme eigenvalue, beside the largest modulus
IMAGES = 100  # before the first step: a mini-batch of the paper's
POINTS, ACCURACY = 33, 0.1  # of a landscape: refined where interpolation, not chance, is off by more
CHECKS = 10  # of its interpolation
PARTS = (1, 2, 4)  # of a mini-batch, whose gradients' noise is compared at the same weights

ProgressCallback = Callable[[Progress | str], None]


def measure_start(
    config: RunConfig, folder: RunFolder, state: TrainState, batch: LabeledBatch, report: ProgressCallback
) -> None:
    """Measure gradients and signal of the initial weights and keep them, unless the folder has them.

    Two forward and backward passes in train mode, so that BatchNorm takes the batch's statistics, but
    without dropout or stochastic depth: one draw of them would say little. The model is left as found.

    Args:
        config, folder: Configuration and folder of the run.
        state: State of the run before its first step, its model not fused.
        batch: (x, y) of at most `IMAGES` training images.
        report: Function called when the measurement begins.
    """
    if folder.start() is not None:
        return
    report(Progress.measuring("signal at the start", config.epochs))
    x, y = batch
    # The lock: what another thread's network is drawn from meanwhile are the generators put back here.
    with one_draw, untouched(state.model):
        for module in state.model.train().modules():
            if layer_kind(module) == "dropout":
                module.eval()
        through = signal(state.model, batch, cross_entropy, jacobian_samples=0)
        cross_entropy(state.model(x), y).backward()  # type: ignore[no-untyped-call]
        recorder = FlowRecorder(state.model)
        recorder.before_step()
        recorder.after_step()
    folder.add_start(RunStart(through, recorder.result(0)))


def measure_curvature(
    config: RunConfig,
    folder: RunFolder,
    moment: Literal["start", "end"],
    state: TrainState,
    batches: list[LabeledBatch],
    report: ProgressCallback,
) -> None:
    """Measure the curvature and keep it, unless the folder has it; a loss that has none is reported.

    Args:
        config, folder: Configuration and folder of the run.
        moment: `start` or `end`.
        state: State of the run, whose weights are measured.
        batches: (x, y) each: BatchNorm takes the statistics of each, as in training.
        report: Function called when the measurement begins, and with a sentence where there is news.
    """
    if moment in folder.curvature():
        return
    phase: Phase = "curvature at the start" if moment == "start" else "curvature at the end"
    report(Progress.measuring(phase, config.epochs))
    try:
        record = curvature(
            _unfused(config, state), cross_entropy, batches, 1, bn="batch", tolerance=TOLERANCE,
            trace_products=0, probes=PROBES, steps=STEPS,
        )  # fmt: skip
    except ConfigError as error:
        report(f"no curvature at the {moment}: {error}")
        return
    return_memory()  # the graphs of backward passes, which may have half of all
    folder.add_curvature(moment, record)


def measure_landscape(
    config: RunConfig,
    folder: RunFolder,
    state: TrainState,
    batches: list[LabeledBatch],
    report: ProgressCallback,
) -> None:
    """Evaluate the loss around the trained weights and keep it, unless the folder has it.

    Args:
        config, folder: Configuration, whose seed draws the directions, and folder of the run.
        state: State of the run, whose weights are in the middle.
        batches: (x, y) each: BatchNorm takes the statistics of each, as in training.
        report: Function called when the measurement begins, and with a sentence where there is news.
    """
    if folder.landscape() is not None:
        return
    report(Progress.measuring("landscape", config.epochs))
    try:
        record = landscape(
            _unfused(config, state), cross_entropy, batches, points=POINTS, accuracy=ACCURACY, checks=CHECKS,
            bn="batch", workers=torch.get_num_threads(), seed=config.seed,
        )  # fmt: skip
    except ConfigError as error:
        report(f"no landscape: {error}")
        return
    folder.add_landscape(record)


def measure_noise(
    config: RunConfig,
    folder: RunFolder,
    state: TrainState,
    batches: list[LabeledBatch],
    report: ProgressCallback,
) -> None:
    """Measure the gradient's noise at the trained weights and keep it, unless the folder has it.

    Args:
        config, folder: Configuration and folder of the run.
        state: State of the run, whose weights are measured.
        batches: (x, y) each, of the run's size: BatchNorm takes the statistics of each, as in training.
        report: Function called when the measurement begins, and with a sentence where there is news.
    """
    if folder.noise() is not None:
        return
    report(Progress.measuring("gradient noise", config.epochs))
    size = config.batch_size
    sizes = [size, *(size // part for part in PARTS[1:] if size % part == 0 and size // part > 1)]
    model = _unfused(config, state)
    try:
        record, *smaller = [noise(model, cross_entropy, _cut(batches, size), bn="batch") for size in sizes]
    except ConfigError as error:
        report(f"no gradient noise: {error}")
        return
    traces = tuple((each.batch_size, each.batch_trace) for each in (record, *smaller))
    folder.add_noise(RunNoise(record, traces))


def _cut(batches: list[LabeledBatch], size: int) -> list[LabeledBatch]:
    """Return the same images in mini-batches of another size."""
    return [(x[at : at + size], y[at : at + size]) for x, y in batches for at in range(0, len(x), size)]


def _unfused(config: RunConfig, state: TrainState) -> nn.Module:
    """Return the network of plain layers: fused ones have no second derivative, and do more than needed."""
    model = build_model(config, next(state.model.parameters()).device)
    model.load_state_dict(state.model.state_dict())
    return model


def keep_weights(config: RunConfig, folder: RunFolder, state: TrainState) -> None:
    """Keep the weights of this epoch if it is one of those that are kept; the last one always is.

    Args:
        config, folder: Configuration and folder of the run.
        state: State of the run.
    """
    if config.keep_every and (state.epoch % config.keep_every == 0 or state.epoch == config.epochs):
        folder.save_weights(state.epoch, state.weights())
