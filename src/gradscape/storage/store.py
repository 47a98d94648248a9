"""A run's and a study's folder: what is written where, so that nothing is lost or half-written.

    DIR/study.json                      what was asked, and which runs answer it
    DIR/runs/<identity>/config.json     the run's configuration
    DIR/runs/<identity>/metrics.jsonl   one line per epoch
    DIR/runs/<identity>/start.json      gradients and signal before the first step
    DIR/runs/<identity>/curvature.json  spectra of the Hessian before and after training, if asked for
    DIR/runs/<identity>/landscape.json  the loss over a plane around the trained weights, if asked for
    DIR/runs/<identity>/noise.json      the gradient's noise over mini-batches after training, if asked for
    DIR/runs/<identity>/weights/        epoch-0007.<sha256>.safetensors, of the model alone, if asked for
    DIR/runs/<identity>/checkpoint/     epoch-0007.<sha256>.safetensors, the last one and the one before
    DIR/runs/<identity>/status.json     pending | running | done | diverged | stopped | failed, test results,
                                        diagnosis, versions, attempts, deaths of its workers
    DIR/runs/<identity>/stop.json       why the run is to end early, if it is

Whole files are written aside, fsynced and renamed; a metrics line is appended and fsynced, and a torn
last line does not count. Every JSON file and every line ends in a checksum; a checkpoint's name holds the
SHA-256 of its bytes: the newest one that matches is used. Every file of a run says the run's identity, which
is its configuration's hash, so that none is taken for another run's. Nothing is replaced or removed but files
of these names in a folder that such a file shows to be gradscape's. No torch here: tensors travel as numpy
arrays.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from gradscape.config.arguments import fitted, typed
from gradscape.config.conform import require_record, require_types
from gradscape.config.run import RunConfig, from_dict, to_dict
from gradscape.errors import ConfigError, StoreError
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.run import (
    UNREAD,
    Curvature,
    EpochRecord,
    GradientFlow,
    GradientNoise,
    RunRecord,
    Start,
    StudyRecord,
)
from gradscape.storage.files import (
    AGAIN,
    HERE,
    checked_head,
    decoding,
    explained,
    load_tensors,
    locked,
    make_folder,
    read_json,
    reading,
    refuse_foreign,
    refuse_link,
    save_tensors,
    sweep_parts,
    there,
    whole_lines,
    with_checksum,
    without_checksum,
    write_bytes,
    write_json,
)

PROBE = 8_000_000  # bytes; a VGG38's checkpoint has 5.4 million
ENDED = ("done", "diverged")  # states that are not run again
# A name that is a path of one step and no pattern; a configuration's identity always looks so.
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,199}")
TENSORS = re.compile(r"epoch-(\d{4,})\.[0-9a-f]{64}\.safetensors")  # an own checkpoint's name
INNER = ("checkpoint", "weights", "metrics.jsonl")  # what is tidied up or cut, and so may be no link
STATUS: Mapping[str, Any] = {
    "state": Literal["pending", "running", "done", "diverged", "failed", "stopped"],
    "attempts": int,
    "deaths": list[str],
    "test": Mapping[str, Mapping[str, float]],
    "diagnosis": Mapping[str, Any],
    "versions": Mapping[str, str],
    "threads": int,
    "epoch": int,
    "step": int,
    "fallback": str,
    **dict.fromkeys(("host", "device", "computed_in", "fused", "error", "reason", "split"), str),
}
ASKED: Mapping[str, Any] = {
    **dict.fromkeys(("study", "preset", "title", "data", "precision"), str),
    "seeds": list[int],
    "notes": list[str],
    "roles": Mapping[str, list[str]],
}
ASKED_OF_A_SWEEP: Mapping[str, Any] = {
    "looks": int,
    "base": Mapping[str, Any],
    "equal_updates": bool,
    "scale_lr": str,
    "axes": list[str],
    "points": Mapping[str, Mapping[str, bool | int | float | str | None]],
}

T = TypeVar("T")
Flows = Literal["all", "last"]
# In a metrics line; no text in it can look so, for JSON escapes quotes, and a flow holds no other object.
FLOW = (b', "flow": {', b'}, "smoothness": ')


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
        write_json(self.path / name, {"run": self.identity(), **values})

    def require_run(self, path: Path, found: object, identity: str) -> None:
        if found != identity:
            raise StoreError(f"{path} is of another run, {found}; expected {identity}; {self.repeat}")

    def plain_config(self) -> dict[str, Any]:
        """The configuration as plain values, for a look at many: what they mean is not asked."""
        path = self.path / "config.json"
        values = read_json(path, self.repeat)
        with decoding(path, self.repeat):
            self.require_run(path, values["run"], self.path.name)
            require_types(values, {"config": Mapping[str, Any]}, ("config",))
            require_types(values["config"], {"epochs": int}, ("epochs",))
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
            require_types(values, STATUS, ("state",))
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

    def append(self, epoch: EpochRecord) -> None:
        """Add one epoch's line to `metrics.jsonl`, or leave the file as it was."""
        line = line_of(epoch, self.identity())
        refuse_link(self.metrics)
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

    def epochs(self, flows: Flows = "all", after: int = 0) -> list[EpochRecord]:
        """The epochs recorded so far, or those after so many of them; for `flows` see `record`.

        Raises:
            StoreError: a line other than a torn last one is damaged, or of another run.
        """
        records, whole = self.intact(flows, after)
        if not whole:
            raise StoreError(f"{self.metrics}: line {after + len(records) + 1} is damaged; {self.repeat}")
        return records

    def intact(self, flows: Flows = "all", after: int = 0) -> tuple[list[EpochRecord], bool]:
        """The epochs before the first damaged line, and whether there is none; a torn last one is no line.

        Args:
            flows: see `record`.
            after: lines that need not be read, because whoever follows has read them.

        Raises:
            StoreError: a line is of another run, or what it says is no epoch.
        """
        if not there(self.metrics):
            return [], True
        run, records, last = self.identity(), list[EpochRecord](), b""
        for number, line in enumerate(whole_lines(self.metrics), start=1):
            if number <= after:
                continue
            found = self.epoch_in(line, number, run, FLOW if flows == "last" else None)
            if found is None:
                return records, False
            records.append(found)
            last = line
        if flows == "last" and records:
            found = self.epoch_in(last, after + len(records), run, None)
            assert found is not None
            records[-1] = replace(found, flow=mean_abs_alone(found.flow))
        return records, True

    def epoch_in(
        self, line: bytes, number: int, run: str, cut: tuple[bytes, bytes] | None
    ) -> EpochRecord | None:
        """What a line says; None if it is damaged."""
        with decoding(self.metrics, self.repeat):
            values = without_checksum(line, cut)
            if values is None or values.get("epoch") != number:
                return None
            self.require_run(self.metrics, values.pop("run", None), run)
            del values["head"]
            record = EpochRecord.from_dict(values)
            require_record(record)
        return record

    def keep(self, epochs: int) -> None:
        """Cut `metrics.jsonl` back to its first so many lines (all of them whole)."""
        if there(self.metrics):
            refuse_link(self.metrics)
            kept = b"".join(line + b"\n" for line in islice(whole_lines(self.metrics), epochs))
            if len(kept) != self.metrics.stat().st_size:
                write_bytes(self.metrics, kept)

    def start(self) -> Start | None:
        """What was measured before the first step, or None."""
        return self.measured("start.json", Start.from_dict)

    def add_start(self, start: Start) -> None:
        self.write("start.json", start.to_dict())

    def curvature(self) -> dict[str, Curvature]:
        """What was measured so far: moment (`start`, `end`) → curvature."""

        def read(values: Mapping[str, Any]) -> dict[str, Curvature]:
            found = {moment: Curvature.from_dict(each) for moment, each in values.items()}
            for each in found.values():
                require_record(each)
            return found

        return self.measured("curvature.json", read) or {}

    def landscape(self) -> LandscapeRecord | None:
        """The loss around the trained weights, or None."""
        return self.measured("landscape.json", LandscapeRecord.from_dict)

    def add_landscape(self, landscape: LandscapeRecord) -> None:
        self.write("landscape.json", landscape.to_dict())

    def noise(self) -> GradientNoise | None:
        """The gradient's noise after training, or None."""
        return self.measured("noise.json", GradientNoise.from_dict)

    def add_noise(self, noise: GradientNoise) -> None:
        self.write("noise.json", noise.to_dict())

    def add_curvature(self, moment: str, curvature: Curvature) -> None:
        known = self.curvature() | {moment: curvature}
        self.write("curvature.json", {name: each.to_dict() for name, each in known.items()})

    def measured(self, name: str, read: Callable[[Mapping[str, Any]], T]) -> T | None:
        """A record from one of the run's JSON files; None where there is no such file."""
        path = self.path / name
        if not there(path):
            return None
        values = self.read(name)
        with decoding(path, self.repeat):
            record = read(values)
            if is_dataclass(record):
                require_record(record)
        return record

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
            flows: of which epochs to read gradient statistics, which are nearly all that a run's records
                hold: of `all`, or of the `last` its mean |∂L/∂W| alone.
        """
        status, config, epochs = self.status(), self.config(), self.epochs(flows)
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
            curvature=self.curvature(),
            landscape=self.landscape(),
            start=self.start(),
            noise=self.noise(),
        )


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder: `study.json` and its runs."""

    path: Path

    def run(self, identity: str) -> RunFolder:
        return RunFolder(self.path / "runs" / identity)

    def begun(self, identity: str) -> RunFolder | None:
        """A run's folder; None where it has no configuration, and so has to be begun.

        Raises:
            StoreError: it holds another run.
        """
        folder = self.run(identity)
        if not there(folder.path / "config.json"):
            return None
        folder.require_run(folder.path / "config.json", folder.identity(), identity)
        return folder

    def asked(self) -> dict[str, Any] | None:
        """`study.json`, or None where there is none yet."""
        path = self.path / "study.json"
        if not there(path):
            return None
        values = read_json(path)
        with decoding(path):
            require_types(values, ASKED, ("study", "preset", "roles"))
            if values["study"] == "sweep":
                require_sweep(values)
            for identity in identities(values["roles"]):
                if not IDENTITY.fullmatch(identity):
                    raise ValueError(f"{identity!r} names no run")
        return values

    def absent(self) -> StoreError:
        """What is said where no study is: a single run's folder is often given for one."""
        if there(self.path / "config.json"):
            return StoreError(
                f"{self.path} is one run's folder, not a study's; type: gradscape landscape {self.path} (or "
                f"curvature, smoothness), or in Python gs.RunFolder({str(self.path)!r}).record()"
            )
        return StoreError(f"{self.path} holds no study (no study.json); give the folder named by --out")

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Write `study.json` unless it says so already: the study's name, preset, seeds, notes, `roles`."""
        make_folder(self.path)
        if asked != self.asked():
            write_json(self.path / "study.json", asked)

    @contextmanager
    def locked(self, patience: float = 60) -> Iterator[None]:
        """Hold `study.json` and the report; runs have locks of their own, so that commands can share them.

        Raises:
            StoreError: the folder holds something that is not gradscape's, or a part of it is a link.
        """
        if not there(self.path / "study.json") and not any(self.own_runs()):
            refuse_foreign(self.path, "study")
        for name in ("runs", "report"):
            refuse_link(self.path / name)
        make_folder(self.path)
        with locked(self.path, f"study {self.path}", patience):
            sweep_parts(self.path)
            yield

    def own_runs(self) -> Iterator[str]:
        """Names of the run folders in it, told by their configurations."""
        for path in (self.path / "runs").glob("*/config.json"):
            with suppress(StoreError):
                if RunFolder(path.parent).identity() == path.parent.name:
                    yield path.parent.name

    def check_space(self) -> None:
        """Raise `StoreError` if the folder's disk cannot take another checkpoint or two."""
        probe = self.path / f".probe.{HERE}.{os.getpid()}.part"
        try:
            write_bytes(probe, bytes(PROBE))
        finally:
            probe.unlink(missing_ok=True)

    def record(self, flows: Flows = "all") -> StudyRecord:
        """The whole study, read.

        Args:
            flows: of which epochs to read gradient statistics; see `RunFolder.record`. A study of thousands
                of runs has gigabytes of them.

        Raises:
            StoreError: no study here, or a file of it is damaged or newer.
        """
        asked = self.asked()
        if asked is None:
            raise self.absent()
        roles = {role: tuple(identities) for role, identities in asked.pop("roles").items()}
        folders = filter(None, map(self.begun, identities(roles)))
        return StudyRecord(
            study=asked.pop("study"),
            preset=asked.pop("preset"),
            asked=asked,
            roles=roles,
            runs={folder.path.name: folder.record(flows) for folder in folders},
        )


