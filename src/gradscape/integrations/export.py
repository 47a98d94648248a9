"""Export of a study's run folders to a tracker, once or live; exported twice, nothing is there twice.

Each run of the study is a run of the tracker's: its configuration as parameters, a row of metrics for each
epoch, its test results, its state. The trackers are in `export_targets` and `export_trackio`.
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
from gradscape.storage.run_summary import RunSummary, StudyWatcher
from gradscape.storage.study_folder import StudyFolder


@dataclass(frozen=True)
class EpochRow:
    """Named values after an epoch, and the time when it ended, in seconds since 1970."""

    epoch: int
    time: float
    values: Mapping[str, float]


class TrackedRun(ABC):
    """One run in the tracker, open for writing.

    Attributes:
        first: Number of its epochs that the tracker has already.
    """

    first: int = 0

    @abstractmethod
    def put(self, rows: Sequence[EpochRow]) -> None:
        """Write rows, visible at once.

        Args:
            rows: Rows in the order of their epochs.
        """

    @abstractmethod
    def close(self, run: RunSummary) -> None:
        """Write the run's state and release it; it is opened again if there is more of it later.

        Args:
            run: State of the run.
        """


class Exporter(ABC):
    """A tracker and the place where it stores runs."""

    @property
    @abstractmethod
    def hint(self) -> str:
        """Command to type to look at the runs."""

    @abstractmethod
    def known(self) -> dict[str, str]:
        """Return the `describe_progress` per identity of runs that were written completely."""

    @abstractmethod
    def open(self, run: RunSummary) -> TrackedRun:
        """Begin a run, or continue it.

        Args:
            run: State of the run.
        """

    @abstractmethod
    def remember(self, known: Mapping[str, str]) -> None:
        """Store what `known` returns the next time, where the tracker does not.

        Args:
            known: `describe_progress` per identity.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the place; the runs have been closed."""


class Export:
    """Export of a study to a tracker; a context manager that closes what is open.

    Args:
        study: Folder of the study.
        exporter: Tracker to write to.

    Attributes:
        written: Identities of the runs that were written to.
        unreadable: Reason per identity why a run was left out.

    Raises:
        StoreError: There is no study, or the tracker cannot write.

    Example:
        >>> board = TensorBoardExport(Path("board"), "batchnorm")
        >>> with Export(StudyFolder(Path("runs/mine")), board) as export:
        ...     export.advance()
    """

    def __init__(self, study: StudyFolder, exporter: Exporter) -> None:
        self.study, self.exporter = study, exporter
        self.watcher = StudyWatcher(study)
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

    def advance(self, stay: bool = False) -> list[RunSummary]:
        """Write what is new.

        Args:
            stay: Keep runs that are being trained open, for the next time.

        Returns:
            The states of all runs.

        Raises:
            StoreError: The tracker cannot write.
        """
        runs = self.watcher.poll()
        new = [run for run in runs if self._is_news(run)]
        for run in new:
            try:
                self._write(run, stay and run.state == "running")
            except _Unreadable as error:
                self.unreadable[run.identity] = str(error)
            # An unreadable one is not tried again until it changes.
            self.known[run.identity] = describe_progress(run)
        if new:
            closed = self.known.keys() - self.open.keys() - self.unreadable.keys()
            with _refusals():
                self.exporter.remember({name: self.known[name] for name in sorted(closed)})
        return runs

    def _is_news(self, run: RunSummary) -> bool:
        known = self.known.get(run.identity)
        return run.has_begun if known is None else known != describe_progress(run)

    def _write(self, run: RunSummary, stay: bool) -> None:
        if run.config is None:
            raise _Unreadable(run.reason)
        opened = self.open.get(run.identity)
        # Read before anything is opened: opening may throw away what is there.
        epochs, flow, test = _read(self.study.run(run.identity), run.over, opened.epochs if opened else 0)
        with _refusals():
            if opened is None:
                tracked = self.exporter.open(run)
                opened = _Opened(tracked, run, tracked.first)
                epochs = epochs[tracked.first :]
            end = run.last_update or 0.0
            opened.tracked.put([*epoch_rows(epochs, flow, end), *result_rows(test, end)])
            self.written.add(run.identity)
            self.unreadable.pop(run.identity, None)
            self.open[run.identity] = _Opened(opened.tracked, run, opened.epochs + len(epochs))
            if not stay:
                del self.open[run.identity]
                opened.tracked.close(run)


@dataclass(frozen=True)
class _Opened:
    """An open run, its state when it was written, and the number of its epochs that are written."""

    tracked: TrackedRun
    run: RunSummary
    epochs: int


class _Unreadable(Exception):
    """A run's folder is damaged."""


