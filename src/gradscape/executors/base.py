"""What all executors have in common: a job is submitted, events tell of it, a future holds its end."""

from __future__ import annotations

import os
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from gradscape.errors import GradscapeError, JobFailed

ATTEMPTS = 3  # of one job without any advance, before its dying workers count as its failure
# How torch, oneDNN, C++ and Linux say it, where no exception of a kind of its own does.
LACKING = ("can't allocate memory", "could not create a primitive", "bad_alloc", "Cannot allocate memory")
BACKOFF = 0.5  # seconds before the second attempt; four times as long before each further one

Report = Callable[[Any], None]


class Work(Protocol):
    """What is done for one job; reports its progress as it goes. Picklable: a module's function."""

    def __call__(self, job: Any, report: Report) -> Any: ...


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        job: its name.
        kind: `started`, `progress`, `died` (its worker; the job is tried again), `finished` or `failed`.
        payload: what was reported or returned, or the reason in one line.
    """

    job: str
    kind: Literal["started", "progress", "died", "finished", "failed"]
    payload: Any = None


Tell = Callable[[Event], None]


class Executor(ABC):
    """Does jobs; a context manager that stops what is left when it is left.

    Args:
        work: done for each job.
        tell: called with every event, in the order of each job; from another thread, maybe.
    """

    def __init__(self, work: Work, tell: Tell = lambda event: None) -> None:
        self.work, self.tell = work, tell

    @abstractmethod
    def submit(self, name: str, job: Any) -> Future[Any]:
        """Have `job` done, after those submitted before.

        Returns:
            A future of what the work returns; it raises `JobFailed` with the reason in one line.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop all work; futures of jobs that have not ended are cancelled."""

    def finish(self, future: Future[Any], name: str, result: Any) -> None:
        future.set_result(result)
        self.tell(Event(name, "finished", result))

    def fail(self, future: Future[Any], name: str, why: str) -> None:
        future.set_exception(JobFailed(f"{name}: {why}"))
        self.tell(Event(name, "failed", why))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pause(attempt: int) -> float:
    """Seconds to wait after so many attempts have failed, 1 or more."""
    return float(BACKOFF * 4 ** (attempt - 1))


def reason(error: BaseException) -> str:
    """One line: users' errors as they read, others with their place."""
    if isinstance(error, GradscapeError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(place.filename)}:{place.lineno})"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, which others that end may give back; torch need not be imported."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(phrase in str(error) for phrase in LACKING)


def outcome(work: Work, job: Any, report: Report) -> tuple[str, Any]:
    """Do a job; `finished` and the result, or why it `failed`, or that it `died` of too little memory."""
    try:
        return "finished", work(job, report)
    except Exception as error:
        why = reason(error)
        return ("died", f"out of memory: {why}") if out_of_memory(error) else ("failed", why)
