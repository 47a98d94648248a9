"""Identity, configuration, status and lock of a run's folder; `run_folder` describes all its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Required, TypedDict

from gradscape._codec import decode, encode, finite_or_not
from gradscape.config.arguments import fitted
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict, to_dict
from gradscape.errors import ConfigError, StoreError
from gradscape.storage.epoch_files import require_run
from gradscape.storage.files import (
    AGAIN,
    decoding,
    make_folder,
    reading,
    refuse_foreign,
    refuse_link,
    sweep_parts,
    there,
)
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.lock import is_held, locked

INNER = ("checkpoint", "weights", "metrics.jsonl", "gradients.jsonl")  # tidied up or cut, and so no links


class _PlainConfig(TypedDict):
    """Part of a configuration in plain values that a summary relies on."""

    epochs: int


class _Status(TypedDict, total=False):
    """Contents of `status.json`."""

    state: Required[Literal["pending", "running", "interrupted", "done", "diverged", "failed", "stopped"]]
    attempts: int
    deaths: list[str]
    test: dict[str, dict[str, float]]
    diagnosis: dict[str, Any]
    versions: dict[str, str]
    threads: int
    epoch: int
    step: int
    host: str
    device: str
    computed_in: str
    fallback: str
    fused: str
    packed: bool
    phase: str
    error: str
    reason: str
    split: str


@dataclass(frozen=True)
class RunStatusFiles:
    """Files of one run that say which run it is and how far it is; making the value touches nothing.

    Attributes:
        path: Path of the run's folder; text will do.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(fitted(self.path, str | Path, "path")))  # text will do

    @property
    def name(self) -> str:
        """Name of the folder, of `.` and `..` too; of a link its own."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def metrics(self) -> Path:
        """Path of the epochs' numbers."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Path of the folder of checkpoints."""
        return self.path / "checkpoint"

    @property
    def weights(self) -> Path:
        """Path of the folder of kept weights."""
        return self.path / "weights"

    @property
    def repeat(self) -> str:
        """Way out of a damaged file, for messages."""
        return f"delete the folder {self.path} and give the same command again to repeat this run"

    def create(self, config: RunConfig) -> None:
        """Write `config.json` and a pending status unless they are there.

        Args:
            config: Configuration of the run.

        Raises:
            StoreError: The folder holds another configuration or something that is not gradscape's, is of
                another format, or cannot be written.
        """
        for name in INNER:
            refuse_link(self.path / name)
        if there(self.path / "config.json"):
            if to_dict(self.config()) != to_dict(config):
                raise StoreError(f"{self.path} holds another run's configuration; give another folder")
            return
        status = self.path / "status.json"
        if there(status):  # the configuration was lost, and the identity tells which it was
            self._require_run(status, read_json(status).get("run"), config.identity)
        else:
            refuse_foreign(self.path, "run")
        make_folder(self.path)
        write_json(self.path / "config.json", {"run": config.identity, "config": to_dict(config)})
        if not there(status):
            self.set_status("pending")

    def config(self) -> RunConfig:
        """Return the run's configuration.

        Raises:
            StoreError: It is missing or damaged.
        """
        path = self.path / "config.json"
        values = read_json(path, self.repeat)
        with decoding(path, self.repeat):
            try:
                config = from_dict(RunConfig, values["config"])
            except ConfigError as error:
                raise ValueError(str(error)) from error
            if config.identity != values["run"]:
                raise ValueError(f"it is not that of {values['run']}")
        return config

    def identity(self) -> str:
        """Return the identity in `config.json`, which every other file of the run must have."""
        path = self.path / "config.json"
        with reading(path):
            status = path.stat()
        return _identity_in(path, status.st_mtime_ns, status.st_size, self.repeat)

    def read(self, name: str, cure: str = "") -> dict[str, Any]:
        """Return the values of one of the run's JSON files.

        Args:
            name: Name of the file.
            cure: Way out of a damaged file, by default `repeat`.

        Raises:
            StoreError: It is missing, damaged, of another format, or of another run.
        """
        path = self.path / name
        values = read_json(path, cure or self.repeat)
        self._require_run(path, values.pop("run", None), self.identity())
        return values

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one of the run's JSON files.

        Args:
            name: Name of the file.
            values: Value per key; records and arrays are encoded.
        """
        write_json(self.path / name, encode({"run": self.identity(), **values}))

    def _require_run(self, path: Path, found: object, identity: str) -> None:
        require_run(path, found, identity, self.repeat)

    def plain_config(self, identity: str) -> dict[str, Any]:
        """Return the configuration in plain values, of which only the number of epochs is checked.

        Args:
            identity: Identity of the run.
        """
        path = self.path / "config.json"
        values = read_json(path, self.repeat)
        with decoding(path, self.repeat):
            self._require_run(path, values["run"], identity)
            decode(_PlainConfig, values["config"])
        return dict(values["config"])

    def status(self, run: str = "") -> dict[str, Any]:
        """Return the values of `status.json`; a folder without it, or without a configuration, is pending.

        Args:
            run: Identity of the run, where it is known already.

        Raises:
            StoreError: It is damaged, or of another run.
        """
        path = self.path / "status.json"
        if not (there(path) and there(self.path / "config.json")):
            return {"state": "pending"}
        values = read_json(path)
        self._require_run(path, values.pop("run", None), run or self.identity())
        with decoding(path):
            decode(_Status, values)
            if "test" in values:  # a loss can be infinite
                values["test"] = finite_or_not(values["test"])
        return values

    def set_status(self, state: str, **details: Any) -> None:
        """Replace `status.json`; attempts and deaths stay unless `details` has them.

        Args:
            state: State of the run, such as `done`.
            details: Further values.
        """
        before = {"attempts": 0} | self.status()
        counts = {name: before[name] for name in ("attempts", "deaths") if name in before}
        self.write("status.json", {"state": state, **counts, **details})

    def add_death(self, why: str) -> None:
        """Record that the run's worker died, which could not do so itself.

        Args:
            why: Reason, in words.
        """
        status = self.status()
        state = status.pop("state")
        self.set_status(
            "interrupted" if state == "running" else state,
            **{**status, "deaths": [*status.get("deaths", ()), why]},
        )

    def ask_stop(self, why: str) -> None:
        """Have the run end after the epoch that it is in.

        Args:
            why: Reason, for its status.
        """
        self.write("stop.json", {"why": why})

    def stop_reason(self) -> str:
        """Return the reason why the run is to end; empty if it is not."""
        return str(self.read("stop.json", AGAIN).get("why")) if there(self.path / "stop.json") else ""

    def withdraw_stop(self) -> None:
        """Let the run go on."""
        (self.path / "stop.json").unlink(missing_ok=True)

    @contextmanager
    def locked(self, patience: float = 10) -> Iterator[None]:
        """Hold the run for one process; wait for a killed command's worker, which ends within a second.

        Args:
            patience: Seconds to wait.

        Raises:
            Busy: Another process holds it.
        """
        with locked(self.path, f"run {self.name}", patience):
            for folder in (self.path, self.checkpoints, self.weights):
                sweep_parts(folder)
            yield

    def held(self) -> bool:
        """Check that a process is at work on the run."""
        path = self.path / ".lock"
        if not (there(path) and there(self.path / "config.json")):
            return False
        return is_held(path)


@lru_cache(maxsize=100_000)
def _identity_in(path: Path, changed: int, size: int, cure: str) -> str:
    """Return the identity in a `config.json` of this time and size."""
    identity = read_json(path, cure).get("run")
    if not isinstance(identity, str):
        raise StoreError(f"{path} is damaged: it names no run; {cure}")
    return identity
