"""Jobs side by side in threads of this process: for work that a GPU does.

One process has one context on the GPU, in which runs overlap; those of several would take turns.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gradscape.executors.base import ATTEMPTS, Event, Executor, Tell, Work, outcome, pause


class Threads(Executor):
    """At most `workers` jobs at once; closing raises KeyboardInterrupt in a thread's next report.

    A job that found too little memory is tried again. Nothing else can be survived here: a crash takes the
    process, and a thread that hangs cannot be ended.
    """

    def __init__(self, work: Work, workers: int, tell: Tell = lambda event: None) -> None:
        super().__init__(work, tell)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self.stopping = threading.Event()

    def submit(self, name: str, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.pool.submit(self.serve, future, name, job)
        return future

    def serve(self, future: Future[Any], name: str, job: Any) -> None:
        def report(payload: Any) -> None:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            self.tell(Event(name, "progress", payload))

        for attempt in range(1, ATTEMPTS + 1):
            self.tell(Event(name, "started"))
            try:
                kind, payload = outcome(self.work, job, report)
            except KeyboardInterrupt:
                future.cancel()
                return
            if kind == "died" and attempt < ATTEMPTS:
                self.tell(Event(name, "died", payload))
                if not self.stopping.wait(pause(attempt)):
                    continue
            if kind == "finished":
                self.finish(future, name, payload)
            else:
                self.fail(future, name, payload)
            return

    def close(self) -> None:
        self.stopping.set()
        self.pool.shutdown(cancel_futures=True)
