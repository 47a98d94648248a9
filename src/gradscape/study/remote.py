"""A run that is trained on another machine: its folder travels there, and every change to it comes home.

Whether the machines share a file system does not matter: the run is trained in a folder of the node's own,
and the study's folder is written from where the command runs, which holds the run's lock meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradscape.errors import Busy, StoreError
from gradscape.executors.base import Event, Report, Tell
from gradscape.records.run import RunRecord
from gradscape.storage.files import make_folder, make_inner, write_bytes
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.tensors import TENSORS
from gradscape.study.train_job import TrainJob, train_job

# What a run consists of, in the order to write it: each file is worth something only with those before it.
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
class Parcel:
    """Files of a run that changed, and the names of all it has.

    Attributes:
        files: path in the folder → bytes, in the order to write them.
        present: every path.
    """

    files: Mapping[str, bytes]
    present: frozenset[str]


@dataclass(frozen=True)
class RemoteJob:
    """A job, and what its run's folder holds so far; the job's own folder is the one at home."""

    train: TrainJob
    parcel: Parcel


def remote_job(job: RemoteJob, report: Report) -> RunRecord | None:
    """Train a run in a folder of this node's own; what changes in it is reported before anything else."""
    with tempfile.TemporaryDirectory(prefix="gradscape-") as place:
        folder = Path(place) / job.train.folder.name
        unpack(folder, job.parcel)
        sent = stamps(folder)

        def send() -> None:
            nonlocal sent
            now = stamps(folder)
            if now != sent:
                changed = [name for name in now if now[name] != sent.get(name)]
                report(Parcel({name: (folder / name).read_bytes() for name in changed}, frozenset(now)))
                sent = now

        def tell(payload: Any) -> None:
            send()
            report(payload)

        try:
            return train_job(replace(job.train, folder=folder), tell)
        finally:
            send()


def pack(folder: Path) -> Parcel:
    names = list(stamps(folder))
    return Parcel({name: (folder / name).read_bytes() for name in names}, frozenset(names))


def unpack(folder: Path, parcel: Parcel) -> None:
    """Write what changed, each file whole or not at all, then drop what is gone.

    Raises:
        StoreError: a name is none of a run's files.
    """
    make_folder(folder)
    for name, data in parcel.files.items():
        if not _own(name):
            raise StoreError(f"{folder}: a node sent {name!r}, which is none of a run's files")
        make_inner((folder / name).parent)
        write_bytes(folder / name, data)
    for name in stamps(folder):
        if name not in parcel.present:
            (folder / name).unlink()


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Path → when it was written, and its size; of whole files alone."""
    found = {}
    for pattern in FILES:
        for path in sorted(folder.glob(pattern)):
            if _own(name := path.relative_to(folder).as_posix()):
                status = path.stat()
                found[name] = (status.st_mtime_ns, status.st_size)
    return found


def _own(name: str) -> bool:
    """Whether a path in a run's folder is of a file that a run consists of."""
    inner, _, tensors = name.rpartition("/")
    return bool(TENSORS.fullmatch(tensors)) if inner in ("weights", "checkpoint") else name in FILES


class Home:
    """The study's folder while its runs are trained elsewhere: locks them, and writes what comes home.

    Args:
        tell: where events go on to.
    """

    def __init__(self, tell: Tell) -> None:
        self.onward = tell
        self.away: dict[str, tuple[RunFolder, ExitStack]] = {}

    def begin(self, name: str, job: TrainJob) -> RemoteJob | None:
        """What to send; None where another process is at work on the run."""
        folder, lock = RunFolder(job.folder), ExitStack()
        folder.create(job.config)
        try:
            lock.enter_context(folder.locked(patience=0))
        except Busy:
            return None
        self.away[name] = folder, lock
        return RemoteJob(job, pack(folder.path))

    def end(self, name: str) -> None:
        self.away.pop(name)[1].close()

    def tell(self, event: Event) -> None:
        if isinstance(event.payload, Parcel):
            unpack(self.away[event.job][0].path, event.payload)
        else:
            self.onward(event)
