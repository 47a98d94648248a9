"""A run's folder: what is written where, so that nothing is lost or half-written.

    DIR/runs/<identity>/config.json     the run's configuration
    DIR/runs/<identity>/metrics.jsonl   one line per epoch: loss, accuracy, times
    DIR/runs/<identity>/gradients.jsonl one line per epoch: gradients and updates of every layer
    DIR/runs/<identity>/start.json      gradients and signal before the first step
    DIR/runs/<identity>/curvature.json  spectra of the Hessian before and after training, if asked for
    DIR/runs/<identity>/landscape.json  the loss over a plane around the trained weights, if asked for
    DIR/runs/<identity>/noise.json      the gradient's noise over mini-batches after training, if asked for
    DIR/runs/<identity>/weights/        epoch-0007.<sha256>.safetensors, of the model alone, if asked for
    DIR/runs/<identity>/checkpoint/     epoch-0007.<sha256>.safetensors, the last one and the one before
    DIR/runs/<identity>/status.json     pending | running | done | diverged | stopped | failed, test results,
                                        diagnosis, versions, attempts, deaths of its workers
    DIR/runs/<identity>/stop.json       why the run is to end early, if it is

Whole files are written aside, fsynced and renamed; an epoch's lines are appended and fsynced, and a torn
last line does not count. Every JSON file and every line ends in a checksum; a checkpoint's name holds the
SHA-256 of its bytes: the newest one that matches is used. Every file of a run says the run's identity, which
is its configuration's hash, so that none is taken for another run's. Nothing is replaced or removed but files
of these names in a folder that such a file shows to be gradscape's. No torch here: tensors travel as numpy
arrays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from gradscape._codec import decode, encode, finite_or_not
from gradscape.config.arguments import fitted
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict, to_dict
from gradscape.errors import ConfigError, StoreError
from gradscape.records.curvature import CurvatureRecord
from gradscape.records.gradients import FlowHistory
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.noise import RunNoise
from gradscape.records.run import EpochRecord, RunRecord
from gradscape.records.signal import RunStart
from gradscape.storage.epoch_files import EpochFiles, require_run
from gradscape.storage.files import (
    AGAIN,
    decoding,
    locked,
    make_folder,
    read_json,
    reading,
    refuse_foreign,
    refuse_link,
    sweep_parts,
    there,
    write_json,
)
from gradscape.storage.tensors import (
    Checkpoint,
    epoch_name,
    epoch_of,
    load_tensors,
    own_tensors,
    save_tensors,
)

ENDED = ("done", "diverged")  # states that are not run again
INNER = ("checkpoint", "weights", "metrics.jsonl", "gradients.jsonl")  # tidied up or cut, and so no links
T = TypeVar("T")
Flows = Literal["all", "last"]


class PlainConfig(TypedDict):
    """What is relied on of a configuration that is read as plain values."""

    epochs: int


class Status(TypedDict, total=False):
    """What `status.json` says."""

    state: Required[Literal["pending", "running", "done", "diverged", "failed", "stopped"]]
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
    error: str
    reason: str
    split: str


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; creating the value touches nothing."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(fitted(self.path, str | Path, "path")))  # text will do

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def repeat(self) -> str:
        """The way out of a damaged file."""
        return f"delete the folder {self.path} and give the same command again to repeat this run"

    def create(self, config: RunConfig) -> None:
        """Write `config.json` and a pending status unless they are there.

        Raises:
            StoreError: the folder holds another configuration or something that is not gradscape's, is of
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
            self.require_run(status, read_json(status).get("run"), config.identity)
        else:
            refuse_foreign(self.path, "run")
        make_folder(self.path)
        write_json(self.path / "config.json", {"run": config.identity, "config": to_dict(config)})
        if not there(status):
            self.set_status("pending")

    def config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            StoreError: it is missing or damaged.
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
        """The identity that `config.json` says, and with it every other file of the run."""
        path = self.path / "config.json"
        with reading(path):
            found = path.stat()
        return identity_in(path, found.st_mtime_ns, found.st_size, self.repeat)

    def read(self, name: str, cure: str = "") -> dict[str, Any]:
        """The values of one of the run's JSON files.

        Raises:
            StoreError: it is missing, damaged, of another format, or of another run.
        """
        path = self.path / name
        values = read_json(path, cure or self.repeat)
        self.require_run(path, values.pop("run", None), self.identity())
        return values

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one of the run's JSON files; values may be records and arrays."""
        write_json(self.path / name, encode({"run": self.identity(), **values}))

    def require_run(self, path: Path, found: object, identity: str) -> None:
        require_run(path, found, identity, self.repeat)

    def plain_config(self, identity: str) -> dict[str, Any]:
        """Return the configuration as plain values, unchecked, for a look at many.

        Args:
            identity: Identity of the run.
        """
        path = self.path / "config.json"
        values = read_json(path, self.repeat)
        with decoding(path, self.repeat):
            self.require_run(path, values["run"], identity)
            decode(PlainConfig, values["config"])
        return dict(values["config"])

    def status(self, run: str = "") -> dict[str, Any]:
        """`status.json`; a folder without one, or without a configuration, is pending.

        Args:
            run: its identity, where that is known already.
        """
        path = self.path / "status.json"
        if not (there(path) and there(self.path / "config.json")):
            return {"state": "pending"}
        values = read_json(path)
        self.require_run(path, values.pop("run", None), run or self.identity())
        with decoding(path):
            decode(Status, values)
            if "test" in values:  # a loss can be infinite
                values["test"] = finite_or_not(values["test"])
        return values

    def set_status(self, state: str, **details: Any) -> None:
        """Replace `status.json` by `state` and `details`; attempts and deaths are kept unless given."""
        before = {"attempts": 0} | self.status()
        kept = {name: before[name] for name in ("attempts", "deaths") if name in before}
        self.write("status.json", {"state": state, **kept, **details})

    def add_death(self, why: str) -> None:
        """Note that the run's worker died, which could not say so itself."""
        status = self.status()
        state = status.pop("state")
        self.set_status(
            "pending" if state == "running" else state,
            **{**status, "deaths": [*status.get("deaths", ()), why]},
        )

    def ask_stop(self, why: str) -> None:
        """Have the run end after the epoch that it is in; `why` goes into its status."""
        self.write("stop.json", {"why": why})

    def stop_asked(self) -> str:
        """Why the run is to end; empty if it is not."""
        return str(self.read("stop.json", AGAIN).get("why")) if there(self.path / "stop.json") else ""

    def withdraw_stop(self) -> None:
        (self.path / "stop.json").unlink(missing_ok=True)

    @contextmanager
    def locked(self, patience: float = 10) -> Iterator[None]:
        """Hold the run for one process; waits for a killed command's worker, which ends within a second."""
        with locked(self.path, f"run {self.path.name}", patience):
            for folder in (self.path, self.checkpoints, self.weights):
                sweep_parts(folder)
            yield

    def held(self) -> bool:
        """Whether a process is at work on the run."""
        path = self.path / ".lock"
        if not (there(path) and there(self.path / "config.json")):
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a read-only copy: nobody works on it
            return False

    def epoch_files(self) -> EpochFiles:
        """The files of its epochs, which say the run's identity."""
        return EpochFiles(self.path, self.identity(), self.repeat)

    def append(self, epoch: EpochRecord, flow: FlowHistory) -> None:
        """Add one epoch's numbers and the last row of `flow` to their files, or leave them as they were."""
        self.epoch_files().append(epoch, flow)

    def epochs(self, after: int = 0) -> list[EpochRecord]:
        """The numbers of the epochs recorded so far, or of those after so many of them.

        Raises:
            StoreError: a line other than a torn last one is damaged, or of another run.
        """
        return self.epochs_as(EpochRecord, after)

    def epochs_as(self, kind: type[T], after: int = 0) -> list[T]:
        """The same as another type than `EpochRecord`, of fewer fields."""
        if not there(self.metrics):
            return []
        records, whole = self.epoch_files().epochs(kind, after)
        if not whole:
            raise self.damaged(self.metrics, f"line {after + len(records) + 1}")
        return records

    def flow(self, after: int = 0) -> FlowHistory | None:
        """The gradients of the epochs recorded so far, or of those after so many; None where there is none.

        Raises:
            StoreError: a line is damaged, missing, or of another run.
        """
        count = len(self.epochs())
        if count <= after:
            return None
        files = self.epoch_files()
        found, rows = files.flow(count, after)
        if rows < count - after:
            raise self.damaged(files.gradients, f"the line of epoch {after + rows + 1}")
        return found

    def intact(self) -> list[EpochRecord]:
        """The epochs before the first one of which a line is damaged or missing; a torn last one is no line.

        Raises:
            StoreError: a line is of another run, or what it says is no epoch.
        """
        if not there(self.metrics):
            return []
        files = self.epoch_files()
        records, _ = files.epochs(EpochRecord)
        return records[: files.flow(len(records))[1]]

    def damaged(self, path: Path, what: str) -> StoreError:
        return StoreError(f"{path}: {what} is damaged; {self.repeat}")

    def keep(self, epochs: int) -> None:
        """Cut the epochs' files back to so many epochs (all of them whole)."""
        self.epoch_files().keep(epochs)

    def start(self) -> RunStart | None:
        """What was measured before the first step, or None."""
        return self.measured("start.json", RunStart)

    def add_start(self, start: RunStart) -> None:
        self.write("start.json", vars(start))

    def curvature(self) -> dict[str, CurvatureRecord]:
        """What was measured so far: moment (`start`, `end`) → curvature."""
        return self.measured("curvature.json", dict[str, CurvatureRecord]) or {}

    def add_curvature(self, moment: str, curvature: CurvatureRecord) -> None:
        self.write("curvature.json", self.curvature() | {moment: curvature})

    def landscape(self) -> LandscapeRecord | None:
        """The loss around the trained weights, or None."""
        return self.measured("landscape.json", LandscapeRecord)

    def add_landscape(self, landscape: LandscapeRecord) -> None:
        self.write("landscape.json", vars(landscape))

    def noise(self) -> RunNoise | None:
        """The gradient's noise after training, or None."""
        return self.measured("noise.json", RunNoise)

    def add_noise(self, noise: RunNoise) -> None:
        self.write("noise.json", vars(noise))

    def measured(self, name: str, kind: type[T]) -> T | None:
        """A record from one of the run's JSON files; None where there is no such file."""
        path = self.path / name
        if not there(path):
            return None
        values = self.read(name)
        with decoding(path, self.repeat):
            return decode(kind, values)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then drop all but it and the one before."""
        values = {"epoch": str(checkpoint.epoch), "values": json.dumps(checkpoint.values)}
        header = {"run": self.identity(), **values}
        path = save_tensors(self.checkpoints, epoch_name(checkpoint.epoch), checkpoint.arrays, header)
        earlier = [p for p in self.checkpoint_files() if epoch_of(p) < checkpoint.epoch]
        for old in self.checkpoint_files():
            if old not in (path, *earlier[:1]):
                old.unlink()
        return path

    def checkpoint_files(self) -> list[Path]:
        """Checkpoints by name, newest first; not yet verified."""
        return sorted(
            own_tensors(self.checkpoints), key=lambda path: (epoch_of(path), path.name), reverse=True
        )

    def load(self, latest: float = math.inf) -> Checkpoint | None:
        """The newest checkpoint, of epoch `latest` or before, whose bytes match its checksum; or None.

        Raises:
            StoreError: it was written by another gradscape, or is of another run.
        """
        for path in self.checkpoint_files():
            if (found := load_tensors(path)) is not None:
                arrays, header = found
                with decoding(path):
                    self.require_run(path, header["run"], self.identity())
                    if int(header["epoch"]) <= latest:
                        return Checkpoint(int(header["epoch"]), arrays, json.loads(header["values"]))
        return None

    def save_weights(self, epoch: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a model's tensors after an epoch; before training it is epoch 0."""
        header = {"run": self.identity(), "epoch": str(epoch)}
        path = save_tensors(self.weights, epoch_name(epoch), arrays, header)
        for old in own_tensors(self.weights):
            if epoch_of(old) == epoch and old != path:
                old.unlink()

    def kept_weights(self) -> dict[int, Mapping[str, np.ndarray]]:
        """Epoch → the model's tensors that were kept after it.

        Raises:
            StoreError: one is damaged, was written by another gradscape, or is of another run.
        """
        kept: dict[int, Mapping[str, np.ndarray]] = {}
        for path in sorted(own_tensors(self.weights), key=epoch_of):
            if (found := load_tensors(path)) is None:
                raise StoreError(f"{path} is damaged: its bytes do not match its name; {self.repeat}")
            with decoding(path, self.repeat):
                self.require_run(path, found[1]["run"], self.identity())
                kept[int(found[1]["epoch"])] = found[0]
        return kept

    def record(self, flows: Flows = "all") -> RunRecord:
        """Everything but the tensors; a run whose process was killed is pending, whatever it last said.

        Args:
            flows: Epochs whose gradients are read, which are nearly all that a run's records hold: `all`, or
                the `last` one.
        """
        status, config, epochs = self.status(), self.config(), self.epochs()
        state = status.pop("state")
        if state == "done" and len(epochs) != config.epochs:
            raise StoreError(
                f"{self.metrics} is damaged: it holds {len(epochs)} of {config.epochs} epochs; {self.repeat}"
            )
        return RunRecord(
            identity=self.path.name,
            config=to_dict(config),
            state="pending" if state == "running" and not self.held() else state,
            test=status.pop("test", {}),
            status=status,
            epochs=tuple(epochs),
            flow=self.flow(max(0, len(epochs) - 1) if flows == "last" else 0),
            curvature=self.curvature(),
            landscape=self.landscape(),
            start=self.start(),
            noise=self.noise(),
        )


@lru_cache(maxsize=100_000)
def identity_in(path: Path, changed: int, size: int, cure: str) -> str:
    """What a `config.json` that was last changed then says; the run's other files are held against it."""
    found = read_json(path, cure).get("run")
    if not isinstance(found, str):
        raise StoreError(f"{path} is damaged: it says no run; {cure}")
    return found
