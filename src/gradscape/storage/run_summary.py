"""Summaries of a study's runs, from a few kilobytes of each, which are cheap to read again and again.

`StudyFolder.record` reads the gradients of every layer too; of a thousand runs that is gigabytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from sys import intern
from typing import Any

from gradscape._text import strip_controls
from gradscape.errors import StoreError
from gradscape.records.role import roles_by_run
from gradscape.storage.files import there
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder

STATES = ("pending", "running", "interrupted", "done", "diverged", "failed", "stopped")
OVER = ("done", "diverged", "failed", "stopped")  # nothing more comes, unless a command is given again
GONE = "its process has ended without a word: killed, or the machine was switched off"
CURVE = 40  # values of a small curve
Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _EpochNumbers:
    """Part of an `EpochRecord` that a `RunSummary` needs."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_accuracy: float
    seconds: float


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run; None for a value that is not known.

    Attributes:
        identity: Name of its folder.
        state: `pending`, `running`, `interrupted` (by a signal, or its process is no more; the same command
            goes on with it), `done`, `diverged`, `failed` or `stopped` (early, on request).
        config: Configuration in plain nested values.
        epoch: Number of epochs finished.
        epochs: Number of epochs planned.
        best_valid_accuracy, best_epoch: Highest validation accuracy, and the first epoch that reached it.
        train_accuracy: Training accuracy of the last epoch.
        losses: Training losses of some epochs, in order, and of the last: as many as a small curve needs.
        epoch_seconds: Mean wall time of an epoch; of runs that are trained together, an equal share of it.
        attempts: Number of times that it was begun.
        host, device: Names of the last machine and device that it ran on.
        phase: What it is at, such as `training` or `landscape`; None where that is not known.
        pack: Process in which it is trained together with others; None if it is trained alone.
        beside: Number of running runs of that process, this one among them.
        last_update: Time of its last writing, in seconds since 1970.
        verdict, grade: Verdict of the diagnosis of a run that has ended, and its grade.
        reason: Line on why it failed, stopped, diverged or was interrupted, is not computed as planned, or
            cannot be read; or empty.
        is_damaged: True if one of its files cannot be read.
        roles: Names of the study's roles that it is for.
    """

    identity: str
    state: str = "pending"
    config: Mapping[str, Any] | None = None
    epoch: int = 0
    epochs: int | None = None
    best_valid_accuracy: float | None = None
    best_epoch: int | None = None
    train_accuracy: float | None = None
    losses: tuple[float, ...] = ()
    epoch_seconds: float | None = None
    attempts: int = 0
    host: str | None = None
    device: str | None = None
    phase: str | None = None
    pack: int | None = None
    beside: int = 1
    last_update: float | None = None
    verdict: str | None = None
    grade: str | None = None
    reason: str = ""
    is_damaged: bool = False
    roles: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """True if nothing more comes, unless a command is given again."""
        return self.state in OVER

    @property
    def has_begun(self) -> bool:
        """True if there is something of it: an epoch, or a process at work, or an end."""
        return self.epoch > 0 or self.state not in ("pending", "interrupted")

    @property
    def share(self) -> float | None:
        """Share of its epochs that are finished, 0 to 1; None if that is not known."""
        return self.epoch / self.epochs if self.epochs else None

    @property
    def own_seconds_left(self) -> float | None:
        """Seconds of its own work that are left, if epochs last as long as before; None if not known."""
        if self.epochs is None or self.epoch_seconds is None:
            return None
        return (self.epochs - self.epoch) * self.epoch_seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds until a running run ends, with the others of its process; None for others."""
        own = self.own_seconds_left if self.state == "running" else None
        return None if own is None else own * self.beside


