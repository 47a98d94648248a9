"""Training of the runs of a study that have not ended; several commands can share a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from gradscape.config.run import RunConfig
from gradscape.errors import GradscapeError
from gradscape.executors.base import Event, EventSink, Executor
from gradscape.records.run import Progress
from gradscape.storage.files import there
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import PackEvents, PackJob, TrainJob

POLL = 1.0  # seconds between two looks at runs that another command is training

OnProgress = Callable[[str, Progress], None]


def train_runs(
    runs: Mapping[str, RunConfig],
    jobs: Mapping[str, TrainJob | PackJob],
    folder: StudyFolder,
    view: ProgressView,
    executor: Callable[[EventSink], Executor],
    on_progress: OnProgress = lambda name, progress: None,
) -> list[str]:
    """Do all jobs.

    A run that another command is training is left to it, looked at from time to time, and taken over if that
    command dies.

    Args:
        runs: Configuration per identity, of the whole study.
        jobs: Job per name, in the order to begin them: of each run that has not ended, under its identity,
            or of several.
        folder: Folder of the study.
        view: Display of what happens.
        executor: Function that makes the executor, from the function to report events to.
        on_progress: Function called with a run's identity and its report.

    Returns:
        The identities of runs that failed.

    Raises:
        StoreError: The disk is full: every other run would fail as well.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    single, sink = _single(jobs), PackEvents(events.put)
    failed, elsewhere, left = [], set[str](), len(single)
    with _said_if_interrupted(folder, single), executor(sink) as doing:
        for name, job in jobs.items():
            doing.submit(name, sink.added(name, job))
        while left:
            try:
                event = events.get(timeout=POLL if elsewhere else None)
            except Empty:
                for name in [name for name in elsewhere if not folder.run(name).held()]:
                    elsewhere.remove(name)
                    doing.submit(name, sink.added(name, single[name]))
                continue
            if event.kind == "finished" and event.payload is None:
                elsewhere.add(event.job)
                continue
            view.show(event)
            left -= event.kind in ("finished", "failed")
            if event.kind == "progress" and isinstance(event.payload, Progress):
                on_progress(event.job, event.payload)
            elif event.kind == "died":
                folder.run(event.job).create(runs[event.job])  # it may have died before it did
                folder.run(event.job).add_death(str(event.payload))
            elif event.kind == "failed":
                failed.append(event.job)
                _fail(folder, event.job, runs[event.job], str(event.payload))
                folder.check_space()
    return failed


@contextmanager
def _said_if_interrupted(folder: StudyFolder, names: Iterable[str]) -> Iterator[None]:
    """Write into the status of runs whose worker was ended with the command that it was no sudden death."""
    try:
        yield
    except KeyboardInterrupt as end:
        why = {"reason": str(end)} if str(end) else {}
        for name in names:
            run = folder.run(name)
            with suppress(GradscapeError):
                status = run.status() if there(run.path / ".lock") else {"state": ""}
                if status.pop("state") == "running":
                    with run.locked(patience=0):
                        run.set_status("interrupted", **status, **why)
        raise


def _single(jobs: Mapping[str, TrainJob | PackJob]) -> dict[str, TrainJob | PackJob]:
    """Return a job for each run by itself; one of a pack is computed as there."""
    single: dict[str, TrainJob | PackJob] = {}
    for name, job in jobs.items():
        if isinstance(job, PackJob):
            single |= {run: PackJob({run: each}) for run, each in job.jobs.items()}
        else:
            single[name] = job
    return single


def missing(
    runs: Mapping[str, RunConfig], folder: StudyFolder, leave_stopped: bool = False
) -> dict[str, RunConfig]:
    """Return the runs that have not ended, or whose configuration is lost.

    Args:
        runs: Configuration per identity, of the whole study.
        folder: Folder of the study.
        leave_stopped: Whether runs that were stopped early are left as they are.

    Raises:
        StoreError: A run's folder holds another run, or its status is damaged.
    """

    def has_ended(identity: str) -> bool:
        begun = folder.begun(identity)
        return begun is not None and begun.has_ended(leave_stopped)

    return {identity: config for identity, config in runs.items() if not has_ended(identity)}


def _fail(folder: StudyFolder, name: str, config: RunConfig, why: str) -> None:
    """Record the failure of a run whose worker may have died before it could."""
    run = folder.run(name)
    run.create(config)
    status = run.status()
    if status.pop("state") != "failed":
        run.set_status("failed", **{**status, "error": why})
