"""Numbers of `metrics.jsonl` without reading it: a line's first few hundred bytes hold them.

The gradient flow of each layer, which follows, is most of a line: 25 kB of a VGG38's. Lines of one run are
about as long as each other, so that the next one is found by a look at where it must begin. What is found is
checked: a line says its epoch and its run, its numbers have a checksum of their own, and of the last line the
whole line's is computed too.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscape.errors import StoreError
from gradscape.storage.files import checksum_holds, head_holds

HEAD = 1_024  # bytes that a line's numbers are looked for in at first
NEAR = 2_048  # bytes beside the place a line is expected at, from one line to the next
FAR = 32_768  # likewise across many lines
TAIL = 65_536  # bytes at the end that the last line is looked for in at first
NUMBERS = ("train_accuracy", "valid_accuracy", "seconds")
Numbers = dict[str, Any]  # an `EpochRecord`'s fields but the flow and what follows it


@dataclass(frozen=True)
class Heads:
    """An open `metrics.jsonl` as it was when opened; `open_heads` makes it.

    Attributes:
        path: for messages.
        run: the identity of the run that it is to be of.
        file: open for reading, without a buffer.
        starts: where the first and the last whole line begin.
        last: the numbers of the last whole line; empty where there is none.
    """

    path: Path
    run: str
    file: io.FileIO
    starts: tuple[int, int]
    last: Numbers

    @property
    def count(self) -> int:
        return int(self.last.get("epoch", 0))

    def all(self) -> Iterator[Numbers]:
        """The numbers of every epoch, in order.

        Raises:
            StoreError: a line is missing or damaged.
        """
        start, length = 0, 0
        for epoch in range(1, self.count):
            found = self.find(epoch, start + length, NEAR)
            yield head(self.path, self.run, self.file, found, epoch)
            # The first line's length is not known yet: that of a run's mean line is near it.
            length = found - start if epoch > 1 else self.starts[1] // (self.count - 1)
            start = found
        if self.count:
            yield self.last

    def at(self, epoch: int) -> Numbers:
        """The numbers of one epoch.

        Raises:
            StoreError: its line is missing or damaged.
        """
        if epoch == self.count:
            return self.last
        guess = self.starts[1] * (epoch - 1) // max(self.count - 1, 1)
        return head(self.path, self.run, self.file, self.find(epoch, guess, FAR), epoch)

    def find(self, epoch: int, guess: int, beside: int) -> int:
        """Where an epoch's line begins: near the guess, or else wherever it is."""
        if epoch == 1:
            return 0
        wanted, whole = b'\n{"epoch": %d,' % epoch, self.starts[1] + HEAD
        for reach in (beside, FAR, whole):
            low = max(0, guess - reach)
            place = peek(self.file, low, 2 * reach).find(wanted)
            if place >= 0:
                return low + place + 1
        raise damaged(self.path, epoch)


def open_heads(path: Path, run: str, file: io.FileIO) -> Heads:
    """Look at a `metrics.jsonl`; a torn last line does not count.

    Args:
        path: for messages.
        run: the identity of the run that it is to be of.
        file: open for reading.

    Raises:
        StoreError: the last whole line is damaged, or of another run.
    """
    size, span = os.fstat(file.fileno()).st_size, TAIL
    while True:
        low = max(0, size - span)
        data = peek(file, low, size - low)
        end = data.rfind(b"\n")
        start = data.rfind(b"\n", 0, max(end, 0)) + 1
        if start or low == 0:
            break
        span *= 4
    if end < 0:
        return Heads(path, run, file, (0, 0), {})
    if not checksum_holds(data[start:end]):
        raise damaged(path, None)
    return Heads(path, run, file, (0, low + start), head(path, run, file, low + start, None))


def peek(file: io.FileIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def head(path: Path, run: str, file: io.FileIO, start: int, epoch: int | None) -> Numbers:
    """The numbers at the beginning of a line."""
    for length in (HEAD, 64 * HEAD):
        text, flow, _ = peek(file, start, length).partition(b', "flow": {')
        if flow and head_holds(text):
            with suppress(ValueError, RecursionError):
                values: Numbers = json.loads(text + b"}")
                if are_numbers(values) and epoch in (None, values["epoch"]):
                    if values.get("run") != run:
                        raise damaged(path, epoch, f"of another run, {values.get('run')}")
                    return values
    raise damaged(path, epoch)


def are_numbers(values: Numbers) -> bool:
    return type(values.get("epoch")) is int and all(isinstance(values.get(n), float | int) for n in NUMBERS)


def damaged(path: Path, epoch: int | None, how: str = "damaged") -> StoreError:
    which = "the last line" if epoch is None else f"line {epoch}"
    return StoreError(
        f"{path}: {which} is {how}; delete the folder {path.parent} "
        "and give the same command again to repeat this run"
    )
