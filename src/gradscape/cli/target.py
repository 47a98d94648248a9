"""What a command measures: the network of a trained run or of a user's factory, and images it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gradscape._machine import cores
from gradscape._text import counted
from gradscape.cli.images import ImageSource
from gradscape.cli.import_object import load_factory
from gradscape.config.options import checked_path
from gradscape.config.run import RunConfig
from gradscape.data import STATISTICS, ImageSet, load_images, split
from gradscape.data.device_batches import eval_batches
from gradscape.errors import ConfigError, StoreError
from gradscape.measure.core.batch import Loss
from gradscape.measure.signal.signal import call_factory
from gradscape.storage.files import there
from gradscape.storage.run_folder import ENDED, RunFolder
from gradscape.storage.tensors import epoch_of
from gradscape.train.process import find_device, prepare_process
from gradscape.train.state import TrainState, section


def batches_of(
    source: ImageSource,
    images: ImageSet,
    chosen: Any,
    usual: int,
    device: torch.device,
    config: RunConfig | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """The first of the chosen training images as mini-batches, normalised as in the run.

    Raises:
        ConfigError: there are fewer.
    """
    pixels, labels = images.train_images[chosen], images.train_labels[chosen]
    count = min(usual, len(labels)) if source.images is None else source.images
    if len(labels) < count:
        raise ConfigError(f"--images: {count} of {len(labels)}; give {len(labels)} at most")
    size = source.batch_size or (config.batch_size if config else count)
    statistics = config.data.normalised_as if config else images.name
    kept = pixels[:count], labels[:count]
    return list(eval_batches(*kept, size, *STATISTICS[statistics], device))


def load_named(source: ImageSource, name: str) -> ImageSet:
    return load_images(name, source.data_root, download=source.download, mirrors=source.mirrors or None)


@dataclass(frozen=True)
class Subject:
    """A network at its parameters, images, and for a trained run its optimiser.

    Attributes:
        name: of the run or the factory.
        model: in train mode.
        batches: (x, y) each, normalised, not augmented.
        optimizer: with its state and the learning rate of the last epoch; None for a factory.
        loss: of a classifier.
        path: epoch → weights that the run kept after it.
    """

    name: str
    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    optimizer: Optimizer | None
    loss: Loss = cross_entropy
    path: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


def subject(target: str, source: ImageSource, usual: int, statistics: bool) -> Subject:
    """The network and images that a command line names; all cores at work.

    Args:
        target: a run's folder or a factory.
        source: of the images.
        usual: how many of them by default.
        statistics: whether BatchNorm takes those of each mini-batch. Where it does not, samples do not act
            together: fewer and larger mini-batches are quicker.
    """
    if target.startswith("~") or not target.strip():
        target = str(checked_path(target, "RUN"))
    if source.batch_size is None and not statistics:
        source = replace(source, batch_size=source.images or usual)
    prepare_process(cores())
    return subject_of(target, source, usual)


def subject_of(target: str, source: ImageSource, usual: int) -> Subject:
    """A run's folder, or FILE.py:FACTORY on a named data set.

    Args:
        target: of either.
        source: of its images; a run has its own data set.
        usual: how many images where the source does not say, or as many as there are.

    Raises:
        ConfigError: it is neither, has no checkpoint yet, or has fewer images.
    """
    folder, place = Path(target), find_device(source.device)
    if there(folder / "config.json"):
        return of_run(RunFolder(folder), source, usual, place)
    if there(folder / "study.json"):
        runs = sorted(path.name for path in (folder / "runs").glob("*"))
        example = f", as {folder}/runs/{runs[0]}" if runs else ""
        raise ConfigError(f"{target} is a study's folder; give one of its runs{example}")
    if ":" not in target:
        raise ConfigError(f"{target} is no run's folder, and no factory as FILE.py:FACTORY; give either")
    torch.manual_seed(0)
    model = call_factory(load_factory(target)).to(place)
    images = load_named(source, source.data)
    return Subject(target, model, batches_of(source, images, slice(None), usual, place), None)


def of_run(folder: RunFolder, source: ImageSource, usual: int, device: torch.device) -> Subject:
    """The last epoch's network, on the first of the images that it was trained on."""
    config: RunConfig = folder.config()
    checkpoint = folder.load()
    if checkpoint is None:
        raise ConfigError(f"{folder.path} has no checkpoint yet: let the run finish an epoch first")
    epochs = folder.epochs()
    ended = folder.status()["state"] in (*ENDED, "stopped")
    newest = len(epochs) if ended else epoch_of(folder.checkpoint_files()[0])
    if checkpoint.epoch != newest or newest > len(epochs):
        raise StoreError(
            f"{folder.path} is damaged: its last whole checkpoint is of epoch {checkpoint.epoch}, "
            f"not {newest}; "
            f"its metrics have {counted(len(epochs), 'epoch')}; {folder.repeat}"
        )
    state = TrainState(config, device)
    state.restore(checkpoint)
    state.set_lr(epochs[checkpoint.epoch - 1].lr)
    data, images = config.data, load_named(source, config.data.name)
    assert data.valid is not None
    chosen = split(images.train_labels, data.valid, data.split_seed, data.stratified).train[: data.train]
    batches = batches_of(source, images, chosen, usual, device, config)
    path = {epoch: section(arrays, "") for epoch, arrays in folder.kept_weights().items()}
    return Subject(folder.path.name, state.model, batches, state.optimizer, path=path)
