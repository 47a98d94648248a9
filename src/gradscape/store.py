"""A run's and a study's folder: what is written where, so that nothing is lost or half-written.

    DIR/study.json                      what was asked, and which runs answer it
    DIR/runs/<identity>/config.json     the run's configuration
    DIR/runs/<identity>/metrics.jsonl   one line per epoch, each with a checksum of its own
    DIR/runs/<identity>/curvature.json  spectra of the Hessian before and after training, if asked for
    DIR/runs/<identity>/checkpoint/     epoch-0007.<sha256>.safetensors, the last one and the one before
    DIR/runs/<identity>/status.json     pending | running | done | diverged | failed, test results, versions

Whole files are written aside, fsynced and renamed; a metrics line is appended and fsynced, and a torn
last line does not count. A checkpoint's name holds the SHA-256 of its bytes: the newest one that matches
is used. No torch here: tensors travel as numpy arrays.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gradscape.config import RunConfig, from_dict, to_dict
from gradscape.errors import StoreError
from gradscape.records import Curvature, EpochRecord, RunRecord, StudyRecord

FORMAT = 1  # of everything below; a reader refuses a newer one
PROBE = 8_000_000  # bytes; a VGG38's checkpoint has 5.4 million
ENDED = ("done", "diverged")  # states that are not run again


@dataclass(frozen=True)
class Checkpoint:
    """All a run needs to go on after `epoch`: named arrays and plain values."""

    epoch: int
    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; creating the value touches nothing."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    def create(self, config: RunConfig) -> None:
        """Write `config.json` and a pending status unless they are there.

        Raises:
            StoreError: the folder holds another configuration, is newer, or cannot be written.
        """
        if (self.path / "config.json").exists():
            if to_dict(self.config()) != to_dict(config):
                raise StoreError(f"{self.path} holds another run's configuration; give another folder")
            return
        make_folder(self.path)
        write_json(self.path / "config.json", {"config": to_dict(config)})
        self.set_status("pending")

    def config(self) -> RunConfig:
        return from_dict(RunConfig, read_json(self.path / "config.json")["config"])

    def status(self) -> dict[str, Any]:
        """`status.json`; a folder without one is pending."""
        path = self.path / "status.json"
        return read_json(path) if path.exists() else {"state": "pending"}

    def set_status(self, state: str, **details: Any) -> None:
        """Replace `status.json` by `state` and `details`; attempts are kept unless given."""
        attempts = {"attempts": self.status().get("attempts", 0)}
        write_json(self.path / "status.json", {"state": state, **attempts, **details})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one process; waits for a killed command's worker, which ends within a second."""
        with locked(self.path, f"run {self.path.name}", patience=10):
            yield

    def held(self) -> bool:
        """Whether a process is at work on the run."""
        path = self.path / ".lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a read-only copy: nobody works on it
            return False

    def append(self, epoch: EpochRecord) -> None:
        """Add one epoch's line to `metrics.jsonl`, or leave the file as it was."""
        line = with_checksum(epoch.to_dict())
        # Unbuffered: a buffer would be written once more when the file is closed, after the cut.
        with explained(self.metrics), open(self.metrics, "ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.metrics, before)
                raise

    def epochs(self) -> list[EpochRecord]:
        """The epochs recorded so far.

        Raises:
            StoreError: a line other than a torn last one is damaged.
        """
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_bytes().split(b"\n")
        whole, records = lines[:-1], []
        for number, line in enumerate(whole, start=1):
            values = without_checksum(line)
            if values is None or values["epoch"] != number:
                raise StoreError(
                    f"{self.metrics}: line {number} is damaged; delete the folder {self.path} "
                    "and give the same command again to repeat this run"
                )
            records.append(EpochRecord.from_dict(values))
        return records

    def keep(self, epochs: int) -> None:
        """Cut `metrics.jsonl` back to its first so many lines (all of them whole)."""
        if self.metrics.exists():
            lines = self.metrics.read_bytes().split(b"\n")[:epochs]
            kept = b"".join(line + b"\n" for line in lines)
            if kept != self.metrics.read_bytes():
                write_bytes(self.metrics, kept)

    def curvature(self) -> dict[str, Curvature]:
        """What was measured so far: moment (`start`, `end`) → curvature."""
        path = self.path / "curvature.json"
        found = read_json(path) if path.exists() else {}
        return {moment: Curvature.from_dict(values) for moment, values in found.items()}

    def add_curvature(self, moment: str, curvature: Curvature) -> None:
        known = self.curvature() | {moment: curvature}
        write_json(self.path / "curvature.json", {name: each.to_dict() for name, each in known.items()})

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then drop all but it and the one before."""
        from safetensors.numpy import save

        make_folder(self.checkpoints)
        values = json.dumps(checkpoint.values)
        header = {"format": str(FORMAT), "epoch": str(checkpoint.epoch), "values": values}
        data = save({name: np.asarray(a, order="C") for name, a in checkpoint.arrays.items()}, header)
        digest = hashlib.sha256(data).hexdigest()
        path = self.checkpoints / f"epoch-{checkpoint.epoch:04d}.{digest}.safetensors"
        write_bytes(path, data)
        earlier = [p for p in self.checkpoint_files() if p.name.split(".")[0] < path.name.split(".")[0]]
        kept = {path, *earlier[:1]}
        for old in self.checkpoints.iterdir():
            if old not in kept:
                old.unlink()
        return path

    def checkpoint_files(self) -> list[Path]:
        """Checkpoints by name, newest first; not yet verified."""
        return sorted(self.checkpoints.glob("epoch-*.safetensors"), reverse=True)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint whose bytes match its checksum, or None.

        Raises:
            StoreError: it was written by a newer gradscape.
        """
        from safetensors.numpy import load

        for path in self.checkpoint_files():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != path.name.split(".")[1]:
                continue
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            refuse_newer(int(header["format"]), path)
            return Checkpoint(int(header["epoch"]), load(data), json.loads(header["values"]))
        return None

    def record(self) -> RunRecord:
        """Everything but the tensors; a run whose process was killed is pending, whatever it last said."""
        status = self.status()
        state = status.pop("state")
        return RunRecord(
            identity=self.path.name,
            config=to_dict(self.config()),
            state="pending" if state == "running" and not self.held() else state,
            test=status.pop("test", {}),
            status=status,
            epochs=tuple(self.epochs()),
            curvature=self.curvature(),
        )


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder: `study.json` and its runs."""

    path: Path

    def run(self, identity: str) -> RunFolder:
        return RunFolder(self.path / "runs" / identity)

    def asked(self) -> dict[str, Any] | None:
        """`study.json`, or None where there is none yet."""
        path = self.path / "study.json"
        return read_json(path) if path.exists() else None

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Write `study.json`: the study's name, preset, seeds, notes and `roles` → identities."""
        make_folder(self.path)
        write_json(self.path / "study.json", asked)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study for one command."""
        make_folder(self.path)
        with locked(self.path, f"study {self.path}", patience=0):
            yield

    def check_space(self) -> None:
        """Raise `StoreError` if the folder's disk cannot take another checkpoint or two."""
        probe = self.path / ".probe"
        write_bytes(probe, bytes(PROBE))
        probe.unlink()

    def record(self) -> StudyRecord:
        """The whole study, read.

        Raises:
            StoreError: no study here, or a file of it is damaged or newer.
        """
        asked = self.asked()
        if asked is None:
            raise StoreError(f"{self.path} holds no study (no study.json); give the folder named by --out")
        roles = {role: tuple(identities) for role, identities in asked.pop("roles").items()}
        identities = dict.fromkeys(identity for chosen in roles.values() for identity in chosen)
        folders = [self.run(identity) for identity in identities]
        return StudyRecord(
            study=asked.pop("study"),
            preset=asked.pop("preset"),
            asked=asked,
            roles=roles,
            runs={f.path.name: f.record() for f in folders if (f.path / "config.json").exists()},
        )


def load(folder: str | Path) -> StudyRecord:
    """Read a study's folder.

    Args:
        folder: what `gradscape reproduce --out` named.

    Raises:
        StoreError: it holds no study, is damaged, or was written by a newer gradscape.

    Example:
        >>> study = gradscape.load("runs/batchnorm-quick-digits")
        >>> study.of("vgg38-bn")[0].curve("valid_accuracy")
    """
    return StudyFolder(Path(folder)).record()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` on `path` into the one line users get."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free space or give another folder" if full else "give another folder"
        raise StoreError(f"cannot write {path}: {error.strerror}; {cure} with --out") from error


def make_folder(path: Path) -> None:
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """`replace_bytes` in a study's or run's folder."""
    with explained(path):
        replace_bytes(path, data)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename: `path` holds the old bytes or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename durable; Windows has no folder handles and needs none."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's values without its format number.

    Raises:
        StoreError: it is missing, damaged, or written by a newer gradscape.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}; delete it and give the same command again") from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise StoreError(f"{path} is not gradscape's: it has no format number")
    refuse_newer(values.pop("format"), path)
    return values


def refuse_newer(found: int, path: Path) -> None:
    if found > FORMAT:
        raise StoreError(
            f"{path} was written by a newer gradscape (format {found}, this one reads {FORMAT}); "
            "type: pip install --upgrade gradscape"
        )


@contextmanager
def locked(folder: Path, what: str, patience: float) -> Iterator[None]:
    """Hold `folder/.lock`, waiting `patience` seconds; the system frees it when its holder dies."""
    lock = FileLock(folder / ".lock")
    with explained(folder):
        try:
            lock.acquire(timeout=patience)
        except Timeout as error:
            raise StoreError(
                f"another gradscape command is at work on {what}; wait for it or give another --out folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


def with_checksum(values: Mapping[str, Any]) -> bytes:
    """One JSON line ending in the CRC-32 of what stands before it."""
    text = json.dumps(values, allow_nan=False)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def without_checksum(line: bytes) -> dict[str, Any] | None:
    """The values of a checksummed line, or None if it is damaged."""
    text, _, check = line.rpartition(b', "crc32": "')
    if check != b'%08x"}' % zlib.crc32(text + b"}"):
        return None
    values: dict[str, Any] = json.loads(text + b"}")
    return values
