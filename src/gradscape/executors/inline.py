"""One job after the other, in the calling thread: for debuggers and tests."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from gradscape.executors.face import Event, Executor, reason


class Inline(Executor):
    """Does a job while it is submitted."""

    def submit(self, name: str, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tell(Event(name, "started"))
        try:
            result = self.work(job, lambda payload: self.tell(Event(name, "progress", payload)))
        except Exception as error:
            self.fail(future, name, reason(error))
        else:
            self.finish(future, name, result)
        return future

    def close(self) -> None:
        """Nothing is at work."""
