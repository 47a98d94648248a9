"""Folder of a run, in which nothing is lost or half-written.

    DIR/runs/<identity>/config.json     the run's configuration
    DIR/runs/<identity>/metrics.jsonl   one line per epoch: loss, accuracy, times
    DIR/runs/<identity>/gradients.jsonl one line per epoch: gradients and updates of every layer
    DIR/runs/<identity>/start.json      gradients and signal before the first step
    DIR/runs/<identity>/curvature.json  spectra of the Hessian before and after training, if asked for
    DIR/runs/<identity>/landscape.json  the loss over a plane around the trained weights, if asked for
    DIR/runs/<identity>/noise.json      the gradient's noise over mini-batches after training, if asked for
    DIR/runs/<identity>/weights/        epoch-0007.<sha256>.safetensors, of the model alone, if asked for
    DIR/runs/<identity>/checkpoint/     epoch-0007.<sha256>.safetensors, the last one and the one before
    DIR/runs/<identity>/status.json     pending | running | interrupted | done | diverged | stopped | failed,
                                        test results, diagnosis, versions, attempts, deaths of its workers
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from gradscape._codec import decode
from gradscape.config.serialize import to_dict
from gradscape.errors import StoreError
from gradscape.records.curvature import CurvatureRecord
from gradscape.records.gradients import FlowHistory
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.noise import RunNoise
from gradscape.records.run import EpochRecord, RunRecord
from gradscape.records.signal import RunStart
from gradscape.storage.checkpoint import (
    Checkpoint,
    epoch_name,
    epoch_of,
    load_tensors,
    own_tensors,
    save_tensors,
)
from gradscape.storage.epoch_files import EpochFiles
from gradscape.storage.files import decoding, there
from gradscape.storage.run_status import RunStatusFiles

ENDED = ("done", "diverged")  # states that are not run again
T = TypeVar("T")
FlowEpochs = Literal["all", "last"]


@dataclass(frozen=True)
class RunFolder(RunStatusFiles):
    """One run's folder with all that was measured; making the value touches nothing."""

    def has_ended(self, leave_stopped: bool = False) -> bool:
        """Return True if the run is not to be trained any more.

        Args:
            leave_stopped: Whether a run that was stopped early is left as it is.

        Raises:
            StoreError: Its status is damaged, or of another run.
        """
        return self.status()["state"] in ((*ENDED, "stopped") if leave_stopped else ENDED)

    def epoch_files(self) -> EpochFiles:
        """Return the files of its epochs, with the run's identity."""
        return EpochFiles(self.path, self.identity(), self.repeat)

    def append(self, epoch: EpochRecord, flow: FlowHistory) -> None:
        """Add an epoch's lines to their files, or leave both as they were.

        Args:
            epoch: Numbers of the epoch.
            flow: Gradient flow, whose last row is the epoch's.
        """
        self.epoch_files().append(epoch, flow)

    def epochs(self, after: int = 0) -> list[EpochRecord]:
        """Return the numbers of the epochs so far.

        Args:
            after: Number of epochs to leave out.

        Raises:
            StoreError: A line other than a torn last one is damaged, or of another run.
        """
        return self.epochs_as(EpochRecord, after)

    def epochs_as(self, kind: type[T], after: int = 0) -> list[T]:
        """Return the epochs as another type than `EpochRecord`, of fewer fields; see `epochs`.

        Args:
            kind: Type of an epoch.
            after: Number of epochs to leave out.
        """
        if not there(self.metrics):
            return []
        records, intact = self.epoch_files().epochs(kind, after)
        if not intact:
            raise self._damaged(self.metrics, f"line {after + len(records) + 1}")
        return records

    def flow(self, after: int = 0, count: int | None = None) -> FlowHistory | None:
        """Return the gradients of the epochs so far; None where there is none.

        Args:
            after: Number of epochs to leave out.
            count: Number of epochs that have been read already; a running run may have more by now.

        Raises:
            StoreError: A line is damaged, missing, or of another run.
        """
        count = len(self.epochs()) if count is None else count
        if count <= after:
            return None
        files = self.epoch_files()
        flow, rows = files.flow(count, after)
        if rows < count - after:
            raise self._damaged(files.gradients, f"the line of epoch {after + rows + 1}")
        return flow

    def intact(self) -> list[EpochRecord]:
        """Return the epochs before the first of which a line is damaged or missing; a torn last one is none.

        Raises:
            StoreError: A line is of another run, or holds no epoch.
        """
        if not there(self.metrics):
            return []
        files = self.epoch_files()
        records, _ = files.epochs(EpochRecord)
        return records[: files.flow(len(records))[1]]

    def _damaged(self, path: Path, what: str) -> StoreError:
        return StoreError(f"{path}: {what} is damaged; {self.repeat}")

    def keep(self, epochs: int) -> None:
        """Cut the epochs' files back to their first epochs.

        Args:
            epochs: Number of epochs to keep, all of them intact.
        """
        self.epoch_files().keep(epochs)

    def start(self) -> RunStart | None:
        """Return what was measured before the first step, or None."""
        return self._measured("start.json", RunStart)

    def add_start(self, start: RunStart) -> None:
        """Write what was measured before the first step.

        Args:
            start: Gradients and signal.
        """
        self.write("start.json", vars(start))

    def curvature(self) -> dict[str, CurvatureRecord]:
        """Return the curvature per moment (`start`, `end`) at which it was measured."""
        return self._measured("curvature.json", dict[str, CurvatureRecord]) or {}

    def add_curvature(self, moment: str, curvature: CurvatureRecord) -> None:
        """Write the curvature of one moment, beside that of the other.

        Args:
            moment: `start` or `end`.
            curvature: Record of the moment.
        """
        self.write("curvature.json", self.curvature() | {moment: curvature})

    def landscape(self) -> LandscapeRecord | None:
        """Return the loss around the trained weights, or None."""
        return self._measured("landscape.json", LandscapeRecord)

    def add_landscape(self, landscape: LandscapeRecord) -> None:
        """Write the loss around the trained weights.

        Args:
            landscape: Record of it.
        """
        self.write("landscape.json", vars(landscape))

    def noise(self) -> RunNoise | None:
        """Return the gradient's noise after training, or None."""
        return self._measured("noise.json", RunNoise)

    def add_noise(self, noise: RunNoise) -> None:
        """Write the gradient's noise after training.

        Args:
            noise: Record of it.
        """
        self.write("noise.json", vars(noise))

    def _measured(self, name: str, kind: type[T]) -> T | None:
        """Return a record from one of the run's JSON files; None where there is no such file."""
        path = self.path / name
        if not there(path):
            return None
        values = self.read(name)
        with decoding(path, self.repeat):
            return decode(kind, values)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, delete all but it and the one before, and return its path.

        Args:
            checkpoint: Tensors and values of an epoch.
        """
        values = {"epoch": str(checkpoint.epoch), "values": json.dumps(checkpoint.values)}
        header = {"run": self.identity(), **values}
        path = save_tensors(self.checkpoints, epoch_name(checkpoint.epoch), checkpoint.arrays, header)
        earlier = [p for p in self.checkpoint_files() if epoch_of(p) < checkpoint.epoch]
        for old in self.checkpoint_files():
            if old not in (path, *earlier[:1]):
                old.unlink()
        return path

    def checkpoint_files(self) -> list[Path]:
        """Return the paths of checkpoints by name, newest first; not yet verified."""
        return sorted(
            own_tensors(self.checkpoints), key=lambda path: (epoch_of(path), path.name), reverse=True
        )

    def load(self, latest: float = math.inf) -> Checkpoint | None:
        """Return the newest checkpoint whose bytes match its checksum, or None.

        Args:
            latest: Latest epoch that it may be of.

        Raises:
            StoreError: It was written by another gradscape, or is of another run.
        """
        for path in self.checkpoint_files():
            if (loaded := load_tensors(path)) is not None:
                arrays, header = loaded
                with decoding(path):
                    self._require_run(path, header["run"], self.identity())
                    if int(header["epoch"]) <= latest:
                        return Checkpoint(int(header["epoch"]), arrays, json.loads(header["values"]))
        return None

    def save_weights(self, epoch: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a model's tensors after an epoch.

        Args:
            epoch: Number of the epoch; 0 before training.
            arrays: Array per name of the model's tensors.
        """
        header = {"run": self.identity(), "epoch": str(epoch)}
        path = save_tensors(self.weights, epoch_name(epoch), arrays, header)
        for old in own_tensors(self.weights):
            if epoch_of(old) == epoch and old != path:
                old.unlink()

    def kept_weights(self) -> dict[int, Mapping[str, np.ndarray]]:
        """Return the model's tensors that were kept, per epoch.

        Raises:
            StoreError: One is damaged, was written by another gradscape, or is of another run.
        """
        by_epoch: dict[int, Mapping[str, np.ndarray]] = {}
        for path in sorted(own_tensors(self.weights), key=epoch_of):
            if (loaded := load_tensors(path)) is None:
                raise StoreError(f"{path} is damaged: its bytes do not match its name; {self.repeat}")
            with decoding(path, self.repeat):
                self._require_run(path, loaded[1]["run"], self.identity())
                by_epoch[int(loaded[1]["epoch"])] = loaded[0]
        return by_epoch

    def record(self, flows: FlowEpochs = "all") -> RunRecord:
        """Return everything but the tensors; a run whose process was killed is interrupted.

        Args:
            flows: Epochs whose gradients are read, which are nearly all that a run's records hold: `all`, or
                the `last` one.

        Raises:
            StoreError: A file is damaged, missing, or of another run.
        """
        status, config, epochs = self.status(), self.config(), self.epochs()
        state = status.pop("state")
        if state == "done" and len(epochs) != config.epochs:
            raise StoreError(
                f"{self.metrics} is damaged: it holds {len(epochs)} of {config.epochs} epochs; {self.repeat}"
            )
        return RunRecord(
            identity=self.name,
            config=to_dict(config),
            state="interrupted" if state == "running" and not self.held() else state,
            test=status.pop("test", {}),
            status=status,
            epochs=tuple(epochs),
            flow=self.flow(max(0, len(epochs) - 1) if flows == "last" else 0, len(epochs)),
            curvature=self.curvature(),
            landscape=self.landscape(),
            start=self.start(),
            noise=self.noise(),
        )
