"""Folder of a watch, written while it trains and read by pages and commands.

    DIR/watch.json       what is watched: layers, optimizers, notes, readings of the loss; name and state
    DIR/rows-3.jsonl     a line for each row: gradients, updates and outputs of every layer
    DIR/loss-3.jsonl     lines with the losses of steps
    DIR/distributions-3.jsonl   a line for each reading of distributions, if there are any

`watch.json` is replaced whole and names the others by their number. Lines are appended, each with a
checksum; a torn last one does not count. When the rows have come to `LARGEST` bytes, every second one of the
older half is left out, and files of the next number begin, with the losses and distributions that are in
memory; so it is when the distributions have come to as much, the losses to `LOSSES`, or parameters are added.
Nothing waits for the disk: the training is not slowed, and after a power cut the last seconds may be missing.
No torch here: a page follows a training from its folder alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import decode, encode, finite_or_not
from gradscape.errors import StoreError
from gradscape.records.distributions import DistributionHistory, readings_after
from gradscape.records.encoding import Values
from gradscape.records.gradients import FlowHistory
from gradscape.records.loss import LossHistory
from gradscape.storage.files import (
    append_bytes,
    decoding,
    explained,
    make_folder,
    reading,
    refuse_foreign,
    refuse_link,
    require_file,
    there,
    whole_lines,
    write_bytes,
)
from gradscape.storage.json_files import read_json, with_checksum, without_checksum, write_json
from gradscape.storage.watch_lines import (
    WatchRow,
    distribution_line,
    joined_distributions,
    joined_history,
    layers_of_outputs,
    packed,
    row_line,
    row_of,
    unpacked,
    without_rows,
)

LARGEST = 2**25  # bytes of rows, after which older ones are thinned
LOSSES = 2**22  # bytes of losses, after which the file begins anew with those in memory
ROOM = 0.75  # share of these that thinning leaves
FEWEST = 100  # rows that are kept in any case
AWAY = "delete the folder to be rid of it; the training is not touched"


@dataclass(frozen=True)
class WatchInfo:
    """Contents of `watch.json` beside the history.

    Attributes:
        name: Name of the watch, such as the model's class.
        state: `running`, `ended`, or `failed` if an error ended the watch.
        error: Error that ended it; empty if none did.
        step: Number of steps of the training so far.
        host, process: Machine and number of the process that writes.
        began, written: Times of the first and the last writing, in seconds since 1970.
        number: Number of the files of rows and losses; 0 before the first.
    """

    name: str
    state: Literal["running", "ended", "failed"] = "running"
    error: str = ""
    step: int = 0
    host: str = ""
    process: int = 0
    began: float = 0.0
    written: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class _Contents:
    """Contents of `watch.json`: the history is without rows and losses."""

    info: WatchInfo
    history: FlowHistory


@dataclass(frozen=True)
class WatchFolder:
    """Names of the files of a watch's folder.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    @property
    def head(self) -> Path:
        """Path of `watch.json`."""
        return self.path / "watch.json"

    def rows(self, number: int) -> Path:
        """Return the path of a file of rows.

        Args:
            number: Number of the file.
        """
        return self.path / f"rows-{number}.jsonl"

    def losses(self, number: int) -> Path:
        """Return the path of a file of losses.

        Args:
            number: Number of the file.
        """
        return self.path / f"loss-{number}.jsonl"

    def distributions(self, number: int) -> Path:
        """Return the path of a file of distributions.

        Args:
            number: Number of the file.
        """
        return self.path / f"distributions-{number}.jsonl"

    def lines(self, number: int) -> tuple[Path, Path, Path]:
        """Return the paths of all files of lines.

        Args:
            number: Number of the files.
        """
        return self.rows(number), self.losses(number), self.distributions(number)


