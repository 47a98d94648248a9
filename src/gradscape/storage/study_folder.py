"""Folder of a study: its plan in `DIR/study.json`, and its runs in `DIR/runs`.

A run's folder is described in `gradscape.storage.run_folder`; the same promises hold here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from gradscape._codec import decode, encode
from gradscape.config.arguments import typed
from gradscape.errors import StoreError
from gradscape.records.role import Role, identities
from gradscape.records.run import StudyRecord
from gradscape.storage.epoch_files import require_run
from gradscape.storage.files import (
    HERE,
    decoding,
    make_folder,
    refuse_foreign,
    refuse_link,
    sweep_parts,
    there,
    write_bytes,
)
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.lock import locked
from gradscape.storage.run_folder import FlowEpochs, RunFolder
from gradscape.storage.watch_folder import is_watch, read_watch

PROBE = 8_000_000  # bytes; a VGG38's checkpoint has 5.4 million
# A name that is a path of one step and no pattern; a configuration's identity always looks so.
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,199}")


class _Plan(TypedDict, total=False):
    """Contents of `study.json`."""

    study: Required[str]
    preset: Required[str]
    roles: Required[dict[str, Role]]
    title: str
    data: str
    precision: str
    seeds: list[int]
    notes: list[str]


class _SweepPlan(_Plan, total=False):
    """Contents of a sweep's `study.json`."""

    axes: Required[list[str]]
    looks: int
    looked: list[int]
    base: dict[str, Any]
    equal_updates: bool
    scale_lr: str


@dataclass(frozen=True)
class StudyFolder:
    """Folder of a study: `study.json` and its runs.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    def run(self, identity: str) -> RunFolder:
        """Return the folder of a run; it need not be there.

        Args:
            identity: Identity of the run.
        """
        return RunFolder(self.path / "runs" / identity)

    def begun(self, identity: str) -> RunFolder | None:
        """Return a run's folder; None where it has no configuration, and so has to be begun.

        Args:
            identity: Identity of the run.

        Raises:
            StoreError: It holds another run.
        """
        folder = self.run(identity)
        if not there(folder.path / "config.json"):
            return None
        require_run(folder.path / "config.json", folder.identity(), identity, folder.repeat)
        return folder

    def asked(self) -> dict[str, Any] | None:
        """Return the contents of `study.json`, with its `Role`s; None where there is none yet.

        Raises:
            StoreError: It is damaged, or of another format.
        """
        path = self.path / "study.json"
        if not there(path):
            return None
        values = read_json(path)
        with decoding(path):
            plan: _Plan = decode(_Plan, values)
            if values["study"] == "sweep":
                _require_sweep(values, plan["roles"])
            values["roles"] = plan["roles"]
            for identity in identities(plan["roles"]):
                if not IDENTITY.fullmatch(identity):
                    raise ValueError(f"{identity!r} names no run")
        return values

    def identities(self, asked: Mapping[str, Any] | None = None) -> list[str]:
        """Return the identity of every run that is planned, once, in the study's order.

        Args:
            asked: Contents of `study.json`, if they have been read already.

        Raises:
            StoreError: There is no study, or its `study.json` is damaged or newer.
        """
        asked = self.asked() if asked is None else asked
        if asked is None:
            raise self.absent()
        return identities(asked["roles"])

    def absent(self) -> StoreError:
        """Return the error of a folder without a study."""
        return StoreError(
            f"{self.path} holds no study and no run (no study.json, no config.json); "
            "give the folder named by --out"
        )

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Write `study.json` unless it has these contents already.

        Args:
            asked: Name of the study, preset, seeds, notes, roles and more.

        Raises:
            StoreError: It cannot be written.
        """
        make_folder(self.path)
        if asked != self.asked():
            write_json(self.path / "study.json", encode(asked))

    @contextmanager
    def locked(self, patience: float = 60) -> Iterator[None]:
        """Hold `study.json` and the report; runs have locks of their own, so that commands can share them.

        Args:
            patience: Seconds to wait for another command.

        Raises:
            Busy: Another command still holds them.
            StoreError: The folder holds something that is not gradscape's, or a part of it is a link.
        """
        if not there(self.path / "study.json") and not any(self._own_runs()):
            refuse_foreign(self.path, "study")
        for name in ("runs", "report"):
            refuse_link(self.path / name)
        make_folder(self.path)
        with locked(self.path, f"study {self.path}", patience):
            sweep_parts(self.path)
            yield

    def _own_runs(self) -> Iterator[str]:
        """Yield the names of the run folders in it, which their configurations prove to be such."""
        for path in (self.path / "runs").glob("*/config.json"):
            with suppress(StoreError):
                if RunFolder(path.parent).identity() == path.parent.name:
                    yield path.parent.name

    def check_space(self) -> None:
        """Check that the folder's disk has room for another checkpoint or two.

        Raises:
            StoreError: It has not.
        """
        probe = self.path / f".probe.{HERE}.{os.getpid()}.part"
        try:
            write_bytes(probe, bytes(PROBE))
        finally:
            probe.unlink(missing_ok=True)

    def record(self, flows: FlowEpochs = "all") -> StudyRecord:
        """Return the record of the study and all its runs.

        Args:
            flows: Epochs whose gradients are read; see `RunFolder.record`. A study of thousands of runs has
                gigabytes of them.

        Raises:
            StoreError: There is no study here, or a file of it is damaged or newer.
        """
        asked = self.asked()
        if asked is None:
            raise self.absent()
        roles = asked.pop("roles")
        folders = filter(None, map(self.begun, identities(roles)))
        return StudyRecord(
            study=asked.pop("study"),
            preset=asked.pop("preset"),
            asked=asked,
            roles=roles,
            runs={folder.path.name: folder.record(flows) for folder in folders},
        )


