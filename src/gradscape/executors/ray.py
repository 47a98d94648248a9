"""Jobs on a Ray cluster: core tasks, supervised from here.

A worker or node that is lost takes nothing but its jobs' current work with it: they are tried again
elsewhere, under the same bounds as on one machine (Ray's own retries are off). What jobs report goes through
an actor on the cluster's head, in order, so that nothing is heard after a job's end.
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
from gradscape.executors.base import Event, Tell, Work, outcome
from gradscape.executors.retry import Supervised, Task
from gradscape.version import __version__

POLL = 0.1  # seconds between two looks at the cluster
SPARE = 2  # jobs handed over beyond those that the cluster has room for, so that none of it idles
CONNECT = 5.0  # seconds for an address to answer
LOOPBACK = "127.0.0.1"
QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Resources:
    """What a job takes of a node; a fraction of a GPU lets several share it."""

    cpus: float = 1.0
    gpus: float = 0.0


class _Mailbox:
    """An actor: what jobs report, until it is collected."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, str, Any]] = []

    def deliver(self, name: str, kind: str, payload: Any) -> None:
        self.letters.append((name, kind, payload))

    def collect(self) -> list[tuple[str, str, Any]]:
        letters, self.letters = self.letters, []
        return letters


class Ray(Supervised):
    """As many jobs at once as the cluster has room for.

    Args:
        work, tell, limit, mark: see `Supervised`.
        address: `ray` for the cluster that this machine belongs to, or one of its own if it belongs to none;
            `ray://HOST:PORT` for another.
        resources: what a job takes.
        begin: what to send in a job's place when its turn comes; None ends the job with that result.
        end: called with a job's name when nothing of it is at work any more.

    Raises:
        ConfigError: Ray is not installed, the address does not answer, or a node has another version of
            Python, torch or gradscape.

    Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
    """

    def __init__(
        self,
        work: Work,
        address: str,
        tell: Tell = lambda event: None,
        resources: Resources = Resources(),
        limit: float | None = None,
        mark: Callable[[Any], Any] = lambda payload: payload,
        begin: Callable[[str, Any], Any] = lambda name, job: job,
        end: Callable[[str], None] = lambda name: None,
    ) -> None:
        super().__init__(work, tell, limit, mark)
        self.ray = _connect(address)
        self.resources, self.begin, self.end = resources, begin, end
        on_head = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
        self.mailbox = self.ray.remote(**on_head)(_Mailbox).remote()
        options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
        self.do = self.ray.remote(**options)(_do)
        self.running: dict[Any, Task] = {}
        self.stop = threading.Event()
        self.supervisor = threading.Thread(target=self.supervise, name="supervisor", daemon=True)
        self.supervisor.start()

    def close(self) -> None:
        self.stop.set()
        self.supervisor.join()
        self.ray.shutdown()

    def supervise(self) -> None:
        try:
            while not self.stop.wait(0 if self.running else POLL):
                self.give_out()
                done, _ = self.ray.wait(list(self.running), timeout=POLL) if self.running else ([], [])
                self.read_letters()
                for ref in done:
                    self.hear(ref)
                for ref in [ref for ref, task in self.running.items() if self.hung(task)]:
                    self.ray.cancel(ref, force=True)
                    self.lost(ref, self.hung_words())
            for ref in self.running:
                self.ray.cancel(ref, force=True)
        except Exception as error:  # the cluster itself is gone
            self.give_up(self.running.values(), f"the cluster was lost ({first_line(error)})")
        finally:
            for task in self.running.values():
                self.end(task.name)
            for task in (*self.running.values(), *self.waiting):
                task.future.cancel()

    def give_out(self) -> None:
        """Hand over what is ready, in order, a little more than there is room for."""
        while len(self.running) < self.room() + SPARE and (task := self.next_ready()) is not None:
            task.deadline = None  # its time runs when it begins
            if (sent := self.begin(task.name, task.job)) is None:
                self.finish(task.future, task.name, None)
                continue
            try:
                ref = self.do.remote(self.work, task.name, sent, self.mailbox)
            except Exception:
                self.end(task.name)
                self.put_back(task)
                raise
            self.running[ref] = task

    def room(self) -> int:
        """Jobs that the cluster has room for at once."""
        there = self.ray.cluster_resources()
        wanted = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        return int(min(there.get(kind, 0) / amount for kind, amount in wanted.items() if amount))

    def read_letters(self) -> None:
        tasks = {task.name: task for task in self.running.values()}
        for name, kind, payload in self.ray.get(self.mailbox.collect.remote()):
            if name not in tasks:
                continue  # of an attempt that was given up
            if kind == "started":
                self.extend(tasks[name])
                self.tell(Event(name, "started"))
            else:
                self.progressed(tasks[name], payload)

    def hear(self, ref: Any) -> None:
        """A job's end, or that of its worker."""
        try:
            kind, payload = self.ray.get(ref)
        except Exception as error:  # of many kinds: a worker, its node, its memory
            what = first_line(error).partition(". ")[0]  # Ray goes on for a paragraph
            self.lost(ref, f"its worker or node was lost ({what})")
            return
        if kind == "died":
            self.lost(ref, payload)
            return
        task = self.running.pop(ref)
        self.end(task.name)
        if kind == "finished":
            self.finish(task.future, task.name, payload)
        else:
            self.fail(task.future, task.name, payload)

    def lost(self, ref: Any, why: str) -> None:
        task = self.running.pop(ref)
        self.end(task.name)
        self.again(task, why)


