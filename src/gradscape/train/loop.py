"""The training loop: build, go on where it stopped, step, measure, store, test."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from gradscape.config.arguments import typed
from gradscape.config.run import RunConfig
from gradscape.data import ImageSet
from gradscape.errors import Busy, ConfigError, StoreError
from gradscape.records.run import Progress, RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.train.attempt import Attempt
from gradscape.train.cuda_graph import advance
from gradscape.train.epoch import train_epoch, train_epochs
from gradscape.train.measurements import ProgressCallback
from gradscape.train.packed_step import PackedStep
from gradscape.train.precision import Arithmetic, decide
from gradscape.train.process import compute_on, find_device, keep_threads, same_threads
from gradscape.train.seeding import own_draws
from gradscape.train.step import TrainStep

PackReport = Callable[[Mapping[str, Progress | str]], None]
PackEnded = Callable[[str, RunRecord | Exception | None], None]


def _only_warn(progress: Progress | str) -> None:
    """Warn a caller without a `report` of a norm that normalizes nothing, and pass over the rest."""
    if isinstance(progress, str) and progress.startswith("net.norm"):
        warnings.warn(progress, stacklevel=4)  # where `train_run` was called


@typed()
def train_run(
    config: RunConfig,
    folder: RunFolder | str | Path,
    images: ImageSet,
    device: str = "cpu",
    report: ProgressCallback = _only_warn,
    arithmetic: Arithmetic | None = None,
    stop_hopeless: bool = False,
    leave_stopped: bool = False,
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
        stop_hopeless: End the run early if `hopeless` finds it so; a later call goes on.
        leave_stopped: Leave a run that was stopped early as it is, whoever stopped it.

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
        if folder.has_ended(leave_stopped):
            return folder.record()
        run = Attempt(config, folder, images, place, how, report, stop_hopeless)
        keep_threads(run.threads, report)
        if arithmetic is None:
            for news in filter(None, (config.net.unnormalized, run.how.fallback, run.how.fusing)):
                report(news)
        if run.packed:
            _train_pack([run], lambda told: report(told[config.identity]), _raise)
        else:
            _train(run)
        return folder.record()


def _raise(name: str, end: RunRecord | Exception | None) -> None:
    if isinstance(end, Exception):
        raise end


def _train(run: Attempt) -> None:
    """Train a run to its end."""
    with run.recorded(), compute_on(run.device, run.how.precision):
        run.begin()
        step = TrainStep(run.state, run.pool, *run.mean_std, run.how)
        take = advance(step)
        while run.left:
            with own_draws(run.config, run.state.epoch):
                trained = train_epoch(run.config, step, take, run.draw(), run.report)
            run.finish_epoch(trained)
        run.end()


def train_together(
    runs: Sequence[tuple[RunConfig, RunFolder]],
    images: ImageSet,
    report: PackReport,
    ended: PackEnded,
    stop_hopeless: bool = False,
    leave_stopped: bool = False,
) -> None:
    """Train runs of one network, data set and batch size together on a CPU, as one network.

    Each run has its own folder, status, optimizer and end, and goes on as after `train_run`: its numbers are
    bit-identical whichever runs are with it and however often it is interrupted, but not those of the run
    alone. A run that was begun alone goes on alone.

    Args:
        runs: Configuration and folder of each run, for which `packable` holds.
        images: Data set of the runs.
        report: Function called about twice a second with a `Progress` per run's identity, and with a sentence
            of one where there is news.
        ended: Function called with a run's identity when it has ended: with its record, with the error that
            it failed with, or with None if another process is at work on it. What it raises ends the others.
        stop_hopeless, leave_stopped: See `train_run`.
    """
    cpu, together = torch.device("cpu"), defaultdict[tuple[bool, int], list[Attempt]](list)
    with ExitStack() as locks, same_threads():
        for config, folder in runs:
            name = config.identity
            if not _locked(name, config, folder, locks, ended, leave_stopped):
                continue
            tell = partial(_tell, report, name)
            run = Attempt(config, folder, images, cpu, Arithmetic("fp32"), tell, stop_hopeless, packed=True)
            together[run.packed, run.threads].append(run)
        for (packed, threads), alike in together.items():
            keep_threads(threads, alike[0].report)
            if packed:
                _train_pack(alike, report, ended)
                continue
            for run in alike:
                _apart(run, partial(_train, run), ended)


def _tell(report: PackReport, name: str, told: Progress | str) -> None:
    report({name: told})


def _locked(
    name: str, config: RunConfig, folder: RunFolder, locks: ExitStack, ended: PackEnded, leave_stopped: bool
) -> bool:
    """Lock the folder of a run of a pack; return False, and say it, if the run has ended or cannot begin."""
    try:
        if folder.held():
            ended(name, None)
            return False
        folder.create(config)
        locks.enter_context(folder.locked())
        if folder.has_ended(leave_stopped):
            ended(name, folder.record())
            return False
    except StoreError as error:
        ended(name, None if isinstance(error, Busy) else error)
        return False
    return True


def _train_pack(runs: Sequence[Attempt], report: PackReport, ended: PackEnded) -> None:
    """Train runs to their ends, those with epochs left as one network; a run that fails leaves the others."""
    step: PackedStep | None = None
    with ExitStack() as pack:  # an error of the common step is every run's, Ctrl-C too
        for run in runs:
            pack.enter_context(run.recorded())
        for run in runs:
            _apart(run, run.begin, ended)
        _end(runs, ended)
        while left := [run for run in runs if run.left]:
            configs, states = [run.config for run in left], [run.state for run in left]
            if step is None or states != step.states:
                step = PackedStep(states, left[0].pool, *left[0].mean_std)
            trained = train_epochs(configs, step, [run.draw() for run in left], report)
            for run, epoch in zip(left, trained, strict=True):
                _apart(run, partial(run.finish_epoch, epoch), ended)
            _end(left, ended)


def _end(runs: Sequence[Attempt], ended: PackEnded) -> None:
    """Test the runs that have no epoch left."""
    for run in runs:
        if not run.left and not run.ended:
            _apart(run, run.end, ended)


def _apart(run: Attempt, work: Callable[[], None], ended: PackEnded) -> None:
    """Do what is one run's own affair, and tell its end; an error of it is not the others'."""
    try:
        with run.recorded():
            work()
    except Exception as error:
        ended(run.config.identity, error)
    else:
        if run.ended:
            ended(run.config.identity, run.folder.record())