def describe_progress(run: RunSummary) -> str:
    """Return what there is to export of a run, such as `done 100`.

    Args:
        run: State of the run.
    """
    return f"{run.state} {run.epoch}"


def _read(
    folder: RunFolder, over: bool, after: int
) -> tuple[list[EpochRecord], FlowHistory | None, Mapping[str, Any]]:
    """Return the epochs after the first `after`, their gradients, and the results if the run is over."""
    try:
        # In this order: an epoch's gradients are written before the epoch.
        epochs = folder.epochs(after)
        # One that has ended since it was looked at is exported once more: its results would be there twice.
        test = folder.status().get("test", {}) if over else {}
        return epochs, folder.flow(after) if epochs else None, test
    except StoreError as error:
        raise _Unreadable(error) from error


def epoch_rows(epochs: Sequence[EpochRecord], flow: FlowHistory | None, end: float) -> list[EpochRow]:
    """Return a row for each epoch, timed back from the end of the last one.

    Args:
        epochs: Records of consecutive epochs.
        flow: Their gradients; None if there are none.
        end: Time when the last one ended, in seconds since 1970.
    """
    rows = []
    for epoch in reversed(epochs):
        rows.append(EpochRow(epoch.epoch, end, epoch_values(epoch) | gradient_values(flow, epoch.epoch)))
        end -= epoch.seconds
    return rows[::-1]


def epoch_values(epoch: EpochRecord) -> dict[str, float]:
    """Return an epoch's numbers by name.

    Args:
        epoch: Record of an epoch.
    """
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
            numbers = [getattr(measure, name) for measure in epoch.smoothness if measure.along == along]
            if finite := [value for value in numbers if math.isfinite(value)]:
                values[f"smoothness/{along}/{name}"] = fmean(finite)
    return values


def gradient_values(flow: FlowHistory | None, epoch: int) -> dict[str, float]:
    """Return the first, the last and the smallest of the layers' mean gradients in an epoch, by name.

    Args:
        flow: Gradients of consecutive epochs; None if there are none.
        epoch: Number of the epoch.
    """
    if flow is None:
        return {}
    sizes = flow.mean_abs[epoch - flow.steps[0], flow.weights].tolist()
    return {
        "gradient/first_layer": sizes[0],
        "gradient/last_layer": sizes[-1],
        "gradient/smallest": min(sizes),
    }


def result_rows(test: Mapping[str, Mapping[str, float]], end: float) -> list[EpochRow]:
    """Return rows of the test results, at the epochs whose weights were tested.

    Args:
        test: Epoch, loss and accuracy per set of weights, as in `status.json`.
        end: Time of the rows, in seconds since 1970.
    """
    return [
        EpochRow(
            int(result["epoch"]), end, {f"test/{which}/{name}": result[name] for name in ("loss", "accuracy")}
        )
        for which, result in sorted(test.items(), key=lambda item: item[1]["epoch"])
    ]


def parameters(config: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Flatten nested values under dotted names, such as `optim.lr`; those that are not set are left out.

    Args:
        config: Plain values of a configuration.
        section: Prefix of the names.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        here = section + name
        if isinstance(value, Mapping):
            flat |= parameters(value, f"{here}.")
        elif value is not None:
            flat[here] = value
    return flat


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a tracker's errors into one line: a full disk, a database of another version."""
    try:
        yield
    except GradscapeError:
        raise
    except Exception as error:
        raise StoreError(f"--into: cannot write: {in_one_line(error)}; give another place") from error
