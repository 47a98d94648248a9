"""Rows of a watch as JSON lines: a file that any tool reads and in which no half-written line stays."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradscape._codec import encode
from gradscape.errors import StoreError
from gradscape.integrations.sink import ALL, Row, Sink

BEGINNING = re.compile(rb'\{\s*"step"\s*:')  # of every line
BLOCK = 2**20  # bytes to look for the last line's end in at once: a file may be larger than the memory


class JsonLines(Sink):
    """A file with a line for each row: `{"step": 0, "gradient/0.weight/mean_abs": 0.01, …}`.

    Lines are appended to an existing file of such lines, and to no other; a torn last one, of a process that
    died, is cut off. Numbers that are not finite are written as `"NaN"`, `"Infinity"` or `"-Infinity"`,
    because JSON has none.

    Args:
        path: Path of the file; its folder is made.
        statistics: Names of statistics to write, by default all.

    Example:
        >>> with trackers.JsonLines("gradients.jsonl").follow(flow, every=10):
        ...     ...  # train
        >>> trackers.read_jsonl("gradients.jsonl")[-1]["gradient/0.weight/mean_abs"]
    """

    has_quantiles = True

    def __init__(self, path: str | Path, statistics: Sequence[str] = ALL) -> None:
        super().__init__(statistics)
        self.path = Path(path)
        self.file: io.FileIO | None = None

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(self.path)
        self.file = io.FileIO(self.path, "a")  # unbuffered: a line is in the file or it is not

    def _put(self, rows: Sequence[Row]) -> None:
        assert self.file is not None
        data = b"".join(_as_line(step, values) for step, values in rows)
        whole = os.fstat(self.file.fileno()).st_size
        if self.file.write(data) != len(data):  # the disk is full, or a quota used up
            self.file.truncate(whole)
            raise OSError(f"no room for {len(data)} bytes more in {self.path}")

    def _end(self) -> None:
        if self.file is not None:
            self.file.close()

    def __str__(self) -> str:
        return f"JsonLines({str(self.path)!r})"


def _as_line(step: int, values: dict[str, float]) -> bytes:
    plain = encode({"step": step, **values})
    return (json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _cut_torn_line(path: Path) -> None:
    """Shorten a file to its last whole line.

    Raises:
        StoreError: It holds something else: without a newline at its end, all of it could be the torn line.
    """
    if not path.is_file():
        return
    with path.open("r+b") as file:
        head = file.read(64)
        if not (BEGINNING.match(head) or b'{"step":'.startswith(head)):
            raise StoreError(
                f"{path} holds something else than rows of JsonLines; give the path of a new file"
            )
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            end = start if newline < 0 else start + newline + 1
            if newline >= 0:
                break
        if end < size:
            file.truncate(end)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows that `JsonLines` wrote, without a torn last line.

    Args:
        path: Path of the file.

    Raises:
        StoreError: There is no such file, or another line than the last is damaged.

    Example:
        >>> rows = trackers.read_jsonl("gradients.jsonl")
        >>> [row["gradient/0.weight/mean_abs"] for row in rows]
    """
    try:
        *lines, _ = Path(path).read_bytes().split(b"\n")  # after the last newline: nothing, or a torn line
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}; give a file of JsonLines") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append(
                {name: float(value) if isinstance(value, str) else value for name, value in row.items()}
            )
        except (ValueError, AttributeError) as error:
            raise StoreError(
                f"{path}: line {number} is damaged; delete that line to read the rest"
            ) from error
    return rows
