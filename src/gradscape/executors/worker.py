"""A worker process: started by a fork server, does job after job, dies with its parent."""

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
    """A process and the pipe to it."""

    process: BaseProcess
    connection: Connection

    @classmethod
    def start(cls, context: BaseContext, work: Work) -> Worker:
        """Start one.

        Raises:
            OSError: no more processes or files are to be had, or the fork server dies meanwhile; the next
                start begins another server.
        """
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(work, theirs))  # type: ignore[attr-defined]
        try:
            process.start()
        except EOFError as error:  # of the server's answer
            ours.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "the server that forks workers died") from error
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()  # so that the pipe ends when the worker does
        return cls(process, ours)

    def give(self, job: Any) -> None:
        try:
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead, as `receive` will find

    def receive(self) -> tuple[str, Any]:
        """What it says: `progress`, `finished`, `failed`; or `died`, and of what."""
        try:
            kind, payload = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", f"its worker died ({_cause(self.process.exitcode)})"
        return kind, payload

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(work: Work, connection: Connection) -> None:
    """The worker's whole life: do jobs, report, say how each ended."""
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
    """`SIGKILL; out of memory?` or `exit code 1`."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}; out of memory?" if name == "SIGKILL" else name
    return f"exit code {exitcode}"


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