@dataclass(frozen=True)
class SingleRun(StudyFolder):
    """Folder of a run that `gradscape train` made, seen as a study of this run alone."""

    @property
    def only(self) -> RunFolder:
        """Folder of the run, which is this one."""
        return RunFolder(self.path)

    def run(self, identity: str) -> RunFolder:
        """Return the run's folder.

        Args:
            identity: Identity of the run.
        """
        return self.only

    def asked(self) -> dict[str, Any]:
        """Return the contents of a `study.json` without roles."""
        return {"study": "run", "preset": self.path.resolve().name, "roles": {}}

    def identities(self, asked: Mapping[str, Any] | None = None) -> list[str]:
        """Return the identity of the run.

        Args:
            asked: Contents of a `study.json`, which names no run.
        """
        return [self.only.identity()]


def folder_at(path: Path) -> StudyFolder:
    """Return the study's or the single run's folder at a path.

    Args:
        path: Path of a folder that `--out` named.
    """
    single = not there(path / "study.json") and there(path / "config.json")
    return SingleRun(path) if single else StudyFolder(path)


@typed()
def load(folder: str | Path) -> StudyRecord | Any:
    """Read the folder of a study, of a single run, or of a watch.

    Args:
        folder: Path of a folder that `--out` of `gradscape reproduce`, `sweep` or `train` named, or that a
            watch was written to by `live=True` or `gradscape.integrations.Folder`.

    Returns:
        A `StudyRecord`; for a single run its `RunRecord`, for a watch its `FlowHistory`.

    Raises:
        StoreError: The folder holds neither, is damaged, or was written by a newer gradscape.

    Example:
        >>> study = gradscape.load("runs/batchnorm-quick-digits")
        >>> study.of("vgg38-bn")[0].curve("valid_accuracy")
        >>> print(gradscape.diagnose(gradscape.load("runs/first")))
    """
    if is_watch(Path(folder)):
        return read_watch(Path(folder))
    found = folder_at(Path(folder))
    return found.only.record() if isinstance(found, SingleRun) else found.record()


def _require_sweep(asked: Mapping[str, Any], roles: Mapping[str, Role]) -> None:
    """Refuse the contents of a sweep's `study.json` if a key is missing, or a point has no value for an axis.

    Raises:
        ValueError: The message names it.
    """
    decode(_SweepPlan, asked)
    for role in roles.values():
        if absent := [field for field in asked["axes"] if field not in role.parameters]:
            raise ValueError(f"the point {role.name!r} has no {absent[0]}")
