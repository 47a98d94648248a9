"""Queue, retries and time limits that all supervisors share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from gradscape.executors.base import ATTEMPTS, Event, EventSink, Executor, Work, pause


@dataclass(eq=False)
class Task:
    """Submitted job and its state; times are those of the monotonic clock.

    Attributes:
        attempt: Number of the attempt, from 1; reset whenever the job advances.
        ready: Time from which it may begin.
        deadline: Time by which it has to advance; None for no limit.
        mark: Measure of its advance, such as the epoch.
    """

    name: str
    job: Any
    future: Future[Any] = field(default_factory=Future)
    attempt: int = 1
    ready: float = 0.0
    deadline: float | None = None
    mark: Any = None


class Supervised(Executor):
    """Executor that repeats jobs, at most `ATTEMPTS` times without an advance, with growing delays.

    Args:
        work, sink: See `Executor`.
        limit: Seconds from one mark to the next before the worker is killed; None for no limit.
        mark: Function that extracts a job's advance, such as the epoch, from a report; None if there is none.
    """

    def __init__(self, work: Work, sink: EventSink, limit: float | None, mark: Callable[[Any], Any]) -> None:
        super().__init__(work, sink)
        self.limit, self.mark = limit, mark
        self.waiting: list[Task] = []
        self.given_up = ""
        self.lock = threading.Lock()  # guards `waiting`, the only attribute that two threads write

    def submit(self, name: str, job: Any) -> Future[Any]:
        """Queue a job.

        Args:
            name, job: See `Executor.submit`.
        """
        task = Task(name, job)
        with self.lock:
            self.waiting.append(task)
        if self.given_up:
            self._give_up((), self.given_up)
        return task.future

    def _next_ready(self) -> Task | None:
        """Take the first task that may begin and start its time limit."""
        now = time.monotonic()
        with self.lock:
            index = next((n for n, task in enumerate(self.waiting) if task.ready <= now), None)
            task = None if index is None else self.waiting.pop(index)
        if task is not None:
            self._extend(task)
        return task

    def _put_back(self, task: Task) -> None:
        with self.lock:
            self.waiting.insert(0, task)

    def _extend(self, task: Task) -> None:
        task.deadline = None if self.limit is None else time.monotonic() + self.limit

    def _progress(self, task: Task, payload: Any) -> None:
        if (mark := self.mark(payload)) not in (None, task.mark):
            task.mark, task.attempt = mark, 1
            self._extend(task)
        self.sink(Event(task.name, "progress", payload))

    def _is_hung(self, task: Task) -> bool:
        return task.deadline is not None and task.deadline <= time.monotonic()

    def _retry(self, task: Task, why: str) -> None:
        """Schedule another attempt, or fail the job after the last."""
        if task.attempt >= ATTEMPTS:
            self._fail(task.future, task.name, f"{why}, {ATTEMPTS} times")
            return
        task.ready = time.monotonic() + pause(task.attempt)
        task.attempt += 1
        self._put_back(task)
        self.sink(Event(task.name, "died", why))

    def _give_up(self, running: Iterable[Task], why: str) -> None:
        """Fail all jobs, including future ones: callers that wait for them must learn of it."""
        self.given_up = why
        with self.lock:
            waiting, self.waiting = self.waiting, []
        for task in (*running, *waiting):
            self._fail(task.future, task.name, why)

    def _hung_message(self) -> str:
        return f"its worker hung: no progress within {self.limit:g} s"
