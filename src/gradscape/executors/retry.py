"""What supervisors have in common: what waits, what is tried again, and when a job counts as hung."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from gradscape.executors.base import ATTEMPTS, Event, Executor, Tell, Work, pause


@dataclass(eq=False)
class Task:
    """A job on its way; moments are of the monotonic clock.

    Attributes:
        attempt: from 1; begins anew whenever the job advances.
        ready: when it may begin.
        deadline: when it is to have advanced; None for never.
        mark: how far it has come.
    """

    name: str
    job: Any
    future: Future[Any] = field(default_factory=Future)
    attempt: int = 1
    ready: float = 0.0
    deadline: float | None = None
    mark: Any = None


class Supervised(Executor):
    """Jobs that are tried again, at most `ATTEMPTS` times without an advance, each time later.

    Args:
        work, tell: see `Executor`.
        limit: seconds a job may take from one mark to the next before its worker is killed.
        mark: of what a job reports, how far it has come, such as the epoch; None where that says nothing.
    """

    def __init__(self, work: Work, tell: Tell, limit: float | None, mark: Callable[[Any], Any]) -> None:
        super().__init__(work, tell)
        self.limit, self.mark = limit, mark
        self.waiting: list[Task] = []
        self.given_up = ""
        self.lock = threading.Lock()  # of `waiting`, the one thing that two threads write

    def submit(self, name: str, job: Any) -> Future[Any]:
        task = Task(name, job)
        with self.lock:
            self.waiting.append(task)
        if self.given_up:
            self.give_up((), self.given_up)
        return task.future

    def next_ready(self) -> Task | None:
        """The first that waits and may begin; its time runs."""
        now = time.monotonic()
        with self.lock:
            place = next((n for n, task in enumerate(self.waiting) if task.ready <= now), None)
            task = None if place is None else self.waiting.pop(place)
        if task is not None:
            self.extend(task)
        return task

    def put_back(self, task: Task) -> None:
        with self.lock:
            self.waiting.insert(0, task)

    def extend(self, task: Task) -> None:
        task.deadline = None if self.limit is None else time.monotonic() + self.limit

    def progressed(self, task: Task, payload: Any) -> None:
        if (mark := self.mark(payload)) not in (None, task.mark):
            task.mark, task.attempt = mark, 1
            self.extend(task)
        self.tell(Event(task.name, "progress", payload))

    def hung(self, task: Task) -> bool:
        return task.deadline is not None and task.deadline <= time.monotonic()

    def again(self, task: Task, why: str) -> None:
        """Try a job anew, or give it up."""
        if task.attempt >= ATTEMPTS:
            self.fail(task.future, task.name, f"{why}, {ATTEMPTS} times")
            return
        task.ready = time.monotonic() + pause(task.attempt)
        task.attempt += 1
        self.put_back(task)
        self.tell(Event(task.name, "died", why))

    def give_up(self, running: Iterable[Task], why: str) -> None:
        """Fail everything, also what comes: whoever waits for it must hear of it."""
        self.given_up = why
        with self.lock:
            waiting, self.waiting = self.waiting, []
        for task in (*running, *waiting):
            self.fail(task.future, task.name, why)

    def hung_words(self) -> str:
        return f"its worker hung: nothing came of {self.limit:g} s of work"
