"""The training loop: build, go on where it stopped, step, measure, store, test."""

from __future__ import annotations

import math
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from gradscape.config import RunConfig
from gradscape.data import STATISTICS, ImageSet, split
from gradscape.data.batches import DeviceImages, epoch_draw, eval_batches, train_batches
from gradscape.errors import ConfigError, StoreError
from gradscape.measure.gradient_flow import FlowRecorder
from gradscape.records import EpochRecord, Progress, RunRecord
from gradscape.store import ENDED, RunFolder
from gradscape.train.state import TrainState
from gradscape.train.step import Batches, Tally, cosine, evaluate, train_step

EVAL_BATCH = 50  # activations of 50 images stay in a CPU's cache: three times faster than 1,000
PROGRESS_EVERY = 0.5  # seconds; reading the loss waits for the device

Report = Callable[[Progress], None]


class Diverged(Exception):
    """The loss stopped being a finite number."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


def train_run(
    config: RunConfig,
    folder: RunFolder,
    images: ImageSet,
    device: str = "cpu",
    report: Report = lambda progress: None,
) -> RunRecord:
    """Train one run, or go on with it, and return its record.

    A run that is done or diverged is not repeated. Killed at any time and called again, it goes on after
    its last whole epoch; on a CPU the weights and metrics are then bit-identical to an undisturbed run's.

    Args:
        config: the run.
        folder: where it is kept; made if need be.
        images: the data set that `config.data` names.
        device: `cpu`, `cuda` or `auto` (cuda where there is one).
        report: called with a `Progress` about twice a second.

    Raises:
        ConfigError: the device is not here, or `images` is another data set.
        StoreError: the folder cannot be written, holds another run, or another process is at work on it.

    Example:
        >>> folder = RunFolder(Path("runs/first"))
        >>> train_run(RunConfig(epochs=2), folder, load_images("digits")).curve("valid_accuracy")
    """
    if images.name != config.data.name:
        raise ConfigError(f"data.name: the run is on {config.data.name}, the images are {images.name}")
    place = find_device(device)
    folder.create(config)
    with folder.locked():
        if folder.status()["state"] in ENDED:
            return folder.record()
        details = environment(place) | {"attempts": folder.status().get("attempts", 0) + 1}
        try:
            details |= run(config, folder, images, place, report, details)
        except Diverged as end:
            folder.set_status("diverged", **details, epoch=end.epoch, step=end.step)
        except KeyboardInterrupt:
            folder.set_status("pending", **details)
            raise
        except Exception:
            mark_failed(folder, details)
            raise
        else:
            folder.set_status("done", **details)
        return folder.record()


def run(
    config: RunConfig,
    folder: RunFolder,
    images: ImageSet,
    device: torch.device,
    report: Report,
    details: dict[str, Any],
) -> dict[str, Any]:
    """Every epoch that is not done yet, then the test; returns what the status is to say of it."""
    data, mean_std = (
        config.data,
        STATISTICS[config.data.name if config.data.statistics == "own" else "cifar10"],
    )
    assert data.valid is not None
    assert data.crop_pad is not None
    chosen = split(images.train_labels, data.valid, data.split_seed, data.stratified)
    kept = chosen.train[: data.train]
    details |= {"split": chosen.method, "checksums": images.checksums}
    folder.set_status("running", **details)

    def held_out(images_: np.ndarray, labels: np.ndarray) -> Batches:
        return eval_batches(images_, labels, EVAL_BATCH, *mean_std, device)

    pool = DeviceImages.make(images.train_images[kept], images.train_labels[kept], data.crop_pad, device)
    valid_images, valid_labels = images.train_images[chosen.valid], images.train_labels[chosen.valid]

    state = TrainState(config, device)
    if (checkpoint := folder.load()) is not None and len(folder.epochs()) >= checkpoint.epoch:
        state.restore(checkpoint)
    folder.keep(state.epoch)

    while state.epoch < config.epochs:
        start = time.perf_counter()
        draw = epoch_draw(len(pool), config.seed, state.epoch, data.crop_pad, bool(data.flip))
        batches = train_batches(pool, draw, config.batch_size, *mean_std)
        measured = train_epoch(config, state, batches, len(pool), device, report)
        trained = time.perf_counter()
        valid_loss, valid_accuracy = evaluate(state.model, held_out(valid_images, valid_labels), device)
        if not math.isfinite(valid_loss):
            raise Diverged(state.epoch + 1, math.ceil(len(pool) / config.batch_size))
        state.finish_epoch(valid_accuracy)
        folder.append(
            EpochRecord(
                epoch=state.epoch,
                valid_loss=valid_loss,
                valid_accuracy=valid_accuracy,
                seconds=time.perf_counter() - start,
                images_per_second=len(pool) / (trained - start),
                **measured,
            )
        )
        folder.save(state.checkpoint())

    return details | {"test": test(state, held_out(images.test_images, images.test_labels), device)}


def train_epoch(
    config: RunConfig,
    state: TrainState,
    batches: Batches,
    images: int,
    device: torch.device,
    report: Report,
) -> dict[str, Any]:
    """One pass over the training images; the part of its `EpochRecord` that training knows.

    Raises:
        Diverged: with the first step whose loss is not finite, found when the epoch ends: asking after
            every step would make the device wait.
    """
    optim, epoch = config.optim, state.epoch
    assert optim.period is not None
    lr = cosine(optim.lr, optim.min_lr, optim.period, epoch)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.model.train()
    flow, tally, losses = FlowRecorder(state.model), Tally(device), []
    start = said = time.perf_counter()
    for x, y in batches:
        losses.append(train_step(state.model, state.optimizer, flow, tally, x, y))
        if (now := time.perf_counter()) - said >= PROGRESS_EVERY:
            said = now
            share, rate = tally.images / images, tally.images / (now - start)
            report(Progress(epoch + 1, config.epochs, share, *tally.means(), rate))
    finite = torch.stack(losses).isfinite()
    if not finite.all():
        raise Diverged(epoch + 1, int(finite.int().argmin()) + 1)
    loss, accuracy = tally.means()
    return {"lr": lr, "train_loss": loss, "train_accuracy": accuracy, "flow": flow.result()}


def test(state: TrainState, batches: Batches, device: torch.device) -> dict[str, dict[str, float]]:
    """Test loss and accuracy of the last and of the best-validation weights."""
    held = list(batches)

    def tested(epoch: int) -> dict[str, float]:
        loss, accuracy = evaluate(state.model, held, device)
        return {"epoch": epoch, "loss": loss, "accuracy": accuracy}

    last = tested(state.epoch)
    if state.best_epoch == state.epoch:
        return {"last": last, "best": last}
    state.model.load_state_dict(state.best_weights)
    return {"last": last, "best": tested(state.best_epoch)}


def find_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device that is here."""
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: no CUDA device is here; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def prepare_process(threads: int) -> None:
    """Set a fresh process up: its threads, and denormals flushed.

    Flushing sets the calling thread and those started later, hence before any parallel operation.
    Gradients of 1e-20 have squares of 1e-40, on which a CPU takes a hundred times as long; next to
    Adam's epsilon they are nothing.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


def environment(device: torch.device) -> dict[str, Any]:
    """Where and with what a run is executed, for its status."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gradscape": version("gradscape"),
        },
    }


def mark_failed(folder: RunFolder, details: dict[str, Any]) -> None:
    """Record the traceback where the folder can still be written; what went wrong is raised anyway."""
    try:
        folder.set_status("failed", **details, error=traceback.format_exc())
    except StoreError:
        return
