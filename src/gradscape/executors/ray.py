"""Jobs on a Ray cluster: core tasks, supervised from here.

A lost worker or node loses only the current work of its jobs: they are tried again elsewhere, under the same
limits as on one machine (Ray's own retries are off). Progress passes through an actor on the cluster's head,
in order: no report arrives after the end of its job.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from gradscape.errors import ConfigError, first_line
from gradscape.executors.base import Event, EventSink, Work, outcome, reason
from gradscape.executors.retry import Supervised, Task
from gradscape.version import __version__

POLL = 0.1  # seconds between two polls of the cluster
SPARE = 2  # jobs submitted beyond the cluster's capacity, to keep it busy
CONNECT = 5.0  # seconds for an address to answer
LOOPBACK = "127.0.0.1"
QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Resources:
    """Resources of a node that a job occupies.

    Attributes:
        cpus: CPU cores.
        gpus: GPUs; a fraction lets several jobs share one.
    """

    cpus: float = 1.0
    gpus: float = 0.0


class _Mailbox:
    """Actor that stores the messages of jobs until they are collected."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, Any]] = []

    def deliver(self, name: str, kind: str, payload: Any) -> None:
        self.messages.append((name, kind, payload))

    def collect(self) -> list[tuple[str, str, Any]]:
        messages, self.messages = self.messages, []
        return messages


class Ray(Supervised):
    """Executor of as many jobs at once as a Ray cluster has room for.

    Args:
        work, sink, limit, mark: See `Supervised`.
        address: `ray` for this machine's cluster, which is started if there is none; `ray://HOST:PORT` for
            another.
        resources: Resources of each job.
        begin: Function of a job's name and argument that returns the argument to send, when the turn of the
            job comes; None ends the job with that result, and what it raises fails the job.
        end: Callback with the name of a job of which nothing is running any more.

    Raises:
        ConfigError: If Ray is not installed, the address does not answer, or a node has another version of
            Python, torch or gradscape.

    Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
    """

    def __init__(
        self,
        work: Work,
        address: str,
        sink: EventSink = lambda event: None,
        resources: Resources = Resources(),
        limit: float | None = None,
        mark: Callable[[Any], Any] = lambda payload: payload,
        begin: Callable[[str, Any], Any] = lambda name, job: job,
        end: Callable[[str], None] = lambda name: None,
    ) -> None:
        super().__init__(work, sink, limit, mark)
        self.ray = _connect(address)
        self.resources, self.begin, self.end = resources, begin, end
        on_head = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
        self.mailbox = self.ray.remote(**on_head)(_Mailbox).remote()
        options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
        self.do = self.ray.remote(**options)(_do)
        self.running: dict[Any, Task] = {}
        self.stop = threading.Event()
        self.supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.supervisor.start()

    def close(self) -> None:
        """See `Executor.close`."""
        self.stop.set()
        self.supervisor.join()
        self.ray.shutdown()

    def _supervise(self) -> None:
        try:
            while not self.stop.wait(0 if self.running else POLL):
                self._start_ready()
                done, _ = self.ray.wait(list(self.running), timeout=POLL) if self.running else ([], [])
                self._read_messages()
                for ref in done:
                    self._receive(ref)
                for ref in [ref for ref, task in self.running.items() if self._is_hung(task)]:
                    self.ray.cancel(ref, force=True)
                    self._lose(ref, self._hung_message())
            for ref in self.running:
                self.ray.cancel(ref, force=True)
        except Exception as error:  # the cluster itself is gone
            self._give_up(self.running.values(), f"the cluster was lost ({first_line(error)})")
        finally:
            for task in self.running.values():
                self.end(task.name)
            for task in (*self.running.values(), *self.waiting):
                task.future.cancel()

    def _start_ready(self) -> None:
        """Submit jobs that are ready, in order, slightly more than the cluster has room for."""
        while len(self.running) < self._room() + SPARE and (task := self._next_ready()) is not None:
            task.deadline = None  # its time limit counts from its start
            try:
                sent = self.begin(task.name, task.job)
            except Exception as error:  # the job's own, such as a folder that holds another run
                self._fail(task.future, task.name, reason(error))
                continue
            if sent is None:
                self._finish(task.future, task.name, None)
                continue
            try:
                ref = self.do.remote(self.work, task.name, sent, self.mailbox)
            except Exception:
                self.end(task.name)
                self._put_back(task)
                raise
            self.running[ref] = task

    def _room(self) -> int:
        """Return how many jobs the cluster can run at once."""
        available = self.ray.cluster_resources()
        needed = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        return int(min(available.get(kind, 0) / amount for kind, amount in needed.items() if amount))

    def _read_messages(self) -> None:
        tasks = {task.name: task for task in self.running.values()}
        for name, kind, payload in self.ray.get(self.mailbox.collect.remote()):
            if name not in tasks:
                continue  # from an abandoned attempt
            if kind == "started":
                self._extend(tasks[name])
                self.sink(Event(name, "started"))
            else:
                self._progress(tasks[name], payload)

    def _receive(self, ref: Any) -> None:
        """Handle the end of a job or the loss of its worker."""
        try:
            kind, payload = self.ray.get(ref)
        except Exception as error:  # Ray raises many types: of the worker, its node, its memory
            what = first_line(error).partition(". ")[0]  # Ray appends a paragraph
            self._lose(ref, f"its worker or node was lost ({what})")
            return
        if kind == "died":
            self._lose(ref, payload)
            return
        task = self.running.pop(ref)
        self.end(task.name)
        if kind == "finished":
            self._finish(task.future, task.name, payload)
        else:
            self._fail(task.future, task.name, payload)

    def _lose(self, ref: Any, why: str) -> None:
        task = self.running.pop(ref)
        self.end(task.name)
        self._retry(task, why)


