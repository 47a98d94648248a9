"""Jobs on a real cluster of two nodes, started here: workers and nodes are lost, versions differ."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from clusters import ray_cluster
from gradscape.errors import ConfigError, JobFailed
from gradscape.executors.base import Event
from gradscape.executors.ray import Ray, Resources, compare_versions, versions
from libraries import skip_without

skip_without("ray")
import ray  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own, of many kinds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # tests are no package that workers know
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def second(cluster: Any) -> Iterator[Any]:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


def double(job: int, report: Any) -> int:
    report(f"doubling {job}")
    return 2 * job


def refuse(job: int, report: Any) -> None:
    raise ConfigError("depth: expected 38; got 37")


def die_at_first(job: Path, report: Any) -> str:
    if not job.exists():
        job.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def count(job: Path, report: Any) -> int:
    """Ten parts of half a second; it goes on from what it has kept."""
    job.mkdir(exist_ok=True)
    while (done := len(list(job.iterdir()))) < 10:
        report((done, ray.get_runtime_context().get_node_id()))
        time.sleep(0.5)
        (job / str(done)).touch()
    return done


def hang(job: Path, report: Any) -> str:
    report("begun")
    if not job.exists():
        job.touch()
        time.sleep(600)
    return "survived"


def test_results_and_events_come_home(second: Any) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    with Ray(double, "ray", events.put) as executor:
        futures = [executor.submit(str(n), n) for n in range(6)]
        assert [future.result(timeout=120) for future in futures] == [0, 2, 4, 6, 8, 10]
    heard = [events.get() for _ in range(events.qsize())]
    for n in range(6):
        found = [(e.kind, e.payload) for e in heard if e.job == str(n)]
        assert found == [("started", None), ("progress", f"doubling {n}"), ("finished", 2 * n)]


def test_failures_keep_their_line(cluster: Any) -> None:
    with Ray(refuse, "ray") as executor, pytest.raises(JobFailed, match="a: depth: expected 38; got 37"):
        executor.submit("a", 1).result(timeout=120)


def test_a_killed_worker_costs_its_job_one_attempt(cluster: Any, tmp_path: Path) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    with Ray(die_at_first, "ray", events.put) as executor:
        assert executor.submit("a", tmp_path / "a").result(timeout=120) == "survived"
    heard = [events.get() for _ in range(events.qsize())]
    assert [event.kind for event in heard] == ["started", "died", "started", "finished"]
    assert "its worker or node was lost" in heard[1].payload


@pytest.mark.long
def test_jobs_of_a_lost_node_go_on_elsewhere(cluster: Any, second: Any, tmp_path: Path) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    with Ray(count, "ray", events.put) as executor:
        futures = [executor.submit(name, tmp_path / name) for name in "ab"]
        nodes: dict[str, str] = {}
        while len(set(nodes.values())) < 2:  # both are at work
            event = events.get(timeout=60)
            if event.kind == "progress":
                nodes[event.job] = event.payload[1]
        cluster.remove_node(second, allow_graceful=False)
        assert [future.result(timeout=120) for future in futures] == [10, 10]
    kinds = [events.get().kind for _ in range(events.qsize())]
    assert kinds.count("died") == 1
    cluster.wait_for_nodes()  # until it knows, it would give that node more to do


@pytest.mark.long
def test_a_hung_job_is_ended(cluster: Any, tmp_path: Path) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    with Ray(hang, "ray", events.put, limit=2.0) as executor:
        assert executor.submit("a", tmp_path / "a").result(timeout=120) == "survived"
    died = [e for e in (events.get() for _ in range(events.qsize())) if e.kind == "died"]
    assert [event.payload for event in died] == ["its worker hung: no progress within 2 s"]


def test_when_the_cluster_is_lost_every_job_fails_with_the_reason(cluster: Any) -> None:
    class Gone:
        def remote(self, *args: Any) -> None:
            raise ConnectionError("Failed to reconnect within the grace period")

    ended: list[str] = []
    with Ray(double, "ray", end=ended.append) as executor:
        executor.do = Gone()
        futures = [executor.submit(name, 1) for name in "ab"]
        for future in futures:
            with pytest.raises(JobFailed, match=r"the cluster was lost \(ConnectionError: Failed to"):
                future.result(timeout=60)
    assert ended == ["a"]  # its folder is free again


@pytest.mark.long
def test_fractions_of_a_gpu_are_shared(cluster: Any) -> None:
    """Ray counts GPUs and does not touch them: four quarters of one are four jobs at once."""
    node = cluster.add_node(num_cpus=4, num_gpus=1)
    cluster.wait_for_nodes()
    try:
        with Ray(double, "ray", resources=Resources(cpus=0.5, gpus=0.25)) as executor:
            assert executor._room() == 4
            assert executor.submit("a", 4).result(timeout=120) == 8
    finally:
        cluster.remove_node(node)


@pytest.mark.parametrize("address", ["ray://", "ray://head", "ray://head:port"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match=f"^--on: expected ray://HOST:PORT such as .*; got {address}$"):
        Ray(double, address)


def test_an_address_where_nothing_answers_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=f"--on ray://127.0.0.1:{port}: nothing answers there"):
        Ray(double, f"ray://127.0.0.1:{port}")
    assert time.monotonic() - begun < 10


def test_a_cluster_of_another_version_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscape.executors.ray.__version__", "99.0")  # here, not on the nodes
    with pytest.raises(
        ConfigError, match=r"--on: node \S+ expected gradscape 99\.0 as on this machine; got 0"
    ):
        Ray(double, "ray")
    assert not ray.is_initialized()


def test_a_node_of_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match=r"node b: expected torch .*; got 2\.11\.0; install"):
        compare_versions("b", versions() | {"torch": "2.11.0"}, versions())
    compare_versions("b", versions(), versions())
