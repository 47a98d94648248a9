"""The training loop: build, go on where it stopped, step, measure, store, test."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradscape.config.arguments import typed
from gradscape.config.run import RunConfig
from gradscape.data import STATISTICS, ImageSet, split
from gradscape.data.device_batches import DeviceImages, EpochDraw, epoch_draw, eval_batches
from gradscape.errors import ConfigError, StoreError
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.measure.smoothness.within_training import Direction
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import EpochRecord, Progress, RunRecord
from gradscape.records.smoothness import StepSmoothness
from gradscape.storage.run_folder import ENDED, RunFolder
from gradscape.train.cuda_graph import advance
from gradscape.train.early_stop import PATIENCE, Stopped, hopeless
from gradscape.train.measurements import (
    IMAGES,
    ProgressCallback,
    keep_weights,
    measure_curvature,
    measure_landscape,
    measure_noise,
    measure_start,
)
from gradscape.train.model import scale_lsuv
from gradscape.train.precision import Arithmetic, decide
from gradscape.train.process import (
    compute_on,
    environment,
    find_device,
    keep_threads,
    lock_gpu,
    same_threads,
)
from gradscape.train.seeding import own_draws
from gradscape.train.state import TrainState
from gradscape.train.step import LabeledBatch, TrainStep, cosine, evaluate

# Images evaluated at once. On a CPU the activations of 50 stay in the cache: three times faster than 1,000.
EVAL_BATCH = {"cpu": 50, "cuda": 1_250}
DIRECTIONS: tuple[Direction, ...] = ("gradient", "step", "relative")  # of measures of smoothness, in turns
PROGRESS_EVERY = {"cpu": 0.5, "cuda": math.inf}  # seconds; a GPU would have to wait: once an epoch is enough


def _only_warn(progress: Progress | str) -> None:
    """Warn a caller without a `report` of a norm that normalizes nothing, and pass over the rest."""
    if isinstance(progress, str) and progress.startswith("net.norm"):
        warnings.warn(progress, stacklevel=4)  # where `train_run` was called


class _Diverged(Exception):
    """The loss stopped being a finite number."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


@typed()
def train_run(
    config: RunConfig,
    folder: RunFolder | str | Path,
    images: ImageSet,
    device: str = "cpu",
    report: ProgressCallback = _only_warn,
    arithmetic: Arithmetic | None = None,
    stop_hopeless: bool = False,
) -> RunRecord:
    """Train one run, or go on with it, and return its record.

    A run that is done or diverged is not repeated. Killed at any time and called again, it goes on after
    its last whole epoch; on a CPU the weights and metrics are then bit-identical to an undisturbed run's.

    Args:
        config: Configuration of the run.
        folder: Folder of the run, or its path; made if it is not there.
        images: Data set that `config.data` names.
        device: `cpu`, `cuda` or `auto` (cuda where there is one).
        report: Function called with a `Progress` after every epoch, on a CPU about twice a second, and where
            a measurement begins; and with a sentence where there is news. By default a warning says if the
            norm normalizes nothing.
        arithmetic: Result of `decide` for the run's precision, where it is known already.
        stop_hopeless: End the run early if `hopeless` finds it so; a later call without it goes on.

    Raises:
        ConfigError: The device is not here, or `images` is another data set.
        StoreError: The folder cannot be written, holds another run, or another process is at work on it.

    Example:
        >>> train_run(RunConfig(epochs=2), "runs/first", load_images("digits")).curve("valid_accuracy")
    """
    if images.name != config.data.name:
        raise ConfigError(f"data.name: the run is on {config.data.name}, the images are {images.name}")
    folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
    place = find_device(device)
    how = arithmetic or decide(config.precision, place)
    folder.create(config)
    with folder.locked(), same_threads():
        before = folder.status()
        if before["state"] in ENDED:
            return folder.record()
        folder.withdraw_stop()  # of an earlier attempt
        if "computed_in" in before:  # a timing on a busy machine must not change a run half-way
            how = Arithmetic(before["computed_in"], before["fallback"], "fused" in before)
            keep_threads(before["threads"], report)
        details = environment(place) | {"attempts": before.get("attempts", 0) + 1}
        details |= {"computed_in": how.precision, "fallback": how.fallback}
        details |= {"fused": "BatchNorm with LeakyReLU"} if how.fused else {}
        if arithmetic is None:
            for news in filter(None, (config.net.unnormalized, how.fallback, how.fusing)):
                report(news)
        try:
            with compute_on(place, how.precision):
                details |= _run(config, folder, images, place, how, report, details, stop_hopeless)
            details |= _diagnosed(folder, "done", details)
        except _Diverged as end:
            details |= {"epoch": end.epoch, "step": end.step}
            folder.set_status("diverged", **details, **_diagnosed(folder, "diverged", details))
        except Stopped as end:
            folder.set_status("stopped", **details, reason=str(end))
        except KeyboardInterrupt:
            folder.set_status("pending", **details)
            raise
        except Exception:
            _mark_failed(folder, details)
            raise
        else:
            folder.set_status("done", **details)
        return folder.record()