def _do(work: Work, name: str, job: Any, mailbox: Any) -> tuple[str, Any]:
    """A task: do a job where Ray has placed it."""
    import ray

    def deliver(kind: str, payload: Any = None) -> None:
        ray.get(mailbox.deliver.remote(name, kind, payload))

    deliver("started")
    return outcome(work, job, lambda payload: deliver("progress", payload))


def reach(address: str) -> None:
    """Refuse at once what cannot be connected to.

    Raises:
        ConfigError: Ray is not installed, the address is none, or does not answer.
    """
    if find_spec("ray") is None:
        raise ConfigError("--on ray needs Ray; type: pip install 'gradscape[ray]'")
    if address != "ray":
        _knock(address)


def _connect(address: str) -> Any:
    """Ray, connected to a cluster whose nodes have the versions that are here."""
    reach(address)
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address == "ray":
            _join_or_begin(ray)
        else:
            ray.init(address, **QUIET)
    except Exception as error:  # of many kinds, a version that differs among them
        text = " ".join(str(error).split())
        raise ConfigError(f"--on {address}: Ray does not take us: {text}") from error
    try:
        _check_versions(ray)
    except ConfigError:
        ray.shutdown()
        raise
    return ray


def _join_or_begin(ray: Any) -> None:
    """The cluster that this machine belongs to, or one of its own that listens on the loopback alone.

    Whoever reaches a cluster runs code on it, and by itself Ray listens on all interfaces. Its token (by
    default from 2.59 on) keeps out other users of this machine.

    Raises:
        ConfigError: the cluster would be open to the network.
    """
    try:
        ray.init("auto", **QUIET)
        return
    except ConnectionError:
        if "RAY_ADDRESS" in os.environ:
            raise
    from ray._private import ray_constants

    # As Ray has it on macOS and Windows; given _node_ip_address="127.0.0.1" it takes the network's address.
    found, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init("local", include_dashboard=False, **QUIET)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = found
    if ray.util.get_node_ip_address() != LOOPBACK:
        ray.shutdown()
        raise ConfigError(
            "a cluster of this Ray would be open to the network; start your own: ray start --head"
        )


def _knock(address: str) -> None:
    """Refuse an address that is none, or where nothing answers: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"--on {address}: this is no address; give ray://HOST:PORT, such as ray://head:10001"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--on {address}: nothing answers there ({error}); start Ray on it: ray start --head, "
            "and give the port of its client server, 10001"
        ) from error


def versions() -> dict[str, str]:
    """Of what has to be the same everywhere."""
    found = {"python": platform.python_version().rsplit(".", 1)[0], "gradscape": __version__}
    try:
        return found | {"torch": version("torch").partition("+")[0]}  # not where it computes
    except PackageNotFoundError:
        return found | {"torch": "not installed"}


def _check_versions(ray: Any) -> None:
    """Refuse a cluster with a node of other versions.

    Raises:
        ConfigError: names the node and what to install.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(versions)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    asked = {
        host: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node, host in nodes.items()
    }
    for host, answer in asked.items():
        try:
            found = ray.get(answer)
        except Exception as error:  # such as a node without gradscape
            raise ConfigError(
                f"--on: node {host} cannot run gradscape ({first_line(error)}); "
                f"install it there: pip install gradscape=={__version__}"
            ) from error
        compare(host, found, versions())


def compare(host: str, found: Mapping[str, str], here: Mapping[str, str]) -> None:
    for name, wanted in here.items():
        if found[name] != wanted:
            raise ConfigError(
                f"--on: node {host} has {name} {found[name]}, here it is {wanted}; "
                f"install the same on all nodes: results depend on it"
            )
