"""Base of all executors: a job is submitted, events report on it, a future holds its result."""

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

ATTEMPTS = 3  # attempts at a job without any advance, before dying workers count as its failure
# Messages of torch, oneDNN, C++ and Linux for a lack of memory, where the exception's type does not say it.
LACKING = ("can't allocate memory", "could not create a primitive", "bad_alloc", "Cannot allocate memory")
BACKOFF = 0.5  # seconds before the second attempt; four times as long before each further one

MessageSink = Callable[[Any], None]


class Work(Protocol):
    """Work done for one job, which reports its progress; a function of a module, to be picklable."""

    def __call__(self, job: Any, report: MessageSink) -> Any:
        """Do a job and return its result.

        Args:
            job: Job, as it was submitted.
            report: Function that sends a message on its way.
        """


@dataclass(frozen=True)
class Event:
    """Event in the life of a job.

    Attributes:
        job: Name of the job.
        kind: `started`, `progress`, `died` (its worker; the job is tried again), `finished` or `failed`.
        payload: Reported or returned value, or the reason in one line.
    """

    job: str
    kind: Literal["started", "progress", "died", "finished", "failed"]
    payload: Any = None


EventSink = Callable[[Event], None]


class Executor(ABC):
    """Runner of jobs; a context manager that stops remaining jobs on exit.

    Args:
        work: Function that is called with each job.
        sink: Callback for every event; ordered for each job, and possibly called from another thread.
    """

    def __init__(self, work: Work, sink: EventSink = lambda event: None) -> None:
        self.work, self.sink = work, sink

    @abstractmethod
    def submit(self, name: str, job: Any) -> Future[Any]:
        """Queue a job behind those submitted before.

        Args:
            name: Name of the job, for events and messages.
            job: Argument of the work.

        Returns:
            Future of the work's result; it raises `JobFailed` with the reason in one line.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop all work and cancel the futures of unfinished jobs."""

    def _finish(self, future: Future[Any], name: str, result: Any) -> None:
        future.set_result(result)
        self.sink(Event(name, "finished", result))

    def _fail(self, future: Future[Any], name: str, why: str) -> None:
        future.set_exception(JobFailed(f"{name}: {why}"))
        self.sink(Event(name, "failed", why))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pause(attempt: int) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        attempt: Number of failed attempts, 1 or more.
    """
    return float(BACKOFF * 4 ** (attempt - 1))


def reason(error: BaseException) -> str:
    """Return an error in one line: the message of a GradscapeError, others with type and source line.

    Args:
        error: Exception that was raised.
    """
    if isinstance(error, GradscapeError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(frame.filename)}:{frame.lineno})"


def out_of_memory(error: BaseException) -> bool:
    """Return True for a lack of memory, which jobs that end may give back; works without importing torch.

    Args:
        error: Exception that was raised, perhaps from another one that it describes.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError | OSError) and any(phrase in str(error) for phrase in LACKING):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


def outcome(work: Work, job: Any, report: MessageSink) -> tuple[str, Any]:
    """Do a job and return its end.

    Args:
        work: Function that does it.
        job: Argument of the work.
        report: Callback for its progress.

    Returns:
        `finished` and the result, or `failed` or `died` (out of memory) and the reason in one line.
    """
    try:
        return "finished", work(job, report)
    except Exception as error:
        why = reason(error)
        return ("died", f"out of memory: {why}") if out_of_memory(error) else ("failed", why)
