"""Files of a run's epochs: numbers in `metrics.jsonl`, gradients in `gradients.jsonl`.

A line of `metrics.jsonl` is an `EpochRecord`, a few hundred bytes. The first line of `gradients.jsonl` names
the parameter tensors, each further one holds an epoch's `EPOCH_TABLES`, one after the other, as little-endian
float64 in base64: of VGG38 11 kB where decimals take 28, read six times as fast (`benchmarks/codecs.py`).
An epoch's gradients are written before its numbers, so that no epoch counts that lacks them; a line of
gradients behind the last one of numbers, as a kill leaves it, does not count either.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gradscape._codec import decode, encode
from gradscape.errors import StoreError
from gradscape.records.encoding import Values
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs
from gradscape.records.run import EpochRecord
from gradscape.storage.files import append_bytes, decoding, keep_lines, there, whole_lines
from gradscape.storage.json_files import with_checksum, without_checksum

T = TypeVar("T")


@dataclass(frozen=True)
class _Tensors:
    """First line of `gradients.jsonl`: tables of a row, and names, kinds and sizes of the tensors."""

    tables: tuple[str, ...]
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class EpochFiles:
    """The two files of one run.

    Attributes:
        folder: Path of the run's folder.
        run: Identity that every line must have.
        repeat: Way out of a damaged file, for messages.
    """

    folder: Path
    run: str
    repeat: str

    @property
    def metrics(self) -> Path:
        """Path of the numbers."""
        return self.folder / "metrics.jsonl"

    @property
    def gradients(self) -> Path:
        """Path of the gradients."""
        return self.folder / "gradients.jsonl"

    def append(self, epoch: EpochRecord, flow: FlowHistory) -> None:
        """Add an epoch's lines, or leave both files as they were.

        Args:
            epoch: Numbers of the epoch.
            flow: Gradient flow, whose last row is the epoch's.

        Raises:
            StoreError: A file cannot be written.
        """
        numbers = {"epoch": epoch.epoch, "run": self.run, **encode(epoch)}
        before = self.gradients.stat().st_size if there(self.gradients) else 0
        append_bytes(self.gradients, self._flow_lines(epoch.epoch, flow, first=not before))
        try:
            append_bytes(self.metrics, with_checksum(numbers))
        except StoreError:
            with open(self.gradients, "r+b") as file:
                file.truncate(before)
            raise

    def _flow_lines(self, epoch: int, flow: FlowHistory, first: bool) -> bytes:
        """Return the line of an epoch's gradients; before the first, that of the tensors."""
        head = {"run": self.run, **encode(_Tensors(EPOCH_TABLES, flow.layers, flow.kinds, flow.sizes))}
        table = np.array([getattr(flow, name)[-1] for name in EPOCH_TABLES], dtype="<f8")
        text = base64.b64encode(table.tobytes()).decode()
        row = with_checksum({"epoch": epoch, "run": self.run, "flow": text})
        return with_checksum(head) + row if first else row

    def epochs(self, kind: type[T], after: int = 0) -> tuple[list[T], bool]:
        """Return the epochs before the first damaged line, and True if there is none.

        Args:
            kind: Type of an epoch: `EpochRecord`, or one of fewer fields.
            after: Number of epochs to leave out.

        Raises:
            StoreError: A line is of another run, or holds no epoch.
        """
        path, records = self.metrics, list[T]()
        for number, line in _numbered(path, 1 + after):
            with decoding(path, self.repeat):
                values = self._values_of(path, line)
                if values is None or values.get("epoch") != number:
                    return records, False
                records.append(decode(kind, values))
        return records, True

    def flow(self, count: int, after: int = 0) -> tuple[FlowHistory | None, int]:
        """Return the gradients of the epochs before the first damaged line, and the number of those epochs.

        Args:
            count: Number of epochs at most, from the first.
            after: Number of epochs to leave out.

        Raises:
            StoreError: A line is of another run, or holds no gradients.
        """
        path, tables = self.gradients, list[Values]()
        with decoding(path, self.repeat):
            lines = (line for _, line in _numbered(path, 1))
            head = self._values_of(path, next(lines, b""))
            if head is None:
                return None, 0
            tensors: _Tensors = decode(_Tensors, head)
            if tensors.tables != EPOCH_TABLES:
                raise ValueError("it has other tables")
            for epoch, line in enumerate(islice(lines, after, count), 1 + after):
                values = self._values_of(path, line)
                if values is None or values.get("epoch") != epoch:
                    break
                table = np.frombuffer(base64.b64decode(values["flow"], validate=True), dtype="<f8")
                tables.append(table.reshape(len(EPOCH_TABLES), len(tensors.layers)))
            if not tables:
                return None, 0
            epochs = range(1 + after, 1 + after + len(tables))
            flow = flow_of_epochs(tensors.layers, tensors.kinds, tensors.sizes, epochs, np.stack(tables))
        return flow, len(tables)

    def _values_of(self, path: Path, line: bytes) -> dict[str, Any] | None:
        """Return a line's values but for the run; None if it is damaged.

        Raises:
            StoreError: It is of another run.
        """
        values = without_checksum(line)
        if values is not None:
            require_run(path, values.pop("run", None), self.run, self.repeat)
        return values

    def keep(self, epochs: int) -> None:
        """Cut both files back to their first epochs.

        Args:
            epochs: Number of epochs to keep, all of them intact.
        """
        keep_lines(self.metrics, epochs)
        keep_lines(self.gradients, 1 + epochs if epochs else 0)


def _numbered(path: Path, first: int) -> Iterator[tuple[int, bytes]]:
    """Yield a file's intact lines with their numbers, from the line `first`; none where there is no file."""
    return islice(enumerate(whole_lines(path), 1), first - 1, None) if there(path) else iter(())


def require_run(path: Path, found: object, identity: str, cure: str) -> None:
    """Refuse a file of another run.

    Args:
        path: Path of the file, for the message.
        found: Identity in the file.
        identity: Identity that it must have.
        cure: Way out, for the message.

    Raises:
        StoreError: The identities differ.
    """
    if found != identity:
        raise StoreError(f"{path} is of another run, {found}; expected {identity}; {cure}")
