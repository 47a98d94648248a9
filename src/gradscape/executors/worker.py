"""Worker process: started by a fork server, does job after job, dies with its parent."""

from __future__ import annotations

import errno
import multiprocessing as mp
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from gradscape.executors.base import Work, outcome


@dataclass(eq=False)
class Worker:
    """Process and the pipe to it."""

    process: BaseProcess
    connection: Connection

    @classmethod
    def start(cls, context: BaseContext, work: Work) -> Worker:
        """Start a worker.

        Args:
            context: Result of `worker_context`.
            work: Function that is called with each job.

        Raises:
            OSError: If the limit of processes or files is reached, or the fork server dies meanwhile; the
                next start begins another server.
        """
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(work, theirs))  # type: ignore[attr-defined]
        try:
            process.start()
        except EOFError as error:  # from the server
            ours.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "the server that forks workers died") from error
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()  # so that the pipe ends when the worker does
        return cls(process, ours)

    def send(self, job: Any) -> None:
        """Send a job to the worker.

        Args:
            job: Argument of the work.
        """
        try:
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            return  # the worker is dead, which `receive` will report

    def receive(self) -> tuple[str, Any]:
        """Return the next message, `progress`, `finished` or `failed` with a payload; or `died` and why."""
        try:
            kind, payload = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", f"its worker died ({_cause(self.process.exitcode)})"
        return kind, payload

    def kill(self) -> None:
        """End the process now, and wait for its end."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(work: Work, connection: Connection) -> None:
    """Do jobs, report their progress and send how each ended, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers
    threading.Thread(target=_follow_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(outcome(work, job, lambda payload: connection.send(("progress", payload))))


def _follow_parent() -> None:
    """Die with the parent: a killed command must not leave workers writing."""
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cause(exitcode: int | None) -> str:
    """Describe an exit code: `SIGKILL; out of memory?` or `exit code 1`."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}; out of memory?" if name == "SIGKILL" else name
    return f"exit code {exitcode}"


def worker_context(preload: tuple[str, ...]) -> BaseContext:
    """Return a fork-server context where available: it imports torch once, single-threaded, for all workers.

    Args:
        preload: Names of modules that the server imports.
    """
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def start_server(context: BaseContext) -> None:
    """Start the fork server with Ctrl-C ignored, which a terminal sends to every process of the command.

    Args:
        context: Result of `worker_context`.
    """
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
