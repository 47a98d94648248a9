"""Target of a measuring command: the network of a trained run or of a user's factory, and its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gradscape._machine import default_threads
from gradscape._text import count_noun
from gradscape.cli.images import ImageSource
from gradscape.cli.import_object import load_factory
from gradscape.config.options import checked_path
from gradscape.config.run import RunConfig
from gradscape.data import STATISTICS, ImageSet, load_images, split
from gradscape.data.device_batches import eval_batches
from gradscape.errors import ConfigError, StoreError, brief
from gradscape.measure.core.batch import Loss
from gradscape.measure.signal.signal import call_factory
from gradscape.storage.checkpoint import epoch_of
from gradscape.storage.files import there
from gradscape.storage.run_folder import ENDED, RunFolder
from gradscape.train.process import find_device, prepare_process
from gradscape.train.state import TrainState, section


def _batches_of(
    source: ImageSource,
    images: ImageSet,
    chosen: Any,
    usual: int,
    device: torch.device,
    config: RunConfig | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Return the first of the chosen training images as mini-batches, normalized as in the run.

    Raises:
        ConfigError: There are fewer.
    """
    pixels, labels = images.train_images[chosen], images.train_labels[chosen]
    count = min(usual, len(labels)) if source.images is None else source.images
    if len(labels) < count:
        raise ConfigError(f"--images: expected at most {len(labels)}, which the run has; got {count}")
    size = source.batch_size or (config.batch_size if config else count)
    statistics = config.data.normalized_as if config else images.name
    first = pixels[:count], labels[:count]
    return list(eval_batches(*first, size, *STATISTICS[statistics], device))


def _load_named(source: ImageSource, name: str) -> ImageSet:
    return load_images(name, source.data_root, download=source.download, mirrors=source.mirrors or None)


@dataclass(frozen=True)
class Target:
    """A network at its parameters, images, and for a trained run its optimizer.

    Attributes:
        name: Name of the run, or text of the factory.
        model: Network in train mode.
        batches: Pairs of images (N, C, H, W) and labels (N,), normalized, not augmented.
        optimizer: Optimizer with its state and the learning rate of the last epoch; None for a factory.
        loss: Loss of a classifier.
        path: Weights that the run kept, per epoch.
    """

    name: str
    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    optimizer: Optimizer | None
    loss: Loss = cross_entropy
    path: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


def load_target(text: str, source: ImageSource, usual: int, statistics: bool) -> Target:
    """Return the network and images that a command line names, and put all cores to work.

    Args:
        text: Path of a run's folder, or FILE.py:FACTORY.
        source: Number and place of the images.
        usual: Number of images by default, or as many as there are.
        statistics: True if BatchNorm takes the statistics of each mini-batch. If not, samples do not act
            together: fewer and larger mini-batches are quicker.

    Raises:
        ConfigError: The text names neither a run nor a factory, the run has no checkpoint yet, or there are
            fewer images than asked for.
    """
    if text.startswith("~") or not text.strip():
        text = str(checked_path(text, "RUN"))
    if source.batch_size is None and not statistics:
        source = replace(source, batch_size=source.images or usual)
    prepare_process(default_threads())
    return _target_of(text, source, usual)


def _target_of(text: str, source: ImageSource, usual: int) -> Target:
    """Return the target of a run's folder, or of a factory on a named data set."""
    folder, place = Path(text), find_device(source.device)
    if there(folder / "config.json"):
        return _of_run(RunFolder(folder), source, usual, place)
    if there(folder / "study.json"):
        runs = sorted(path.name for path in (folder / "runs").glob("*"))
        example = f", as {folder}/runs/{runs[0]}" if runs else ""
        raise ConfigError(
            f"RUN: expected a run's folder; got {text}, a study's; give one of its runs{example}"
        )
    if ":" not in text:
        raise ConfigError(f"RUN: expected a run's folder, or a factory as FILE.py:FACTORY; got {brief(text)}")
    torch.manual_seed(0)
    model = call_factory(load_factory(text)).to(place)
    images = _load_named(source, source.data)
    return Target(text, model, _batches_of(source, images, slice(None), usual, place), None)


def _of_run(folder: RunFolder, source: ImageSource, usual: int, device: torch.device) -> Target:
    """Return the last epoch's network, with the first of the images that it was trained on."""
    config: RunConfig = folder.config()
    checkpoint = folder.load()
    if checkpoint is None:
        raise ConfigError(
            f"RUN: expected a run with an epoch; got {folder.path}, which has no checkpoint yet"
        )
    epochs = folder.epochs()
    ended = folder.status()["state"] in (*ENDED, "stopped")
    newest = len(epochs) if ended else epoch_of(folder.checkpoint_files()[0])
    if checkpoint.epoch != newest or newest > len(epochs):
        raise StoreError(
            f"{folder.path} is damaged: its last whole checkpoint is of epoch {checkpoint.epoch}, "
            f"not {newest}; "
            f"its metrics have {count_noun(len(epochs), 'epoch')}; {folder.repeat}"
        )
    state = TrainState(config, device)
    state.restore(checkpoint)
    state.set_lr(epochs[checkpoint.epoch - 1].lr)
    data = config.data
    images = _load_named(source, data.name).averaged(data.size)
    assert data.valid is not None
    chosen = split(images.train_labels, data.valid, data.split_seed, data.stratified).train[: data.train]
    batches = _batches_of(source, images, chosen, usual, device, config)
    path = {epoch: section(arrays, "") for epoch, arrays in folder.kept_weights().items()}
    return Target(folder.path.name, state.model, batches, state.optimizer, path=path)
