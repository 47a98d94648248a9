"""Run a study's runs that are not done yet, then build its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config import RunConfig
from gradscape.data import load_images
from gradscape.errors import ConfigError, RunFailed
from gradscape.executors.face import Executor, Tell
from gradscape.machine import cores
from gradscape.records import Progress
from gradscape.report.build import build
from gradscape.store import ENDED, StudyFolder
from gradscape.study.batchnorm import BATCHNORM
from gradscape.study.console import ProgressView
from gradscape.study.drive import drive, missing
from gradscape.study.plan import Plan, ask
from gradscape.study.reproduction import Reproduction
from gradscape.study.sweep_report import PARTS as SWEEP_PARTS
from gradscape.study.work import PRELOAD, TrainJob, train_job

if TYPE_CHECKING:
    import torch

    from gradscape.train.arithmetic import Arithmetic

SWEEP = "sweep"
STUDIES: Mapping[str, Reproduction] = {study.name: study for study in (BATCHNORM,)}


@dataclass(frozen=True)
class Execution:
    """Where and how a study is run; its results do not depend on it.

    Attributes:
        workers: runs side by side: on CPUs each a process of one thread, by default one per core; on a GPU
            each a thread with a stream, by default as many as make it faster.
        device: `auto`, `cpu` or `cuda`.
        data_root: the folder that holds CIFAR.
        download: fetch CIFAR where it is not found.
        mirrors: addresses to fetch it from; empty for its author's.
        epoch_limit: seconds an epoch may take before its worker counts as hung; on CPUs alone: nothing can
            end a thread. Two hours: nothing hangs for ever, and no epoch that works is cut.
        stop_hopeless: end runs early that guess and cannot learn.
    """

    workers: int | None = None
    device: str = "auto"
    data_root: Path | None = None
    download: bool = False
    mirrors: tuple[str, ...] = ()
    epoch_limit: float = 7_200.0
    stop_hopeless: bool = False


def execute(plan: Plan, folder: StudyFolder, execution: Execution) -> Path:
    """Run what is missing of a study and build its report; returns the page's path.

    Raises:
        ConfigError: a device that is not here, or has not the plan's precision.
        DataError: the images cannot be had; nothing has been run.
        StoreError: the folder is another study's, busy, or cannot be written.
        RunFailed: some runs failed; the others were run and the report was built.
    """
    from gradscape.train.arithmetic import decide
    from gradscape.train.process import find_device

    runs = plan.runs()
    # Once and now, not in every worker.
    device = find_device(execution.device)
    precisions: set[str] = {config.precision for config in runs.values()}
    hows = {name: decide(name, device) for name in sorted(precisions)}
    # Verified and cached once, before any worker asks for it.
    for data in sorted({config.data.name for config in runs.values()}):
        load_images(data, execution.data_root, download=execution.download, mirrors=execution.mirrors or None)
    with folder.locked():
        ask(folder, plan)
    failed = run_missing(runs, folder, execution, device, hows)
    with folder.locked():
        page = rebuild(folder)
    if failed:
        raise RunFailed(
            f"{len(failed)} of {len(runs)} runs failed ({', '.join(failed)}); "
            f"their status.json says why; the report on the others is {page}"
        )
    return page


def run_missing(
    runs: Mapping[str, RunConfig],
    folder: StudyFolder,
    execution: Execution,
    device: torch.device,
    hows: Mapping[str, Arithmetic],
) -> list[str]:
    """Run what has not ended, side by side; returns the identities of runs that failed."""
    ended = (*ENDED, "stopped") if execution.stop_hopeless else ENDED
    left = missing(runs, folder, ended)
    jobs = {
        name: TrainJob(
            config,
            folder.run(name).path,
            execution.data_root,
            device.type,
            arithmetic=hows[config.precision],
            stop_hopeless=execution.stop_hopeless,
        )
        for name, config in left.items()
    }
    executor, note = side_by_side(left, execution, device, hows)
    with ProgressView(left, len(runs) - len(left)) as view:
        news = [text for how in hows.values() for text in (how.fallback, how.fusing)]
        for text in dict.fromkeys(filter(None, (*news, note))):
            view.say(text)
        return drive(runs, jobs, folder, view, executor)


def side_by_side(
    left: Mapping[str, RunConfig], execution: Execution, device: torch.device, hows: Mapping[str, Arithmetic]
) -> tuple[Callable[[Tell], Executor], str]:
    """What does the jobs as their device likes it, given where to tell events; and what to say of that."""
    from gradscape.executors.local import Processes
    from gradscape.executors.threads import Threads
    from gradscape.study.packing import pack, share_memory

    configs = list(left.values())
    if device.type == "cuda" and configs:
        count, note = pack(configs, device, hows, execution.workers)
        return lambda tell: Threads(train_job, count, tell), note
    count, note = share_memory(configs, execution.workers or cores())
    limit = execution.epoch_limit
    return lambda tell: Processes(train_job, count, tell, PRELOAD, limit, epoch), note


def epoch(payload: object) -> object:
    """How far a run has come, of what it reports."""
    return payload.epoch if isinstance(payload, Progress) else None


def rebuild(folder: StudyFolder) -> Path:
    """Figures, tables and page from the run folders alone; returns the page's path."""
    asked = folder.asked() or {}
    record = folder.record("last" if asked.get("study") == SWEEP else "all")
    parts = {name: study.parts for name, study in STUDIES.items()} | {SWEEP: SWEEP_PARTS}
    if record.study not in parts:
        raise ConfigError(f"{folder.path} holds study {record.study!r}; known here: {', '.join(parts)}")
    return build(record, parts[record.study], folder.path / "report")
