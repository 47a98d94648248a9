"""Concurrent jobs in threads of this process, for work on a GPU.

Runs of one process share one context on the GPU and overlap; those of several processes would take turns.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gradscape.executors.base import ATTEMPTS, Event, EventSink, Executor, Work, outcome, pause


class Threads(Executor):
    """Executor of at most `workers` jobs at once; closing raises KeyboardInterrupt in a job's next report.

    A job that runs out of memory is tried again. Other faults are fatal: a crash ends the process, and a hung
    thread cannot be stopped.

    Args:
        work, sink: See `Executor`.
        workers: Number of threads, 1 or more.
    """

    def __init__(self, work: Work, workers: int, sink: EventSink = lambda event: None) -> None:
        super().__init__(work, sink)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self.stopping = threading.Event()

    def submit(self, name: str, job: Any) -> Future[Any]:
        """Queue a job.

        Args:
            name, job: See `Executor.submit`.
        """
        future: Future[Any] = Future()
        place = self.pool.submit(self._serve, future, name, job)
        # Cancelled while it was still in the queue.
        place.add_done_callback(lambda done: done.cancelled() and future.cancel())
        return future

    def _serve(self, future: Future[Any], name: str, job: Any) -> None:
        def report(payload: Any) -> None:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            self.sink(Event(name, "progress", payload))

        for attempt in range(1, ATTEMPTS + 1):
            self.sink(Event(name, "started"))
            try:
                kind, payload = outcome(self.work, job, report)
            except KeyboardInterrupt:
                future.cancel()
                return
            if kind == "died" and attempt < ATTEMPTS:
                self.sink(Event(name, "died", payload))
                if not self.stopping.wait(pause(attempt)):
                    continue
            if kind == "finished":
                self._finish(future, name, payload)
            else:
                self._fail(future, name, payload)
            return

    def close(self) -> None:
        """See `Executor.close`."""
        self.stopping.set()
        self.pool.shutdown(cancel_futures=True)
