"""Concurrent jobs in processes of this machine, under a supervisor that outlives them.

A worker that is killed, hangs or runs out of memory loses only the current work of its own job: a new worker
continues from what the job has stored. (`ProcessPoolExecutor` loses every task when one worker is killed.)
"""

from __future__ import annotations

import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from gradscape.executors.base import Event, EventSink, Work, reason
from gradscape.executors.retry import Supervised, Task
from gradscape.executors.worker import Worker, start_server, worker_context


class Processes(Supervised):
    """Executor of at most `workers` jobs at once, each in a process that does no other meanwhile.

    A process does job after job; it is replaced after a failure, and every further attempt gets a new
    process. The workers stop with this process, even when it is killed.

    Args:
        work, sink, limit, mark: See `Supervised`.
        workers: Number of processes, 1 or more.
        preload: Names of modules that the fork server imports once for all workers.
    """

    def __init__(
        self,
        work: Work,
        workers: int,
        sink: EventSink = lambda event: None,
        preload: tuple[str, ...] = (),
        limit: float | None = None,
        mark: Callable[[Any], Any] = lambda payload: payload,
    ) -> None:
        super().__init__(work, sink, limit, mark)
        self.workers = workers
        self.context = worker_context(preload)
        start_server(self.context)
        self.running: dict[Worker, Task] = {}
        self.idle: list[Worker] = []
        self.bell, self.ring = mp.Pipe(duplex=False)
        if os.name == "posix":
            os.set_blocking(self.ring.fileno(), False)
        self.closing = False
        self.supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.supervisor.start()

    def submit(self, name: str, job: Any) -> Future[Any]:
        """Queue a job.

        Args:
            name, job: See `Executor.submit`.
        """
        future = super().submit(name, job)
        self._wake()
        return future

    def _wake(self) -> None:
        """Wake the supervisor; a full pipe is ignored, since its reader may be gone."""
        with suppress(BlockingIOError):
            self.ring.send(None)

    def close(self) -> None:
        """See `Executor.close`."""
        self.closing = True
        self._wake()
        self.supervisor.join()

    def _supervise(self) -> None:
        """Assign jobs, receive messages and end hung workers until the executor closes."""
        try:
            while not self.closing:
                self._start_ready()
                senders: dict[Any, Worker] = {worker.connection: worker for worker in self.running}
                for connection in wait([self.bell, *senders], self._seconds_to_wait()):
                    if connection is self.bell:
                        self.bell.recv()
                    else:
                        self._receive(senders[connection])
                self._end_hung()
        except Exception as error:
            self._give_up(self.running.values(), f"the supervisor ended: {reason(error)}")
        finally:
            for worker in (*self.running, *self.idle):
                worker.kill()
            for task in (*self.running.values(), *self.waiting):
                task.future.cancel()

    def _start_ready(self) -> None:
        """Start jobs that are ready, in order, while workers are free."""
        while len(self.running) < self.workers and (task := self._next_ready()) is not None:
            worker = self.idle.pop() if self.idle else None
            if worker is not None and task.attempt > 1:  # this worker may be the cause of the death
                worker.kill()
                worker = None
            try:
                worker = worker or Worker.start(self.context, self.work)
            except OSError as error:
                self._retry(task, f"no worker could be started ({error.strerror})")
                continue
            except Exception:
                self._put_back(task)  # `_give_up` then fails it with the others
                raise
            self.running[worker] = task
            worker.send(task.job)
            self.sink(Event(task.name, "started"))

    def _seconds_to_wait(self) -> float | None:
        """Return the seconds until the next deadline or retry; None without one."""
        moments = [task.deadline for task in self.running.values() if task.deadline is not None]
        if len(self.running) < self.workers:
            with self.lock:
                moments += [task.ready for task in self.waiting]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _receive(self, worker: Worker) -> None:
        """Handle one message of a worker, or its end."""
        kind, payload = worker.receive()
        if kind == "progress":
            self._progress(self.running[worker], payload)
            return
        task = self.running.pop(worker)
        if kind == "finished":
            self.idle.append(worker)
            self._finish(task.future, task.name, payload)
            return
        worker.kill()
        if kind == "died":
            self._retry(task, payload)
        else:
            self._fail(task.future, task.name, payload)

    def _end_hung(self) -> None:
        """Kill hung workers; one with an unread message is not hung: this process may have been suspended."""
        hung = [w for w, task in self.running.items() if self._is_hung(task) and not w.connection.poll()]
        for worker in hung:
            worker.kill()  # a stopped process does not react to `terminate`
            self._retry(self.running.pop(worker), self._hung_message())
