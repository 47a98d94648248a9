"""A run's and a study's folder: what is written where, so that nothing is lost or half-written.

    DIR/study.json                      what was asked, and which runs answer it
    DIR/runs/<identity>/config.json     the run's configuration
    DIR/runs/<identity>/metrics.jsonl   one line per epoch, each with a checksum of its own
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
last line does not count. A checkpoint's name holds the SHA-256 of its bytes: the newest one that matches
is used. No torch here: tensors travel as numpy arrays.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from gradscape.arguments import fitted, typed
from gradscape.config import RunConfig, from_dict, to_dict
from gradscape.errors import StoreError
from gradscape.files import (
    explained,
    load_tensors,
    locked,
    make_folder,
    read_json,
    save_tensors,
    with_checksum,
    without_checksum,
    write_bytes,
    write_json,
)
from gradscape.landscaped import LandscapeRecord
from gradscape.records import (
    UNREAD,
    Curvature,
    EpochRecord,
    GradientFlow,
    GradientNoise,
    RunRecord,
    Start,
    StudyRecord,
)

PROBE = 8_000_000  # bytes; a VGG38's checkpoint has 5.4 million
ENDED = ("done", "diverged")  # states that are not run again


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
        """Replace `status.json` by `state` and `details`; attempts and deaths are kept unless given."""
        before = {"attempts": 0} | self.status()
        kept = {name: before[name] for name in ("attempts", "deaths") if name in before}
        write_json(self.path / "status.json", {"state": state, **kept, **details})

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
        write_json(self.path / "stop.json", {"why": why})

    def stop_asked(self) -> str:
        """Why the run is to end; empty if it is not."""
        path = self.path / "stop.json"
        return str(read_json(path)["why"]) if path.exists() else ""

    def withdraw_stop(self) -> None:
        (self.path / "stop.json").unlink(missing_ok=True)

    @contextmanager
    def locked(self, patience: float = 10) -> Iterator[None]:
        """Hold the run for one process; waits for a killed command's worker, which ends within a second."""
        with locked(self.path, f"run {self.path.name}", patience):
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

    def epochs(self, flows: Flows = "all", after: int = 0) -> list[EpochRecord]:
        """The epochs recorded so far, or those after so many of them; for `flows` see `record`.

        Raises:
            StoreError: a line other than a torn last one is damaged.
        """
        records, lines = self.intact(flows, after)
        if after + len(records) < lines:
            raise StoreError(
                f"{self.metrics}: line {after + len(records) + 1} is damaged; delete the folder {self.path} "
                "and give the same command again to repeat this run"
            )
        return records

    def intact(self, flows: Flows = "all", after: int = 0) -> tuple[list[EpochRecord], int]:
        """The epochs before the first damaged line, and how many lines there are; a torn last one is none.

        Args:
            flows: see `record`.
            after: lines that need not be read, because whoever follows has read them.
        """
        if not self.metrics.exists():
            return [], 0
        whole, records = self.metrics.read_bytes().split(b"\n")[:-1], []
        for number, line in enumerate(whole[after:], start=after + 1):
            cut = FLOW if flows == "last" and number < len(whole) else None
            values = without_checksum(line, cut)
            if values is None or values["epoch"] != number:
                break
            records.append(EpochRecord.from_dict(values))
        if flows == "last" and records:
            records[-1] = replace(records[-1], flow=mean_abs_alone(records[-1].flow))
        return records, len(whole)

    def keep(self, epochs: int) -> None:
        """Cut `metrics.jsonl` back to its first so many lines (all of them whole)."""
        if self.metrics.exists():
            lines = self.metrics.read_bytes().split(b"\n")[:epochs]
            kept = b"".join(line + b"\n" for line in lines)
            if kept != self.metrics.read_bytes():
                write_bytes(self.metrics, kept)

    def start(self) -> Start | None:
        """What was measured before the first step, or None."""
        path = self.path / "start.json"
        return Start.from_dict(read_json(path)) if path.exists() else None

    def add_start(self, start: Start) -> None:
        write_json(self.path / "start.json", start.to_dict())

    def curvature(self) -> dict[str, Curvature]:
        """What was measured so far: moment (`start`, `end`) → curvature."""
        path = self.path / "curvature.json"
        found = read_json(path) if path.exists() else {}
        return {moment: Curvature.from_dict(values) for moment, values in found.items()}

    def landscape(self) -> LandscapeRecord | None:
        """The loss around the trained weights, or None."""
        path = self.path / "landscape.json"
        return LandscapeRecord.from_dict(read_json(path)) if path.exists() else None

    def add_landscape(self, landscape: LandscapeRecord) -> None:
        write_json(self.path / "landscape.json", landscape.to_dict())

    def noise(self) -> GradientNoise | None:
        """The gradient's noise after training, or None."""
        path = self.path / "noise.json"
        return GradientNoise.from_dict(read_json(path)) if path.exists() else None

    def add_noise(self, noise: GradientNoise) -> None:
        write_json(self.path / "noise.json", noise.to_dict())

    def add_curvature(self, moment: str, curvature: Curvature) -> None:
        known = self.curvature() | {moment: curvature}
        write_json(self.path / "curvature.json", {name: each.to_dict() for name, each in known.items()})

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then drop all but it and the one before."""
        values = {"epoch": str(checkpoint.epoch), "values": json.dumps(checkpoint.values)}
        path = save_tensors(self.checkpoints, epoch_name(checkpoint.epoch), checkpoint.arrays, values)
        earlier = [p for p in self.checkpoint_files() if p.name.split(".")[0] < path.name.split(".")[0]]
        kept = {path, *earlier[:1]}
        for old in self.checkpoints.iterdir():
            if old not in kept:
                old.unlink()
        return path

    def checkpoint_files(self) -> list[Path]:
        """Checkpoints by name, newest first; not yet verified."""
        return sorted(self.checkpoints.glob("epoch-*.safetensors"), reverse=True)

    def load(self, latest: float = math.inf) -> Checkpoint | None:
        """The newest checkpoint, of epoch `latest` or before, whose bytes match its checksum; or None.

        Raises:
            StoreError: it was written by a newer gradscape.
        """
        for path in self.checkpoint_files():
            if (found := load_tensors(path)) is not None:
                arrays, header = found
                if int(header["epoch"]) <= latest:
                    return Checkpoint(int(header["epoch"]), arrays, json.loads(header["values"]))
        return None

    def save_weights(self, epoch: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a model's tensors after an epoch; before training it is epoch 0."""
        path = save_tensors(self.weights, epoch_name(epoch), arrays, {"epoch": str(epoch)})
        for old in self.weights.glob(f"{epoch_name(epoch)}.*"):
            if old != path:
                old.unlink()

    def kept_weights(self) -> dict[int, Mapping[str, np.ndarray]]:
        """Epoch → the model's tensors that were kept after it, those whose bytes match their checksum."""
        found = [load_tensors(path) for path in sorted(self.weights.glob("epoch-*.safetensors"))]
        return {int(header["epoch"]): arrays for arrays, header in filter(None, found)}

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
                f"{self.metrics} is damaged: it holds {len(epochs)} of {config.epochs} epochs; delete the "
                f"folder {self.path} and give the same command again to repeat this run"
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

    def asked(self) -> dict[str, Any] | None:
        """`study.json`, or None where there is none yet."""
        path = self.path / "study.json"
        return read_json(path) if path.exists() else None

    def absent(self) -> StoreError:
        """What is said where no study is: a single run's folder is often given for one."""
        if (self.path / "config.json").is_file():
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
        """Hold `study.json` and the report; runs have locks of their own, so that commands can share them."""
        make_folder(self.path)
        with locked(self.path, f"study {self.path}", patience):
            yield

    def check_space(self) -> None:
        """Raise `StoreError` if the folder's disk cannot take another checkpoint or two."""
        probe = self.path / ".probe"
        write_bytes(probe, bytes(PROBE))
        probe.unlink()

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
        identities = dict.fromkeys(identity for chosen in roles.values() for identity in chosen)
        folders = [self.run(identity) for identity in identities]
        return StudyRecord(
            study=asked.pop("study"),
            preset=asked.pop("preset"),
            asked=asked,
            roles=roles,
            runs={f.path.name: f.record(flows) for f in folders if (f.path / "config.json").exists()},
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