def _do(work: Work, name: str, job: Any, mailbox: Any) -> tuple[str, Any]:
    """Do a job as a Ray task, wherever Ray has placed it."""
    import ray

    def deliver(kind: str, payload: Any = None) -> None:
        ray.get(mailbox.deliver.remote(name, kind, payload))

    deliver("started")
    return outcome(work, job, lambda payload: deliver("progress", payload))


def reach(address: str) -> None:
    """Check that a cluster can be connected to.

    Args:
        address: `ray` or `ray://HOST:PORT`.

    Raises:
        ConfigError: If Ray is not installed, or the address is malformed or does not answer.
    """
    if find_spec("ray") is None:
        raise ConfigError("--on ray needs Ray; type: pip install ray")
    if address != "ray":
        _knock(address)


def _connect(address: str) -> Any:
    """Return Ray, connected to a cluster whose nodes have the versions of this machine."""
    reach(address)
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address == "ray":
            _join_or_begin(ray)
        else:
            ray.init(address, **QUIET)
    except Exception as error:  # Ray raises many types, also for other versions
        text = " ".join(str(error).split())
        raise ConfigError(f"--on {address}: Ray refuses the connection: {text}") from error
    try:
        _check_versions(ray)
    except ConfigError:
        ray.shutdown()
        raise
    return ray


def _join_or_begin(ray: Any) -> None:
    """Join the cluster of this machine, or start one that listens on the loopback interface alone.

    Everyone who reaches a cluster can run code on it, and by default Ray listens on all interfaces. Its token
    (by default from 2.59 on) keeps out other users of this machine.

    Raises:
        ConfigError: If the cluster would be open to the network.
    """
    try:
        ray.init("auto", **QUIET)
        return
    except ConnectionError:
        if "RAY_ADDRESS" in os.environ:
            raise
    from ray._private import ray_constants

    # Ray's own setting on macOS and Windows; despite _node_ip_address="127.0.0.1" it uses the network's
    # address.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init("local", include_dashboard=False, **QUIET)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
    if ray.util.get_node_ip_address() != LOOPBACK:
        ray.shutdown()
        raise ConfigError(
            "a cluster started here would be open to the network; start your own: ray start --head"
        )


def _knock(address: str) -> None:
    """Refuse an address that is malformed or does not answer: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--on: expected ray://HOST:PORT such as ray://head:10001; got {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--on {address}: nothing answers there ({error}); start Ray on it: ray start --head, "
            "and give the port of its client server, 10001"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions that have to be equal on all nodes: of Python, gradscape and torch."""
    here = {"python": platform.python_version().rsplit(".", 1)[0], "gradscape": __version__}
    try:
        return here | {"torch": version("torch").partition("+")[0]}  # without +cpu or +cu
    except PackageNotFoundError:
        return here | {"torch": "not installed"}


def _check_versions(ray: Any) -> None:
    """Refuse a cluster with a node of other versions.

    Raises:
        ConfigError: If there is one; the message names it and what to install.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(versions)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    answers = {
        host: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node, host in nodes.items()
    }
    for host, answer in answers.items():
        try:
            there = ray.get(answer)
        except Exception as error:  # such as a node without gradscape
            raise ConfigError(
                f"--on: node {host} cannot run gradscape ({first_line(error)}); "
                f"install it there: pip install gradscape=={__version__}"
            ) from error
        compare_versions(host, there, versions())


def compare_versions(host: str, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse a node whose versions differ.

    Args:
        host: Name of the node, for the message.
        there: Versions on the node.
        here: Versions on this machine.

    Raises:
        ConfigError: If they differ.
    """
    for name, expected in here.items():
        if there[name] != expected:
            raise ConfigError(
                f"--on: node {host}: expected {name} {expected} as on this machine; got {there[name]}; "
                "install the same on all nodes, because results depend on it"
            )
