"""Jobs side by side in processes of this machine, under a supervisor that outlives them.

A worker that is killed, hangs or runs out of memory takes nothing but its own job's current work with it: the
job is given to a new worker, which goes on from what the job had stored. (`ProcessPoolExecutor` loses every
task when one worker is killed.)
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

from gradscape.executors.base import Event, Tell, Work, reason
from gradscape.executors.retry import Supervised, Task
from gradscape.executors.worker import Worker, start_server, worker_context


class Processes(Supervised):
    """At most `workers` jobs at once, each in a process that does no other meanwhile.

    A process serves job after job; after one that failed it is replaced, and what is tried again gets a new
    one. The workers stop with this process, also when it is killed.

    Args:
        work, tell, limit, mark: see `Supervised`.
        workers: how many at once, 1 or more.
        preload: modules that the server which forks the workers imports once for all of them.
    """

    def __init__(
        self,
        work: Work,
        workers: int,
        tell: Tell = lambda event: None,
        preload: tuple[str, ...] = (),
        limit: float | None = None,
        mark: Callable[[Any], Any] = lambda payload: payload,
    ) -> None:
        super().__init__(work, tell, limit, mark)
        self.workers = workers
        self.context = worker_context(preload)
        start_server(self.context)
        self.running: dict[Worker, Task] = {}
        self.idle: list[Worker] = []
        self.bell, self.ring = mp.Pipe(duplex=False)
        if os.name == "posix":
            os.set_blocking(self.ring.fileno(), False)
        self.closing = False
        self.supervisor = threading.Thread(target=self.supervise, name="supervisor", daemon=True)
        self.supervisor.start()

    def submit(self, name: str, job: Any) -> Future[Any]:
        future = super().submit(name, job)
        self.wake()
        return future

    def wake(self) -> None:
        """Ring; where thousands of rings are unheard, the next would wait for who may have gone."""
        with suppress(BlockingIOError):
            self.ring.send(None)

    def close(self) -> None:
        self.closing = True
        self.wake()
        self.supervisor.join()

    def supervise(self) -> None:
        """The supervisor's whole life: give work out, hear of it, end what hangs."""
        try:
            while not self.closing:
                self.give_out()
                speakers: dict[Any, Worker] = {worker.connection: worker for worker in self.running}
                for connection in wait([self.bell, *speakers], self.patience()):
                    if connection is self.bell:
                        self.bell.recv()
                    else:
                        self.hear(speakers[connection])
                self.end_hung()
        except Exception as error:
            self.give_up(self.running.values(), f"the supervisor ended: {reason(error)}")
        finally:
            for worker in (*self.running, *self.idle):
                worker.kill()
            for task in (*self.running.values(), *self.waiting):
                task.future.cancel()

    def give_out(self) -> None:
        """Begin what is ready, in order, while there are workers."""
        while len(self.running) < self.workers and (task := self.next_ready()) is not None:
            worker = self.idle.pop() if self.idle else None
            if worker is not None and task.attempt > 1:  # it may be what the job died of
                worker.kill()
                worker = None
            try:
                worker = worker or Worker.start(self.context, self.work)
            except OSError as error:
                self.again(task, f"no worker could be started ({error.strerror})")
                continue
            except Exception:
                self.put_back(task)  # where it is found when all is given up
                raise
            self.running[worker] = task
            worker.give(task.job)
            self.tell(Event(task.name, "started"))

    def patience(self) -> float | None:
        """Seconds until something is to be done unasked; None if nothing is."""
        moments = [task.deadline for task in self.running.values() if task.deadline is not None]
        if len(self.running) < self.workers:
            with self.lock:
                moments += [task.ready for task in self.waiting]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def hear(self, worker: Worker) -> None:
        """Take in one message of a worker, or its end."""
        kind, payload = worker.receive()
        if kind == "progress":
            self.progressed(self.running[worker], payload)
            return
        task = self.running.pop(worker)
        if kind == "finished":
            self.idle.append(worker)
            self.finish(task.future, task.name, payload)
            return
        worker.kill()
        if kind == "died":
            self.again(task, payload)
        else:
            self.fail(task.future, task.name, payload)

    def end_hung(self) -> None:
        """End what hangs; who has something to say is heard first: it may be this process that stood."""
        hung = [w for w, task in self.running.items() if self.hung(task) and not w.connection.poll()]
        for worker in hung:
            worker.kill()  # not terminate: a stopped process hears nothing else
            self.again(self.running.pop(worker), self.hung_words())