def _diagnosed(folder: RunFolder, state: str, details: dict[str, Any]) -> dict[str, Any]:
    """Return the diagnosis of a run that has ended in this state, for its status."""
    record = replace(folder.record(), state=state, status=details)
    return {"diagnosis": diagnose(record).to_dict()}


def _run(
    config: RunConfig,
    folder: RunFolder,
    images: ImageSet,
    device: torch.device,
    how: Arithmetic,
    report: ProgressCallback,
    details: dict[str, Any],
    stop_hopeless: bool,
) -> dict[str, Any]:
    """Train every epoch that is not done yet, then test; return values for the status."""
    data, mean_std = config.data, STATISTICS[config.data.normalized_as]
    images = images.averaged(data.size)
    assert data.valid is not None
    assert data.crop_pad is not None
    chosen = split(images.train_labels, data.valid, data.split_seed, data.stratified)
    kept = chosen.train[: data.train]
    details |= {"split": chosen.method, "checksums": images.checksums}
    folder.set_status("running", **details)

    pool = DeviceImages.make(images.train_images[kept], images.train_labels[kept], data.crop_pad, device)
    shown = EVAL_BATCH[device.type], *mean_std, device
    valid = list(eval_batches(images.train_images[chosen.valid], images.train_labels[chosen.valid], *shown))

    def seen(count: int, size: int = config.batch_size) -> list[tuple[Tensor, Tensor]]:
        """Return the first training images, in mini-batches."""
        of = kept[:count]
        shown = images.train_images[of], images.train_labels[of], size
        return list(eval_batches(*shown, *mean_std, device))

    state = TrainState(config, device)
    if config.net.init == "lsuv":
        with lock_gpu(device):
            news = scale_lsuv(config, state.model, seen(config.batch_size)[0])
        if news:
            report(news)
    with lock_gpu(device):
        measure_start(config, folder, state, seen(IMAGES, IMAGES)[0], report)
    if config.curvature_images:
        with lock_gpu(device):
            measure_curvature(config, folder, "start", state, seen(config.curvature_images), report)
    epochs = folder.intact()  # epochs behind a damaged line are trained again
    if (checkpoint := folder.load(len(epochs))) is not None:
        state.restore(checkpoint)
    folder.keep(state.epoch)
    del epochs[state.epoch :]
    keep_weights(config, folder, state)
    step = TrainStep(state, pool, *mean_std, how)
    take = advance(step)

    while state.epoch < config.epochs:
        start = time.perf_counter()
        draw = epoch_draw(len(pool), config.seed, state.epoch, data.crop_pad, bool(data.flip))
        with own_draws(config, state.epoch):
            measured, flow = _train_epoch(config, step, take, draw, report)
        trained = time.perf_counter()
        with lock_gpu(device):
            valid_loss, valid_accuracy = evaluate(state.model, valid, device, how.precision)
        if not math.isfinite(valid_loss):
            raise _Diverged(state.epoch + 1, math.ceil(len(pool) / config.batch_size))
        state.finish_epoch(valid_accuracy)
        epochs.append(
            EpochRecord(
                epoch=state.epoch,
                valid_loss=valid_loss,
                valid_accuracy=valid_accuracy,
                seconds=time.perf_counter() - start,
                images_per_second=len(pool) / (trained - start),
                **measured,
            )
        )
        folder.append(epochs[-1], flow)
        keep_weights(config, folder, state)
        folder.save(state.checkpoint())
        why = folder.stop_reason()
        if stop_hopeless and not why and (history := folder.flow(max(0, len(epochs) - PATIENCE))):
            why = hopeless(config, epochs, history)
        if why and state.epoch < config.epochs:
            raise Stopped(why)

    held_out = eval_batches(images.test_images, images.test_labels, *shown)
    with lock_gpu(device):
        if config.curvature_images:
            measure_curvature(config, folder, "end", state, seen(config.curvature_images), report)
        if config.landscape_images:
            measure_landscape(config, folder, state, seen(config.landscape_images), report)
        if config.noise_batches:
            measure_noise(config, folder, state, seen(config.noise_batches * config.batch_size), report)
        report(Progress.measuring("test", config.epochs))
        return details | {"test": _test(state, held_out, device, how.precision)}


