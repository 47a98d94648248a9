"""The runs of a study that are left: deaths are noted, what another command is at work on is left to it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cases import TINY
from gradscape._interrupts import Terminated
from gradscape.config.run import RunConfig
from gradscape.errors import StoreError
from gradscape.executors import base as face
from gradscape.executors.base import EventSink, Executor
from gradscape.executors.processes import Processes
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import TrainJob, train_job
from gradscape.study.train_runs import missing, train_runs
from inline_executor import Inline

RUNS = {config.identity: config for config in (replace(TINY, seed=seed) for seed in range(3))}


def trained(folder: StudyFolder, executor: Any, runs: dict[str, RunConfig] = RUNS) -> list[str]:
    jobs = {name: TrainJob(config, folder.run(name).path) for name, config in missing(runs, folder).items()}
    with ProgressView(runs, len(runs) - len(jobs)) as view:
        return train_runs(runs, jobs, folder, view, executor)


def inline(sink: EventSink) -> Executor:
    return Inline(train_job, sink)


def die(job: Any, report: Any) -> None:
    os._exit(3)


def test_a_run_whose_workers_die_before_they_begin_is_failed_with_its_deaths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face, "BACKOFF", 0.01)
    runs = dict(list(RUNS.items())[:1])
    (name,) = runs
    folder = StudyFolder(tmp_path)
    assert trained(folder, lambda sink: Processes(die, 1, sink), runs) == [name]
    status = folder.run(name).status()
    assert status["state"] == "failed"
    assert status["deaths"] == ["its worker died (exit code 3)"] * 2
    assert status["error"] == "its worker died (exit code 3), 3 times"
    assert trained(folder, inline, runs) == []  # asked for again it is tried again
    assert folder.run(name).status()["state"] == "done"


@pytest.mark.slow
def test_a_run_that_another_command_is_at_work_on_is_left_to_it_and_taken_over_if_that_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.study.train_runs.POLL", 0.05)
    folder, held = StudyFolder(tmp_path), next(iter(RUNS))
    folder.run(held).create(RUNS[held])
    begun, go = threading.Event(), threading.Event()

    def other() -> None:
        with folder.run(held).locked():
            begun.set()
            go.wait(60)  # and dies without having done anything

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(60)
    looks: list[str] = []
    kept = type(folder.run(held)).held

    def look(run: Any) -> bool:
        found = bool(kept(run))
        looks.append(run.path.name)
        if looks.count(held) == 3:  # by the worker, then twice by us
            go.set()
        return found

    monkeypatch.setattr(type(folder.run(held)), "held", look)
    assert trained(folder, inline) == []
    thread.join()
    assert looks.count(held) >= 3
    assert {folder.run(name).status()["state"] for name in RUNS} == {"done"}
    assert {folder.run(name).status()["attempts"] for name in RUNS} == {1}


def test_on_a_full_disk_nothing_more_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe stands for the disk: the first run fails for a reason of its own."""

    def full(self: StudyFolder) -> None:
        raise StoreError("cannot write: No space left on device; free space")

    monkeypatch.setattr(StudyFolder, "check_space", full)
    folder = StudyFolder(tmp_path)
    victim = folder.run(next(iter(RUNS)))
    victim.create(next(iter(RUNS.values())))
    victim.checkpoints.write_text("a file where a folder must be")
    with pytest.raises(StoreError, match="No space left"):
        trained(folder, inline)


@pytest.mark.parametrize(
    ("end", "why"), [(KeyboardInterrupt(), None), (Terminated("told to end"), "told to end")]
)
def test_runs_that_end_with_the_command_are_interrupted_and_no_sudden_deaths(
    tmp_path: Path, end: KeyboardInterrupt, why: str | None
) -> None:
    """A worker cannot say so: it is killed with the command."""
    folder = StudyFolder(tmp_path)
    begun, waiting, *_ = (folder.run(name) for name in RUNS)

    def begin(job: TrainJob, report: Any) -> None:
        for run, config in zip((begun, waiting), RUNS.values(), strict=False):
            run.create(config)
        with begun.locked():
            begun.set_status("running", attempts=1, device="x86_64")
        raise end

    with pytest.raises(type(end)):
        trained(folder, lambda sink: Inline(begin, sink))
    found = begun.status()
    assert (found["state"], found["device"], found.get("reason")) == ("interrupted", "x86_64", why)
    assert waiting.status()["state"] == "pending"
