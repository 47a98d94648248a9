"""Job of a worker: train one run of a study, or several as one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config.run import RunConfig
from gradscape.errors import Busy
from gradscape.executors.base import Event, EventSink, MessageSink, out_of_memory, reason
from gradscape.records.run import Progress, RunRecord
from gradscape.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from gradscape.train.precision import Arithmetic

# Once for all workers, before they fork: torch, and what its first optimizer would import in each (2.6 s).
PRELOAD = ("gradscape.train.loop", "torch._dynamo")


@dataclass(frozen=True)
class TrainJob:
    """One run, its folder, the folder of its images, and the device that trains it.

    `arithmetic` is the result of `gradscape.train.precision.decide` for all of the study's runs. With
    `leave_stopped` nothing is done if another command has stopped the run while the job was in the queue.
    """

    config: RunConfig
    folder: Path
    data_root: str | Path | None = None
    device: str = "auto"
    threads: int = 1
    arithmetic: Arithmetic | None = None
    stop_hopeless: bool = False
    leave_stopped: bool = False


@dataclass(frozen=True)
class PackJob:
    """Runs that are trained as one network on a CPU; those that have ended are taken out.

    Attributes:
        jobs: Job per identity of the runs that have not ended.
    """

    jobs: dict[str, TrainJob]


def train_job(job: TrainJob | PackJob, report: MessageSink) -> RunRecord | None:
    """Train one run, or the runs of a pack, in this process.

    Each job of a study has one thread: two runs side by side finish sooner than one run on two threads.

    Args:
        job: Run and where to train it, or several.
        report: Function to report progress to; a pack reports tuples of its runs' events.

    Returns:
        Record of the run with its last epoch alone (the folder has them all); None where another process is
        training it, and for a pack.
    """
    if isinstance(job, PackJob):
        _train_pack(job, report)
        return None
    from gradscape.data import load_images
    from gradscape.train.loop import train_run
    from gradscape.train.process import prepare_process

    folder = RunFolder(job.folder)
    if folder.held():
        return None
    prepare_process(job.threads)
    images = load_images(job.config.data.name, job.data_root)
    try:
        record = train_run(
            job.config,
            folder,
            images,
            job.device,
            report,
            job.arithmetic,
            job.stop_hopeless,
            job.leave_stopped,
        )
    except Busy:
        return None
    return _shortened(record)


def _train_pack(pack: PackJob, report: MessageSink) -> None:
    """Train the runs of a pack; a lack of memory is raised, as it is not one run's."""
    from gradscape.data import load_images
    from gradscape.train.loop import train_together
    from gradscape.train.process import prepare_process

    def tell(told: Mapping[str, Progress | str]) -> None:
        report(tuple(Event(name, "progress", each) for name, each in told.items()))

    def ended(name: str, end: RunRecord | Exception | None) -> None:
        if not isinstance(end, Exception):
            report((Event(name, "finished", None if end is None else _shortened(end)),))
        elif out_of_memory(end):
            raise end
        else:
            report((Event(name, "failed", reason(end)),))

    first, *_ = jobs = list(pack.jobs.values())
    prepare_process(first.threads)
    images = load_images(first.config.data.name, first.data_root)
    runs = [(job.config, RunFolder(job.folder)) for job in jobs]
    train_together(runs, images, tell, ended, first.stop_hopeless, first.leave_stopped)


def _shortened(record: RunRecord) -> RunRecord:
    return replace(record, epochs=record.epochs[-1:], curvature={}, landscape=None)


class PackEvents:
    """Sink of an executor that turns the events of packs into those of their runs.

    A run that has ended is taken out of its pack at once, before the executor can try the pack again.

    Args:
        sink: Function called with every event of a run.
    """

    def __init__(self, sink: EventSink) -> None:
        self.sink = sink
        self.packs: dict[str, PackJob] = {}

    def added(self, name: str, job: TrainJob | PackJob) -> TrainJob | PackJob:
        """Return the job to submit; of a pack a copy, out of which runs are taken.

        Args:
            name: Name of the job.
            job: Run or pack.
        """
        if isinstance(job, PackJob):
            job = self.packs[name] = PackJob(dict(job.jobs))
        return job

    def __call__(self, event: Event) -> None:
        """Pass on an event.

        Args:
            event: Event of a job.
        """
        if event.job not in self.packs:
            self.sink(event)
            return
        left = self.packs[event.job].jobs
        if event.kind == "finished":
            assert not left, f"{event.job} ended without a word on {', '.join(left)}"
            return
        by_run = [Event(name, event.kind, event.payload) for name in left]
        for each in event.payload if event.kind == "progress" else by_run:
            if each.kind in ("finished", "failed"):
                del left[each.job]
            self.sink(each)
