"""A study's run folders handed on to a tracker: all there is, or live; given twice, nothing is there twice.

Each run of the study is a run of the tracker's: its configuration as parameters, a row of metrics for each
epoch, its test results, how it stands. What goes where is in `exporters`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from gradscape.errors import GradscapeError, StoreError
from gradscape.integrations.sink import in_one_line
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import EpochRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import Glance, Glances
from gradscape.storage.study_folder import StudyFolder


@dataclass(frozen=True)
class EpochRow:
    """Named values after an epoch, and when that ended, in seconds since 1970."""

    epoch: int
    time: float
    values: Mapping[str, float]


class TrackedRun(ABC):
    """One run in the tracker, open for writing.

    Attributes:
        first: how many epochs of it are there already.
    """

    first: int = 0

    @abstractmethod
    def put(self, rows: Sequence[EpochRow]) -> None:
        """Write rows, so that who looks now sees them."""

    @abstractmethod
    def close(self, run: Glance) -> None:
        """Say how the run stands and let go of it; it is opened again if there is more of it later."""


class Exporter(ABC):
    """A tracker and the place that it keeps its runs in."""

    @property
    @abstractmethod
    def hint(self) -> str:
        """What to type to look at them."""

    @abstractmethod
    def known(self) -> dict[str, str]:
        """Identity → the `standing` that is there, of runs of which all was written."""

    @abstractmethod
    def open(self, run: Glance) -> TrackedRun:
        """Begin a run, or go on with it."""

    @abstractmethod
    def remember(self, known: Mapping[str, str]) -> None:
        """Keep what `known` is to say the next time, where the tracker cannot say it itself."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the place; the runs have been closed."""


class Export:
    """A study on its way to a tracker; a context manager that closes what is open.

    Args:
        study: its folder.
        exporter: where to.

    Attributes:
        written: identities of the runs of which something was written.
        unreadable: identity → why a run was left out.

    Raises:
        StoreError: no study here, or the tracker cannot write.

    Example:
        >>> board = TensorBoardExport(Path("board"), "batchnorm")
        >>> with Export(StudyFolder(Path("runs/mine")), board) as export:
        ...     export.advance()
    """

    def __init__(self, study: StudyFolder, exporter: Exporter) -> None:
        self.study, self.exporter = study, exporter
        self.glances = Glances(study)
        self.open: dict[str, _Opened] = {}
        self.written: set[str] = set()
        self.unreadable: dict[str, str] = {}
        with _refusals():
            self.known = exporter.known()

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        with _refusals():
            for opened in self.open.values():
                opened.tracked.close(opened.run)
            self.exporter.close()

    def advance(self, stay: bool = False) -> list[Glance]:
        """Write what is new; returns how the runs stand.

        Args:
            stay: keep runs that are at work open, for the next time.

        Raises:
            StoreError: the tracker cannot write.
        """
        found = self.glances.look()
        new = [run for run in found if standing(run) != self.known.get(run.identity, "pending 0")]
        for run in new:
            try:
                self.write(run, stay and run.state == "running")
            except _Unreadable as error:
                self.unreadable[run.identity] = str(error)
            self.known[run.identity] = standing(run)  # an unreadable one is not tried again until it changes
        if new:
            closed = self.known.keys() - self.open.keys() - self.unreadable.keys()
            with _refusals():
                self.exporter.remember({name: self.known[name] for name in sorted(closed)})
        return found

    def write(self, run: Glance, stay: bool) -> None:
        if run.config is None:
            raise _Unreadable(run.reason)
        opened = self.open.get(run.identity)
        # Read before anything is opened: opening may throw away what is there.
        epochs, flow, test = _read(self.study.run(run.identity), opened.epochs if opened else 0)
        with _refusals():
            if opened is None:
                tracked = self.exporter.open(run)
                opened = _Opened(tracked, run, tracked.first)
                epochs = epochs[tracked.first :]
            heard = run.heard or 0.0
            opened.tracked.put([*epoch_rows(epochs, flow, heard), *result_rows(test, heard)])
            self.written.add(run.identity)
            self.unreadable.pop(run.identity, None)
            self.open[run.identity] = _Opened(opened.tracked, run, opened.epochs + len(epochs))
            if not stay:
                del self.open[run.identity]
                opened.tracked.close(run)


@dataclass(frozen=True)
class _Opened:
    """A run that is open, as it stood, and how many of its epochs are written."""

    tracked: TrackedRun
    run: Glance
    epochs: int


class _Unreadable(Exception):
    """A run's folder is damaged."""


def standing(run: Glance) -> str:
    """What there is to export of a run, such as `done 100`; `pending 0` for nothing."""
    return f"{run.state} {run.epoch}"


def _read(folder: RunFolder, after: int) -> tuple[list[EpochRecord], FlowHistory | None, Mapping[str, Any]]:
    """The epochs after so many, their gradients, and the test results."""
    try:
        # In this order: of an epoch that is written meanwhile the gradients come first.
        epochs, test = folder.epochs(after), folder.status().get("test", {})
        return epochs, folder.flow(after) if epochs else None, test
    except StoreError as error:
        raise _Unreadable(error) from error


def epoch_rows(epochs: Sequence[EpochRecord], flow: FlowHistory | None, end: float) -> list[EpochRow]:
    """A row for each epoch; the last one ended then, and each before it as much earlier as they took."""
    rows = []
    for epoch in reversed(epochs):
        rows.append(EpochRow(epoch.epoch, end, epoch_values(epoch) | gradient_values(flow, epoch.epoch)))
        end -= epoch.seconds
    return rows[::-1]


def epoch_values(epoch: EpochRecord) -> dict[str, float]:
    """An epoch's numbers by name."""
    values = {
        "train/loss": epoch.train_loss,
        "train/accuracy": epoch.train_accuracy,
        "valid/loss": epoch.valid_loss,
        "valid/accuracy": epoch.valid_accuracy,
        "lr": epoch.lr,
        "seconds": epoch.seconds,
        "images_per_second": epoch.images_per_second,
    }
    for along in dict.fromkeys(measure.along for measure in epoch.smoothness):
        for name in ("beta", "lipschitz"):
            found = [getattr(measure, name) for measure in epoch.smoothness if measure.along == along]
            if finite := [value for value in found if math.isfinite(value)]:
                values[f"smoothness/{along}/{name}"] = fmean(finite)
    return values


def gradient_values(flow: FlowHistory | None, epoch: int) -> dict[str, float]:
    """Of the layers' mean gradients in an epoch the first, the last and the smallest, by name."""
    if flow is None:
        return {}
    sizes = flow.mean_abs[epoch - flow.steps[0], flow.weights].tolist()
    return {
        "gradient/first_layer": sizes[0],
        "gradient/last_layer": sizes[-1],
        "gradient/smallest": min(sizes),
    }


def result_rows(test: Mapping[str, Mapping[str, float]], end: float) -> list[EpochRow]:
    """The test results, at the epochs whose weights they are of."""
    return [
        EpochRow(
            int(found["epoch"]), end, {f"test/{which}/{name}": found[name] for name in ("loss", "accuracy")}
        )
        for which, found in sorted(test.items(), key=lambda item: item[1]["epoch"])
    ]


def parameters(config: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Nested values under one name each, such as `optim.lr`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        here = section + name
        flat |= parameters(value, f"{here}.") if isinstance(value, Mapping) else {here: value}
    return flat


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what a tracker raises into the one line users get: a full disk, a database of another version."""
    try:
        yield
    except GradscapeError:
        raise
    except Exception as error:
        raise StoreError(f"--into: cannot be written: {in_one_line(error)}; give another place") from error
