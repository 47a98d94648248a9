"""An executor that does one job after the other in the calling thread."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from gradscape.executors.base import Event, Executor, outcome


class Inline(Executor):
    """Does a job while it is submitted."""

    def submit(self, name: str, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.sink(Event(name, "started"))
        kind, payload = outcome(self.work, job, lambda said: self.sink(Event(name, "progress", said)))
        if kind == "finished":
            self._finish(future, name, payload)
        else:
            self._fail(future, name, payload)
        return future

    def close(self) -> None:
        """Nothing is at work."""
