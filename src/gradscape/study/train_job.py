"""Job of a worker: train one run of a study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config.run import RunConfig
from gradscape.errors import Busy
from gradscape.executors.base import MessageSink
from gradscape.records.run import RunRecord
from gradscape.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from gradscape.train.precision import Arithmetic

# Once for all workers, before they fork: torch, and what its first optimizer would import in each (2.6 s).
PRELOAD = ("gradscape.train.loop", "torch._dynamo")


@dataclass(frozen=True)
class TrainJob:
    """One run, its folder, the folder of its images, and the device that trains it.

    `arithmetic` is the result of `gradscape.train.precision.decide` for all of the study's runs.
    """

    config: RunConfig
    folder: Path
    data_root: str | Path | None = None
    device: str = "auto"
    threads: int = 1
    arithmetic: Arithmetic | None = None
    stop_hopeless: bool = False


def train_job(job: TrainJob, report: MessageSink) -> RunRecord | None:
    """Train one run in this process.

    Each run of a study has one thread: two runs side by side finish sooner than one run on two threads.

    Args:
        job: Run and where to train it.
        report: Function to report progress to.

    Returns:
        Record of the run with its last epoch alone (the folder has them all); None where another process is
        training it.
    """
    from gradscape.data import load_images
    from gradscape.train.loop import train_run
    from gradscape.train.process import prepare_process

    folder = RunFolder(job.folder)
    if folder.held():
        return None
    prepare_process(job.threads)
    images = load_images(job.config.data.name, job.data_root)
    try:
        record = train_run(job.config, folder, images, job.device, report, job.arithmetic, job.stop_hopeless)
    except Busy:
        return None
    return replace(record, epochs=record.epochs[-1:], curvature={}, landscape=None)