def _train_epoch(
    config: RunConfig, step: TrainStep, take: Callable[[int], None], draw: EpochDraw, report: ProgressCallback
) -> tuple[dict[str, Any], FlowHistory]:
    """One pass over the training images: what training knows of its `EpochRecord`, and its gradients.

    Raises:
        Diverged: with the first step whose loss is not finite, found when the epoch ends: asking after
            every step would make the device wait.
    """
    optim, epoch, images = config.optim, step.state.epoch, len(draw.order)
    assert optim.period is not None
    lr = cosine(optim.lr, optim.min_lr, optim.period, epoch)
    step.begin(draw, lr)
    start = said = time.perf_counter()
    measures: list[StepSmoothness] = []
    number = epoch * math.ceil(images / config.batch_size)
    for first in range(0, images, config.batch_size):
        done = min(first + config.batch_size, images)
        if config.smoothness_every and number % config.smoothness_every == 0:
            direction = DIRECTIONS[number // config.smoothness_every % len(DIRECTIONS)]
            with lock_gpu(step.device):
                measures.append(step.measure(done - first, direction, lr, number))
        else:
            take(done - first)
        number += 1
        if (now := time.perf_counter()) - said >= PROGRESS_EVERY[step.device.type] or done == images:
            said = now
            loss, accuracy = step.tally.means()
            rate = done / (time.perf_counter() - start)
            report(Progress(epoch + 1, config.epochs, done / images, loss, accuracy, rate))
    if math.isfinite(bad := step.tally.first_bad.item()):
        raise _Diverged(epoch + 1, int(bad))
    means = {"lr": lr, "train_loss": loss, "train_accuracy": accuracy}
    return {**means, "smoothness": tuple(measures)}, step.flow.result(epoch + 1)


def _test(
    state: TrainState, batches: Iterable[LabeledBatch], device: torch.device, precision: str
) -> dict[str, dict[str, float]]:
    """Return test loss and accuracy of the last and of the best-validation weights."""
    images = list(batches)

    def measure(epoch: int) -> dict[str, float]:
        loss, accuracy = evaluate(state.model, images, device, precision)
        return {"epoch": epoch, "loss": loss, "accuracy": accuracy}

    last = measure(state.epoch)
    if state.best_epoch == state.epoch:
        return {"last": last, "best": last}
    state.model.load_state_dict(state.best_weights)
    return {"last": last, "best": measure(state.best_epoch)}


def _mark_failed(folder: RunFolder, details: dict[str, Any]) -> None:
    """Record the traceback where the folder can still be written; what went wrong is raised anyway."""
    try:
        folder.set_status("failed", **details, error=traceback.format_exc())
    except StoreError:
        return