class StudyWatcher:
    """Runs of a study, of which only what has changed is read again.

    Args:
        study: Folder of the study.

    Example:
        >>> [run.state for run in StudyWatcher(StudyFolder(Path("runs/batchnorm-quick-digits"))).poll()]
    """

    def __init__(self, study: StudyFolder) -> None:
        self.study = study
        self.plan: dict[str, Any] = {}
        self.names: list[str] = []
        self.roles: dict[str, tuple[str, ...]] = {}
        self.plan_stamp: tuple[int, int] | None = None
        self.summaries: dict[str, tuple[Stamp, RunSummary]] = {}
        self.parts: dict[str, Any] = {}  # of configurations: most are the same in thousands of runs

    def asked(self) -> dict[str, Any]:
        """Return the contents of `study.json`.

        Raises:
            StoreError: There is none, it is damaged, or written by a newer gradscape.
        """
        stamp = _stamp_of(self.study.path / "study.json")
        if stamp is None or stamp != self.plan_stamp:
            plan = self.study.asked()
            if plan is None:
                raise self.study.absent()
            self.plan, self.plan_stamp = plan, stamp
            self.names = self.study.identities(plan)
            roles = roles_by_run(plan["roles"])
            self.roles = {run: tuple(strip_controls(role.name) for role in of) for run, of in roles.items()}
            self.summaries = {
                run: (stamp, summary)
                for run, (stamp, summary) in self.summaries.items()
                if summary.roles == self.roles.get(run, ())
            }
        return self.plan

    def poll(self) -> list[RunSummary]:
        """Return the summary of every run that is planned, in the order of the study.

        Raises:
            StoreError: There is no study here, or its `study.json` is damaged or newer.
        """
        self.asked()
        runs = list(map(self.look, self.names))
        packs = Counter((run.host, run.pack) for run in runs if run.state == "running")
        return [
            replace(run, beside=packs[run.host, run.pack])
            if run.state == "running" and run.pack is not None
            else run
            for run in runs
        ]

    def _shared(self, config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return a configuration whose parts are those of earlier ones where they are equal."""
        if config is None:
            return None
        return {intern(name): self.parts.setdefault(repr(part), part) for name, part in config.items()}

    def look(self, identity: str) -> RunSummary:
        """Return the summary of one run, which knows nothing of those that are trained together with it.

        Args:
            identity: Identity of the run.
        """
        folder = self.study.run(identity)
        stamp = _stamps_of(folder)  # before it is read: what is written meanwhile is read again the next time
        before, summary = self.summaries.get(identity, (None, None))
        if summary is None or before != stamp or not any(stamp):
            summary = _summarize(self.study, identity, stamp)
            roles = self.roles.get(identity, ())
            summary = replace(summary, config=self._shared(summary.config), roles=roles)
            self.summaries[identity] = (stamp, summary)
        if summary.state != "running" or folder.held():
            return summary
        # A killed run still says that it is running; one that has ended meanwhile does not.
        return self.look(identity) if _stamps_of(folder) != stamp else _killed(summary)


def thinned(values: Sequence[float], most: int = CURVE) -> list[float]:
    """Return some of the values, evenly, and the last.

    Args:
        values: Values in order.
        most: Number of values, at most about.
    """
    every = -(-len(values) // most) if values else 1
    return [*values[:-1:every], values[-1]] if values else []


def _killed(summary: RunSummary) -> RunSummary:
    return replace(summary, state="interrupted", reason=GONE)


def _stamps_of(folder: RunFolder) -> Stamp:
    return tuple(map(_stamp_of, (folder.path / "config.json", folder.path / "status.json", folder.metrics)))


def _stamp_of(path: Path) -> tuple[int, int] | None:
    """Return a file's time of writing, in nanoseconds since 1970, and its size."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _summarize(study: StudyFolder, identity: str, stamp: Stamp) -> RunSummary:
    """Return the summary of a run, whose reason names a file that cannot be read."""
    summary = RunSummary(identity, last_update=max((s[0] / 1e9 for s in stamp if s), default=None))
    try:
        folder = study.run(identity)
        if not there(folder.path / "config.json"):
            return summary
        config, status = folder.plain_config(identity), folder.status(identity)
        summary = replace(summary, config=config, epochs=config["epochs"], **_status_fields(status))
    except StoreError as error:  # nobody can go on with it
        return replace(summary, state="failed", reason=strip_controls(str(error)), is_damaged=True)
    try:
        return replace(summary, **_epoch_fields(folder, status, config["epochs"]))
    except StoreError as error:
        return replace(summary, reason=strip_controls(str(error)), is_damaged=True)


def _status_fields(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `RunSummary` that `status.json` has."""
    names = ("state", "attempts", "host", "device", "phase")
    fields = {name: status[name] for name in names if name in status} | {"reason": _reason(status)}
    fields["pack"] = status.get("pid") if status.get("packed") else None
    diagnosis = status.get("diagnosis")
    if isinstance(diagnosis, Mapping):
        fields |= {name: str(diagnosis[name]) for name in ("verdict", "grade") if name in diagnosis}
    return {
        name: strip_controls(value) if isinstance(value, str) else value for name, value in fields.items()
    }


def _reason(status: Mapping[str, Any]) -> str:
    """Return a line on why a run ended otherwise than done, or is not computed as planned."""
    if status["state"] == "failed":
        lines = str(status.get("error", "")).strip().splitlines()
        return lines[-1].strip() if lines else ""
    if status["state"] == "diverged":
        place = [f"{unit} {status[unit]}" for unit in ("epoch", "step") if unit in status]
        return " in ".join(filter(None, ("the loss was not finite", ", ".join(place))))
    text = status.get("reason" if status["state"] in ("stopped", "interrupted") else "fallback") or ""
    return " ".join(str(text).split())


def _epoch_fields(folder: RunFolder, status: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the fields of a `RunSummary` that `metrics.jsonl` has.

    Raises:
        StoreError: A line is damaged, or of another run, or one of a done run is missing.
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
        "losses": tuple(thinned([record.train_loss for record in records])),
        "best_valid_accuracy": best.valid_accuracy,
        "best_epoch": best.epoch,
        "epoch_seconds": fmean(record.seconds for record in records),
    }
