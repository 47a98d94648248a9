"""A job on a cluster that cannot be begun: the cluster is a stand-in that does a job as it is asked to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gradscape.errors import JobFailed, StoreError
from gradscape.executors import ray as module
from gradscape.executors.base import Event
from gradscape.executors.ray import Ray


def cluster() -> Any:
    """As much of Ray as the executor uses; a reference is what it refers to."""

    def remote(**options: Any) -> Any:
        return lambda made: SimpleNamespace(remote=lambda *args: made(*args) if args else mailbox)

    mailbox = SimpleNamespace(collect=SimpleNamespace(remote=list))
    return SimpleNamespace(
        remote=remote, wait=lambda refs, timeout: (refs, []), get=lambda ref: ref,
        cluster_resources=lambda: {"CPU": 1.0}, shutdown=lambda: None,
    )  # fmt: skip


def test_a_job_that_cannot_be_begun_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was lost: nobody told of it, and the command waited for it for ever."""
    monkeypatch.setattr(module, "_connect", lambda address: cluster())
    monkeypatch.setattr(module, "_do", lambda work, name, job, mailbox: ("finished", work(job, None)))
    events: list[Event] = []

    def begin(name: str, job: int) -> int:
        if name == "bad":
            raise StoreError("runs/bad holds another run's configuration")
        return job

    with Ray(lambda job, report: 2 * job, "ray", events.append, begin=begin) as executor:
        bad, good = executor.submit("bad", 1), executor.submit("good", 2)
        assert good.result(timeout=20) == 4
        with pytest.raises(JobFailed, match="bad: runs/bad holds another run's configuration"):
            bad.result(timeout=20)
    assert [(event.job, event.kind) for event in events] == [("bad", "failed"), ("good", "finished")]
