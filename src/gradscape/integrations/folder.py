"""A watch's rows in a folder of its own, which the live page and other commands read."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gradscape.errors import ConfigError, StoreError, failure_of, first_line
from gradscape.integrations.sink import ALL, Row, Sink
from gradscape.measure.watch.watch import Watch
from gradscape.storage.watch_folder import WatchWriter

PAUSE = 1.0  # seconds from one writing to the next, at least
SHARE = 0.01  # of the training's time that writing may take
LONGEST = (
    30.0  # seconds from one writing to the next, at most: a busy disk for once is no reason to fall silent
)


class Folder(Sink):
    """A folder with everything that a watch reads, followed by `gradscape live` while the training goes on.

    It is written about once a second, or as seldom as keeps it below 1 % of the training's time, and when the
    watch is closed, is no longer used, or the process ends. An error that leaves a `with` block of the watch
    or of the folder, or that nothing has caught when the process ends, is kept as the reason. On disk it
    stays below 40 MB, and with distributions below 80: older rows are thinned.

    Args:
        path: Path of the folder, which must be empty or new.
        name: Name of the training, by default the model's class.

    Example:
        >>> with Folder("watches/first").follow(flow):
        ...     ...  # train; meanwhile, elsewhere: gradscape live watches
    """

    def __init__(self, path: str | Path, name: str = "") -> None:
        super().__init__(ALL)
        self.path, self.name = Path(path), name
        self.writer: WatchWriter | None = None
        self.due = 0.0
        self.clock: Callable[[], float] = time.monotonic
        self.process, self.reason = os.getpid(), ""

    def follow(self, flow: Watch, every: int = 1, first: int = 0) -> Self:
        """Write what is new from now on, and the rest when the sink or the watch ends.

        Args:
            flow: Watch returned by `gradscape.watch`.
            every: Number of steps after which it looks whether it is time to write.
            first: Number of the watch's first step; a folder counts from 0 all the same.

        Raises:
            ConfigError: `every` is below 1, or the watch has ended.
            StoreError: The folder is not empty, or cannot be made.
        """
        if (self.path / "watch.json").exists():
            raise StoreError(f"{self.path} holds a watch already; give the path of a new folder")
        super().follow(flow, every, first)
        if self.writes:
            self.writer = WatchWriter(self.path, self.name or flow.model_name, time.time())
            self.opened = True
            atexit.register(_end_with_process, weakref.ref(self))
        return self

    def close(self) -> None:
        """Write the rest of the followed watch; once, and not in processes forked from the training's."""
        if self.opened and self.process == os.getpid():
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reason = failure_of(error)
        self.close()

    def __del__(self) -> None:
        """Write the rest of a watch that nobody has closed, as of a function that has returned."""
        with contextlib.suppress(Exception):  # such as: it was never made
            self.close()

    def _write_new(self, rest: bool) -> None:
        now = self.clock()
        assert self.flow is not None
        crowded = self.flow.rows - self.written >= self.flow.capacity // 2
        if now < self.due and not crowded and not rest:
            return
        if self.writer is None:
            raise ConfigError("a folder is not written once: follow a watch")
        new = self._unwritten(rest)
        error = self.flow.error or self.reason or self.flow.failure
        state = "failed" if error else "ended" if rest else "running"
        self.writer.write(
            new,
            self.flow.history,
            state=state,
            error=error,
            step=self.flow.steps,
            written=time.time(),
        )
        self.due = now + min(LONGEST, max(PAUSE, (self.clock() - now) / SHARE))

    def _begin(self) -> None:
        """Make nothing: the folder is made when the watch is followed."""

    def _put(self, rows: Sequence[Row]) -> None:
        raise ConfigError("a folder takes no rows of its own: follow a watch")

    def _end(self) -> None:
        """Close nothing: every writing is whole."""

    def __str__(self) -> str:
        return f"Folder({str(self.path)!r})"


def _end_with_process(reference: weakref.ref[Folder]) -> None:
    """Write the rest of a watch that is open when the process ends, and what ended it."""
    folder = reference()
    if folder is not None:
        folder.reason = _uncaught()
        folder.close()


def _uncaught() -> str:
    """Return the error that ends the process; empty if none does, as in a shell, which survives errors."""
    error = getattr(sys, "last_value", None)
    shell = hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")
    return "" if error is None or shell else first_line(error)