class WatchWriter:
    """Writer of a watch's folder.

    Args:
        path: Path of the folder, which is made; it must be empty.
        name: Name of the watch.
        now: Time, in seconds since 1970.
        largest: Number of bytes of rows after which older ones are thinned.

    Raises:
        StoreError: The folder is not empty, or cannot be made.
    """

    def __init__(self, path: Path, name: str, now: float, largest: int = LARGEST) -> None:
        refuse_link(path)
        refuse_foreign(path, "watch")
        make_folder(path)
        self.folder, self.largest = WatchFolder(path), largest
        with explained(path), open(self.folder.rows(1), "xb"):  # of two at once the second is refused
            pass
        self.info = WatchInfo(name, host=socket.gethostname(), process=os.getpid(), began=now)
        self.layers: tuple[tuple[str, ...], ...] = ()
        self.size, self.last_loss = 0, -1
        self.distribution_size, self.last_distribution, self.loss_size = 0, -1, 0

    def write(self, new: FlowHistory, whole: Callable[[], FlowHistory], **changes: Any) -> None:
        """Add rows and losses.

        Args:
            new: History of the rows that were read since the last time, with all losses and distributions.
            whole: Function that returns the history of all rows in memory, with which files of the next
                number begin if layers were added.
            changes: Fields of `WatchInfo` that have changed, such as `step` and `written`.

        Raises:
            StoreError: A file cannot be written.
        """
        number = self.info.number
        layers = (new.layers, *layers_of_outputs(new))
        if layers != self.layers:
            new = whole() if number else new
            self._begin(number + 1, b"")
            self.layers = layers
        lines = [row_line(new, place) for place in range(len(new.steps))]
        full = max(self.size + sum(map(len, lines)), self.distribution_size) > self.largest
        if full or self.loss_size > LOSSES:
            self._begin(self.info.number + 1, b"".join(self._thinned(lines)))
            lines = []
        self._append(b"".join(lines), new.loss)
        self._append_distributions(new.distributions)
        self.info = replace(self.info, **changes)
        head = _Contents(self.info, without_rows(new))
        write_json(self.folder.head, encode(head), durable=False)
        for old in range(max(1, number), self.info.number):
            for path in self.folder.lines(old):
                path.unlink(missing_ok=True)

    def _begin(self, number: int, rows: bytes) -> None:
        """Begin files of another number; readers go on with the old ones until `watch.json` names these."""
        write_bytes(self.folder.rows(number), rows, durable=False)
        write_bytes(self.folder.losses(number), b"", durable=False)
        self.info = replace(self.info, number=number)
        self.size, self.last_loss = len(rows), -1
        self.distribution_size, self.last_distribution, self.loss_size = 0, -1, 0

    def _thinned(self, new: list[bytes]) -> list[bytes]:
        """Return the lines of all rows, without every second one of the older half until there is room."""
        rows = self.folder.rows(self.info.number)
        lines = [*(line + b"\n" for line in whole_lines(rows)), *new]
        while sum(map(len, lines)) > ROOM * self.largest and len(lines) > FEWEST:
            half = len(lines) // 2
            lines = [*lines[:half:2], *lines[half:]]
        return lines

    def _append(self, lines: bytes, loss: LossHistory | None) -> None:
        append_bytes(self.folder.rows(self.info.number), lines, durable=False)
        self.size += len(lines)
        if loss is not None and len(loss.steps) and loss.steps[-1] > self.last_loss:
            new = loss.steps > self.last_loss
            values = {"steps": packed(loss.steps[new], "<i8"), "values": packed(loss.values[new], "<f8")}
            line = with_checksum(values)
            append_bytes(self.folder.losses(self.info.number), line, durable=False)
            self.loss_size += len(line)
            self.last_loss = int(loss.steps[-1])

    def _append_distributions(self, history: DistributionHistory | None) -> None:
        if history is None:
            return
        new = readings_after(history, self.last_distribution)
        lines = b"".join(distribution_line(new, place) for place in range(len(new.steps)))
        append_bytes(self.folder.distributions(self.info.number), lines, durable=False)
        self.distribution_size += len(lines)
        self.last_distribution = int(max(new.steps, default=self.last_distribution))


