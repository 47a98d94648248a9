"""Have the runs of a study done that have not ended; several commands can share a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from gradscape.config.run import RunConfig
from gradscape.executors.base import Event, Executor, Tell
from gradscape.records.run import Progress
from gradscape.storage.run_folder import ENDED
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import TrainJob

POLL = 1.0  # seconds between two looks at runs that another command is at work on

Heard = Callable[[str, Progress], None]


def drive(
    runs: Mapping[str, RunConfig],
    jobs: Mapping[str, TrainJob],
    folder: StudyFolder,
    view: ProgressView,
    executor: Callable[[Tell], Executor],
    heard: Heard = lambda name, progress: None,
) -> list[str]:
    """Do all jobs; returns the identities of runs that failed.

    A run that another command is at work on is left to it, looked at from time to time, and taken over if
    that command dies.

    Args:
        runs: identity → configuration, of the whole study.
        jobs: those of them that have not ended, in the order to begin them.
        folder: the study's.
        view: shows what happens.
        executor: makes what does the jobs, given where to tell events.
        heard: called with what a run reports.

    Raises:
        StoreError: the disk is full: every other run would fail as well.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    failed, elsewhere, left = [], set[str](), len(jobs)
    with executor(events.put) as doing:
        for name, job in jobs.items():
            doing.submit(name, job)
        while left:
            try:
                event = events.get(timeout=POLL if elsewhere else None)
            except Empty:
                for name in [name for name in elsewhere if not folder.run(name).held()]:
                    elsewhere.remove(name)
                    doing.submit(name, jobs[name])
                continue
            if event.kind == "finished" and event.payload is None:
                elsewhere.add(event.job)
                continue
            view.show(event)
            left -= event.kind in ("finished", "failed")
            if event.kind == "progress" and isinstance(event.payload, Progress):
                heard(event.job, event.payload)
            elif event.kind == "died":
                folder.run(event.job).create(runs[event.job])  # it may have died before it did
                folder.run(event.job).add_death(str(event.payload))
            elif event.kind == "failed":
                failed.append(event.job)
                _fail(folder, event.job, runs[event.job], str(event.payload))
                folder.check_space()
    return failed


def missing(
    runs: Mapping[str, RunConfig], folder: StudyFolder, ended: tuple[str, ...] = ENDED
) -> dict[str, RunConfig]:
    """The runs that have not ended, or whose configuration is lost.

    Raises:
        StoreError: a run's folder holds another run, or its status is damaged.
    """

    def state(identity: str) -> str:
        begun = folder.begun(identity)
        return begun.status()["state"] if begun else "pending"

    return {identity: config for identity, config in runs.items() if state(identity) not in ended}


def _fail(folder: StudyFolder, name: str, config: RunConfig, why: str) -> None:
    """A worker that died could not say so itself."""
    run = folder.run(name)
    run.create(config)
    status = run.status()
    if status.pop("state") != "failed":
        run.set_status("failed", **{**status, "error": why})
