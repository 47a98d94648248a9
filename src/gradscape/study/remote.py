"""Training of a run on another machine: its folder travels there, and every change to it comes home.

The machines need not share a file system: the run is trained in a folder of the node's, and the study's
folder is written from where the command runs, which holds the run's lock meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradscape.errors import Busy, StoreError
from gradscape.executors.base import Event, EventSink, MessageSink
from gradscape.records.run import RunRecord
from gradscape.storage.checkpoint import TENSORS
from gradscape.storage.files import make_folder, make_inner, write_bytes
from gradscape.storage.run_folder import RunFolder
from gradscape.study.train_job import TrainJob, train_job

# Files of a run, in the order to write them: each is worth something only with those before it.
FILES = (
    "config.json",
    "weights/*",
    "start.json",
    "curvature.json",
    "landscape.json",
    "noise.json",
    "gradients.jsonl",
    "metrics.jsonl",
    "checkpoint/*",
    "status.json",
)


@dataclass(frozen=True)
class FileDelta:
    """Files of a run that changed, and the names of all its files.

    Attributes:
        files: Contents per path in the folder, in the order to write them.
        present: Paths of all files.
    """

    files: Mapping[str, bytes]
    present: frozenset[str]


@dataclass(frozen=True)
class RemoteJob:
    """A job, and the files of its run; the job's folder is the one at home."""

    train: TrainJob
    delta: FileDelta


def remote_job(job: RemoteJob, report: MessageSink) -> RunRecord | None:
    """Train a run in a folder of this node; what changes in it is reported before anything else.

    Args:
        job: Job and files of the run.
        report: Function to report to.

    Returns:
        Record of the run; None where another process is training it.
    """
    with tempfile.TemporaryDirectory(prefix="gradscape-") as place:
        folder = Path(place) / job.train.folder.name
        unpack_folder(folder, job.delta)
        sent = stamps(folder)

        def send() -> None:
            nonlocal sent
            now = stamps(folder)
            if now != sent:
                changed = [name for name in now if now[name] != sent.get(name)]
                report(FileDelta({name: (folder / name).read_bytes() for name in changed}, frozenset(now)))
                sent = now

        def forward(payload: Any) -> None:
            send()
            report(payload)

        try:
            return train_job(replace(job.train, folder=folder), forward)
        finally:
            send()


def pack_folder(folder: Path) -> FileDelta:
    """Return all files of a run.

    Args:
        folder: Folder of the run.
    """
    names = list(stamps(folder))
    return FileDelta({name: (folder / name).read_bytes() for name in names}, frozenset(names))


def unpack_folder(folder: Path, delta: FileDelta) -> None:
    """Write the files that changed, each whole or not at all, then delete those that are gone.

    Args:
        folder: Folder of the run.
        delta: Files that changed.

    Raises:
        StoreError: A name is not that of a run's file.
    """
    make_folder(folder)
    for name, data in delta.files.items():
        if not _own(name):
            raise StoreError(f"{folder}: a node sent {name!r}, which is not a file of a run")
        make_inner((folder / name).parent)
        write_bytes(folder / name, data)
    for name in stamps(folder):
        if name not in delta.present:
            (folder / name).unlink()


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return time of writing and size per path, of whole files alone.

    Args:
        folder: Folder of the run.
    """
    by_path = {}
    for pattern in FILES:
        for path in sorted(folder.glob(pattern)):
            if _own(name := path.relative_to(folder).as_posix()):
                status = path.stat()
                by_path[name] = (status.st_mtime_ns, status.st_size)
    return by_path


def _own(name: str) -> bool:
    """True if a path in a run's folder is one of its files."""
    inner, _, tensors = name.rpartition("/")
    return bool(TENSORS.fullmatch(tensors)) if inner in ("weights", "checkpoint") else name in FILES


class RemoteRuns:
    """Folder of a study while its runs are trained elsewhere: locks the runs, and writes what comes home.

    Args:
        sink: Function to pass events on to.
    """

    def __init__(self, sink: EventSink) -> None:
        self.onward = sink
        self.away: dict[str, tuple[RunFolder, ExitStack]] = {}

    def begin(self, name: str, job: TrainJob) -> RemoteJob | None:
        """Lock a run and return what to send; None where another process is training it.

        Args:
            name: Name of the job.
            job: Job of the run.

        Raises:
            StoreError: Its folder holds another run, or cannot be written.
        """
        folder = RunFolder(job.folder)
        folder.create(job.config)
        with ExitStack() as lock:
            try:
                lock.enter_context(folder.locked(patience=0))
            except Busy:
                return None
            sent = RemoteJob(job, pack_folder(folder.path))
            self.away[name] = folder, lock.pop_all()
        return sent

    def end(self, name: str) -> None:
        """Unlock a run.

        Args:
            name: Name of the job.
        """
        self.away.pop(name)[1].close()

    def receive(self, event: Event) -> None:
        """Write the files of an event, or pass it on.

        Args:
            event: Event of a run.
        """
        if isinstance(event.payload, FileDelta):
            unpack_folder(self.away[event.job][0].path, event.payload)
        else:
            self.onward(event)
