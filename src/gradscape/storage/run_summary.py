"""How a study's runs stand, from a few kilobytes of each: for who looks again and again.

`StudyFolder.record` reads the gradients of every layer too; of a thousand runs that is gigabytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gradscape._text import strip_controls
from gradscape.errors import StoreError
from gradscape.storage.files import there
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder

STATES = ("pending", "running", "done", "diverged", "failed", "stopped")
OVER = ("done", "diverged", "failed", "stopped")  # nothing more comes, unless a command is given again
Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _EpochNumbers:
    """What a `RunSummary` needs of an `EpochRecord`."""

    epoch: int
    train_accuracy: float
    valid_accuracy: float
    seconds: float


@dataclass(frozen=True)
class RunSummary:
    """A run at a glance; None for what is not known.

    Attributes:
        identity: the name of its folder.
        state: `pending`, `running`, `done`, `diverged`, `failed` or `stopped` (early, on request).
        config: as plain nested values.
        epoch: epochs finished.
        epochs: epochs asked for.
        best_valid_accuracy, best_epoch: the highest, and the first epoch that reached it.
        train_accuracy: of the last epoch.
        epoch_seconds: mean wall time of an epoch.
        attempts: how often it was begun.
        host, device: where it was last at work.
        heard: when it last wrote, in seconds since 1970.
        reason: why it failed, stopped or diverged, is computed otherwise than asked, or cannot be read, in
            one line; or empty.
    """

    identity: str
    state: str = "pending"
    config: Mapping[str, Any] | None = None
    epoch: int = 0
    epochs: int | None = None
    best_valid_accuracy: float | None = None
    best_epoch: int | None = None
    train_accuracy: float | None = None
    epoch_seconds: float | None = None
    attempts: int = 0
    host: str | None = None
    device: str | None = None
    heard: float | None = None
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER


class StudyWatcher:
    """The runs of a study, looked at again without reading what has not changed.

    Example:
        >>> [run.state for run in StudyWatcher(StudyFolder(Path("runs/batchnorm-quick-digits"))).poll()]
    """

    def __init__(self, study: StudyFolder) -> None:
        self.study = study
        self.known: dict[str, tuple[Stamp, RunSummary]] = {}

    def asked(self) -> dict[str, Any]:
        """`study.json`.

        Raises:
            StoreError: there is none, it is damaged, or written by a newer gradscape.
        """
        found = self.study.asked()
        if found is None:
            raise self.study.absent()
        return found

    def poll(self) -> list[RunSummary]:
        """Every run that was asked for, in the order of the study.

        Raises:
            StoreError: no study here, or its `study.json` is damaged or newer.
        """
        return [self.one(name) for name in self.study.identities()]

    def one(self, identity: str) -> RunSummary:
        folder = self.study.run(identity)
        # Looked at before it is read: what is written meanwhile is read again the next time.
        files = (folder.path / "config.json", folder.path / "status.json", folder.metrics)
        stamp = tuple(map(_stamp_of, files))
        before, found = self.known.get(identity, (None, None))
        if found is None or before != stamp or not any(stamp):
            found = _summarize(self.study, identity, stamp)
            self.known[identity] = (stamp, found)
        # A killed run still says that it is running.
        killed = found.state == "running" and not folder.held()
        return replace(found, state="pending") if killed else found


def _stamp_of(path: Path) -> tuple[int, int] | None:
    """When a file was last changed, in nanoseconds since 1970, and its size."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _summarize(study: StudyFolder, identity: str, stamp: Stamp) -> RunSummary:
    """Read what a run's row needs; what cannot be read is said in its reason."""
    found = RunSummary(identity, heard=max((s[0] / 1e9 for s in stamp if s), default=None))
    try:
        folder = study.run(identity)
        if not there(folder.path / "config.json"):
            return found
        config, status = folder.plain_config(identity), folder.status(identity)
        found = replace(found, config=config, epochs=config["epochs"], **_status_fields(status))
    except StoreError as error:  # nobody can go on with it
        return replace(found, state="failed", reason=strip_controls(str(error)))
    try:
        return replace(found, **_epoch_fields(folder, status, config["epochs"]))
    except StoreError as error:
        return replace(found, reason=strip_controls(str(error)))


def _status_fields(status: Mapping[str, Any]) -> dict[str, Any]:
    """What `status.json` says of a `RunSummary`."""
    names = ("state", "attempts", "host", "device")
    said = {name: status[name] for name in names if name in status} | {"reason": _reason(status)}
    return {name: strip_controls(value) if isinstance(value, str) else value for name, value in said.items()}


def _reason(status: Mapping[str, Any]) -> str:
    """In one line why a run ended otherwise than done, or is computed otherwise than asked."""
    if status["state"] == "failed":
        lines = str(status.get("error", "")).strip().splitlines()
        return lines[-1].strip() if lines else ""
    if status["state"] == "diverged":
        place = [f"{unit} {status[unit]}" for unit in ("epoch", "step") if unit in status]
        return " in ".join(filter(None, ("the loss was not finite", ", ".join(place))))
    said = status.get("reason" if status["state"] == "stopped" else "fallback") or ""
    return " ".join(str(said).split())


def _epoch_fields(folder: RunFolder, status: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """What `metrics.jsonl` says of a `RunSummary`.

    Raises:
        StoreError: a line is damaged, or of another run, or one of a done run is missing.
    """
    records = folder.epochs_as(_EpochNumbers)
    if status["state"] == "done" and len(records) != epochs:
        held = f"{len(records)} of {epochs} epochs"
        raise StoreError(f"{folder.metrics} is damaged: it holds {held}; {folder.repeat}")
    if not records:
        return {}
    best = max(records, key=lambda record: record.valid_accuracy)  # the first of several
    return {
        "epoch": len(records),
        "train_accuracy": records[-1].train_accuracy,
        "best_valid_accuracy": best.valid_accuracy,
        "best_epoch": best.epoch,
        "epoch_seconds": fmean(record.seconds for record in records),
    }
