"""Run any callable over many jobs: one after the other, or side by side in processes or in threads.

All yield the same `Event`s. A worker process that dies takes nothing but its own job's current work with it:
the job is given to a new worker, which goes on from what the job had stored. (`ProcessPoolExecutor` loses
every task when one worker is killed.)
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from gradscape.errors import GradscapeError

ATTEMPTS = 3  # of one job, before its dying workers count as its failure

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


def run_inline(work: Work, jobs: Mapping[str, Any]) -> Generator[Event]:
    """One after the other in this process; progress is not seen. For tests and debuggers."""
    for name, job in jobs.items():
        yield Event(name, "started")
        try:
            result = work(job, lambda payload: None)
        except Exception as error:
            yield Event(name, "failed", reason(error))
        else:
            yield Event(name, "finished", result)


def run_processes(
    work: Work, jobs: Mapping[str, Any], workers: int, preload: tuple[str, ...] = ()
) -> Generator[Event]:
    """Side by side, each job in a process of its own, at most `workers` at once.

    Closing the iterator (or Ctrl-C) stops the workers; they also stop by themselves when this process
    is killed.

    Args:
        work: done for each job.
        jobs: name → job, begun in this order.
        workers: how many at once, 1 or more.
        preload: modules that the server which forks the workers imports once for all of them.

    Yields:
        Events as they come; every job ends in `finished` or `failed`.
    """
    context = worker_context(preload)
    start_server(context)
    waiting = [(name, 1) for name in jobs]
    running: dict[Connection, Worker] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, attempt = waiting.pop(0)
                with interrupts_later():  # or the fork server is left half-way, the worker not known of
                    worker = Worker.start(context, work, name, jobs[name], attempt)
                    running[worker.connection] = worker
                yield Event(name, "started")
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                worker = running[connection]
                event = worker.receive()
                if event.kind != "progress":
                    del running[connection]
                    worker.stop()
                if event.kind == "died" and worker.attempt < ATTEMPTS:
                    waiting.insert(0, (worker.name, worker.attempt + 1))
                elif event.kind == "died":
                    event = Event(worker.name, "failed", f"{event.payload}, {ATTEMPTS} times")
                yield event
    finally:
        for worker in running.values():
            worker.stop()


def run_threads(work: Work, jobs: Mapping[str, Any], workers: int) -> Generator[Event]:
    """Side by side in threads of this process, at most `workers` at once: for work that a GPU does.

    One process has one context on the GPU, in which runs overlap; those of several would take turns.
    Closing the iterator (or Ctrl-C) raises KeyboardInterrupt in the other threads' next report.

    Yields:
        Events as they come; every job ends in `finished` or `failed`.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    stopping = threading.Event()

    def serve_thread(name: str) -> None:
        def report(payload: Any) -> None:
            if stopping.is_set():
                raise KeyboardInterrupt
            events.put(Event(name, "progress", payload))

        try:
            event = Event(name, "finished", work(jobs[name], report))
        except KeyboardInterrupt:
            return
        except Exception as error:
            event = Event(name, "failed", reason(error))
        events.put(event)

    waiting, running = list(jobs), dict[str, threading.Thread]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name = waiting.pop(0)
                running[name] = threading.Thread(target=serve_thread, args=(name,), name=name)
                running[name].start()
                yield Event(name, "started")
            event = events.get()
            if event.kind != "progress":
                running.pop(event.job).join()
            yield event
    finally:
        stopping.set()
        for thread in running.values():
            thread.join()


@dataclass(frozen=True)
class Worker:
    """A process at work on one job, and the pipe it reports through."""

    name: str
    attempt: int
    process: BaseProcess
    connection: Connection

    @classmethod
    def start(cls, context: BaseContext, work: Work, name: str, job: Any, attempt: int) -> Worker:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(work, job, theirs), name=name)  # type: ignore[attr-defined]
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return cls(name, attempt, process, ours)

    def receive(self) -> Event:
        try:
            kind, payload = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Event(self.name, "died", f"its worker died ({cause(self.process.exitcode)})")
        return Event(self.name, kind, payload)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


def worker_context(preload: tuple[str, ...]) -> BaseContext:
    """A fork server where there is one: it imports torch once, single-threaded, for all workers."""
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def start_server(context: BaseContext) -> None:
    """Start the fork server deaf to Ctrl-C, which a terminal sends to every process of the command."""
    if (
        context.get_start_method() != "forkserver"
        or threading.current_thread() is not threading.main_thread()
    ):
        return
    from multiprocessing.forkserver import ensure_running

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by the server
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Ctrl-C waits until the block is done."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which has no fork server either
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(work: Work, job: Any, connection: Connection) -> None:
    """The worker's whole life: do the job, report, say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers
    threading.Thread(target=follow_parent, daemon=True).start()
    try:
        result = work(job, lambda payload: connection.send(("progress", payload)))
    except Exception as error:
        connection.send(("failed", reason(error)))
    else:
        connection.send(("finished", result))


def follow_parent() -> None:
    """Die with the parent: a killed command must not leave workers writing."""
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def reason(error: Exception) -> str:
    """One line: users' errors as they read, others with their place."""
    if isinstance(error, GradscapeError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({os.path.basename(place.filename)}:{place.lineno})"


def cause(exitcode: int | None) -> str:
    """`SIGKILL; out of memory?` or `exit code 1`."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}; out of memory?" if name == "SIGKILL" else name
    return f"exit code {exitcode}"
