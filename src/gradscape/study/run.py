"""Run a study's runs that are not done yet, then build its report."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config import RunConfig
from gradscape.data import load_images
from gradscape.errors import ConfigError, RunFailed
from gradscape.machine import cores
from gradscape.report.build import build
from gradscape.store import ENDED, StudyFolder
from gradscape.study import sweep_report
from gradscape.study.batchnorm import BATCHNORM
from gradscape.study.console import ProgressView
from gradscape.study.executors import Event, run_processes, run_threads
from gradscape.study.plan import Plan, ask
from gradscape.study.reproduction import Reproduction
from gradscape.study.work import PRELOAD, TrainJob, train_job

if TYPE_CHECKING:
    import torch

    from gradscape.train.arithmetic import Arithmetic

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
    """

    workers: int | None = None
    device: str = "auto"
    data_root: Path | None = None
    download: bool = False
    mirrors: tuple[str, ...] = ()


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
    missing = {n: config for n, config in runs.items() if folder.run(n).status()["state"] not in ENDED}
    for name, config in runs.items():
        folder.run(name).create(config)
    jobs = {
        name: TrainJob(
            config, folder.run(name).path, execution.data_root, device.type, arithmetic=hows[config.precision]
        )
        for name, config in missing.items()
    }
    failed = []
    events, note = side_by_side(jobs, execution.workers, device, hows)
    with ProgressView(missing, len(runs) - len(missing)) as view, closing(events):
        news = [text for how in hows.values() for text in (how.fallback, how.fusing)]
        for text in dict.fromkeys(filter(None, (*news, note))):
            view.say(text)
        for event in events:
            view.show(event)
            if event.kind == "failed":
                failed.append(event.job)
                fail(folder, event.job, str(event.payload))
                folder.check_space()  # on a full disk every other run would fail as well
    return failed


def side_by_side(
    jobs: Mapping[str, TrainJob], workers: int | None, device: torch.device, hows: Mapping[str, Arithmetic]
) -> tuple[Generator[Event], str]:
    """The jobs' events, executed as their device likes it, and what to say of that."""
    from gradscape.study.packing import pack, share_memory

    configs = [job.config for job in jobs.values()]
    if device.type == "cuda" and jobs:
        count, note = pack(configs, device, hows, workers)
        return run_threads(train_job, jobs, count), note
    count, note = share_memory(configs, workers or cores())
    return run_processes(train_job, jobs, count, PRELOAD), note


def fail(folder: StudyFolder, name: str, why: str) -> None:
    """A worker that died could not say so itself."""
    status = folder.run(name).status()
    if status.pop("state") != "failed":
        folder.run(name).set_status("failed", **{**status, "error": why})


def rebuild(folder: StudyFolder) -> Path:
    """Figures, tables and page from the run folders alone; returns the page's path."""
    record = folder.record()
    if record.study == "sweep":
        parts = replace(sweep_report.PARTS, question=record.asked["title"])
    elif record.study in STUDIES:
        parts = STUDIES[record.study].parts
    else:
        known = ", ".join([*STUDIES, "sweep"])
        raise ConfigError(f"{folder.path} holds study {record.study!r}; known here: {known}")
    return build(record, parts, folder.path / "report")