@typed()
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


def require_sweep(asked: Mapping[str, Any]) -> None:
    """Refuse what was asked of a sweep where it lacks something, or a point has no value for an axis.

    Raises:
        ValueError: names it.
    """
    require_types(asked, ASKED_OF_A_SWEEP, ("axes", "points"))
    for label, point in asked["points"].items():
        if absent := [field for field in asked["axes"] if field not in point]:
            raise ValueError(f"the point {label!r} has no {absent[0]}")


def identities(roles: Mapping[str, Iterable[str]]) -> list[str]:
    """Of the runs of all roles, each once."""
    return list(dict.fromkeys(identity for chosen in roles.values() for identity in chosen))


@lru_cache(maxsize=100_000)
def identity_in(path: Path, changed: int, size: int, cure: str) -> str:
    """What a `config.json` that was last changed then says; the run's other files are held against it."""
    found = read_json(path, cure).get("run")
    if not isinstance(found, str):
        raise StoreError(f"{path} is damaged: it says no run; {cure}")
    return found


def line_of(epoch: EpochRecord, run: str) -> bytes:
    """An epoch as a line of `metrics.jsonl`: its numbers, which can be read alone, then what is large."""
    values = epoch.to_dict()
    large = {name: values.pop(name) for name in ("flow", "smoothness")}
    return with_checksum({**checked_head({"epoch": values.pop("epoch"), "run": run, **values}), **large})


def own_tensors(folder: Path) -> list[Path]:
    """The files in it that are checkpoints by their names."""
    if not there(folder):
        return []
    with reading(folder):
        return [path for path in folder.iterdir() if TENSORS.fullmatch(path.name)]


def epoch_of(path: Path) -> int:
    """The epoch in an own checkpoint's name."""
    found = TENSORS.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def epoch_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def mean_abs_alone(flow: GradientFlow) -> GradientFlow:
    """Mean |∂L/∂W| and which tensors it is of; runs of one network share their names."""
    layers, kinds = shared(flow.layers), shared(flow.kinds)
    return replace(UNREAD, layers=layers, kinds=kinds, mean_abs=flow.mean_abs)


@lru_cache(maxsize=1_000)
def shared(words: tuple[str, ...]) -> tuple[str, ...]:
    """The first tuple of equal ones."""
    return words