class WatchReader:
    """Reader of a watch's folder, which reads only what is new.

    Args:
        path: Path of the folder.

    Example:
        >>> reader = WatchReader(Path("watches/Net-1"))
        >>> reader.poll()
        >>> print(gs.diagnose(reader.history))
    """

    def __init__(self, path: Path) -> None:
        self.folder = WatchFolder(path)
        self.info = WatchInfo("")
        self._bare: FlowHistory | None = None
        self._stamp: tuple[int, int] | None = None
        self._rows: list[WatchRow] = []
        self._losses: list[tuple[NDArray[np.int64], Values]] = []
        self._distributions: list[tuple[int, Values]] = []
        self._offsets = [0, 0, 0]
        self._absent: tuple[int, int] | None = None  # `watch.json` whose other files were not there

    def poll(self) -> bool:
        """Read what is new, and return whether there was anything.

        Raises:
            StoreError: There is no watch, or it is damaged.
        """
        path = self.folder.head
        with reading(path):
            status = path.stat()
        if self._stamp == (status.st_mtime_ns, status.st_size):
            return False
        contents = self._head()
        if contents.info.number != self.info.number:
            self._forget()
        try:
            self._read_new(contents)
        except FileNotFoundError as error:
            self._forget()
            if self._absent == (stamp := (status.st_mtime_ns, status.st_size)):
                raise StoreError(f"{error.args[0]} is missing; {AWAY}") from None
            self._absent = (
                stamp  # files of the next number may have begun meanwhile: the next poll reads them
            )
            return False
        self.info, self._bare = contents.info, contents.history
        self._stamp = (status.st_mtime_ns, status.st_size)
        return True

    def _forget(self) -> None:
        self._rows, self._losses, self._distributions, self._offsets = [], [], [], [0, 0, 0]

    def _head(self) -> _Contents:
        path = self.folder.head
        values = finite_or_not(read_json(path, AWAY))
        with decoding(path, AWAY):
            found: _Contents = decode(_Contents, values)
            return found

    def _read_new(self, contents: _Contents) -> None:
        number = contents.info.number
        if contents.history.distributions is not None:
            for values in self._new_lines(2, self.folder.distributions(number)):
                self._distributions.append((int(values["step"]), unpacked(values["tables"], "<f4")))
        for values in self._new_lines(0, self.folder.rows(number)):
            self._rows.append(row_of(values))
        for values in self._new_lines(1, self.folder.losses(number)):
            self._losses.append((unpacked(values["steps"], "<i8"), unpacked(values["values"], "<f8")))

    def _new_lines(self, which: int, path: Path) -> Iterable[dict[str, Any]]:
        """Return the values of the lines that have been added to a file."""
        if not there(path):
            raise FileNotFoundError(path)
        require_file(path, 4 * LARGEST)
        with reading(path), open(path, "rb") as file:
            file.seek(self._offsets[which])
            data = file.read()
        end = data.rfind(b"\n") + 1
        found = [without_checksum(line) for line in data[:end].splitlines()]
        if None in found:
            raise StoreError(f"{path} is damaged: line {found.index(None) + 1} of the last read; {AWAY}")
        self._offsets[which] += end
        return [each for each in found if each is not None]

    @property
    def history(self) -> FlowHistory:
        """History of all rows that have been read.

        Raises:
            StoreError: Nothing has been read, or rows do not fit the layers.
        """
        if self._bare is None:
            raise StoreError(f"{self.folder.path} has not been read yet")
        with decoding(self.folder.rows(self.info.number), AWAY):
            quantiles = joined_distributions(self._bare.distributions, self._distributions)
            found = joined_history(self._bare, self._rows, self._losses)
        return replace(found, distributions=quantiles)


def is_watch(folder: Path) -> bool:
    """Return True for the folder of a watch; False for one that may not be read, too.

    Args:
        folder: Path of the folder.
    """
    return os.path.isfile(WatchFolder(folder).head)


def read_watch(folder: Path) -> FlowHistory:
    """Read the folder of a watch.

    Args:
        folder: Path of the folder.

    Raises:
        StoreError: It is damaged, or its rows are not there yet.
    """
    reader = WatchReader(folder)
    reader.poll()
    return reader.history
