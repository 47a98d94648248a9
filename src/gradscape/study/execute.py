"""Execution of a study: train the runs that are not done yet, then build its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape._machine import cores
from gradscape._text import count_noun
from gradscape.config.run import RunConfig
from gradscape.data import load_images
from gradscape.errors import RunFailed
from gradscape.executors.base import Event, EventSink, Executor
from gradscape.records.run import Progress
from gradscape.report.build import Report, ReportParts, build, require_own
from gradscape.storage.files import refuse_link
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.asha import Halving
from gradscape.study.disk_space import require_space
from gradscape.study.execution_options import Execution
from gradscape.study.network_cost import report_seconds
from gradscape.study.packs import Pack, divide
from gradscape.study.plan import Plan, ask
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import PRELOAD, PackJob, TrainJob, train_job
from gradscape.study.train_runs import missing, train_runs

if TYPE_CHECKING:
    from gradscape.train.precision import Arithmetic

REPORT_PATIENCE = 3_600  # seconds to wait for the report of another command, which ends at the same time


def execute(plan: Plan, folder: StudyFolder, execution: Execution, parts: ReportParts) -> Report:
    """Run what is missing of a study and build its report.

    Args:
        plan: Runs of the study.
        folder: Folder of the study.
        execution: Place and manner.
        parts: Contents of the report.

    Raises:
        ConfigError: The device is not available, or lacks the plan's precision; the cluster is out of reach.
        DataError: The images are not available; nothing has been run.
        StoreError: The folder is another study's, or cannot be written, or its disk does not hold the runs.
        RunFailed: Some runs failed; the others were run and the report was built.
    """
    runs = plan.runs()
    left = missing(runs, folder, execution.stops_early)
    require_space(left.values(), folder.path)
    if execution.on == "local":
        _find_data(runs, execution)
        backend = _local_backend(left, execution, lambda workers: divide(runs, left, plan.together, workers))
    else:
        backend = _ray_backend(left, execution)
    on_progress = Halving(runs, folder).update if execution.asha else lambda name, progress: None
    with folder.locked():
        ask(folder, plan)
    jobs = _jobs_of(left, folder, execution, backend)
    done = len(runs) - len(left)
    with ProgressView(left, done, plan.names(), report_seconds(), backend.packs) as view:
        idle = (config.net.unnormalized for config in left.values())
        for text in dict.fromkeys(filter(None, (*backend.notes, *idle))):
            view.print_line(text)
        failed = train_runs(runs, jobs, folder, view, backend.executor, on_progress)
        view.begin_report()
        with folder.locked(REPORT_PATIENCE):
            written = report(folder, parts)
    if failed:
        raise RunFailed(
            f"{len(failed)} of {len(runs)} runs failed ({', '.join(failed)}); "
            f"their status.json says why; the report on the others is {written.page}"
        )
    return written


def _find_data(runs: Mapping[str, RunConfig], execution: Execution) -> None:
    """Verify and cache the images once, before any worker needs them."""
    for data in sorted({config.data.name for config in runs.values()}):
        load_images(data, execution.data_root, download=execution.download, mirrors=execution.mirrors or None)


def _jobs_of(
    left: Mapping[str, RunConfig], folder: StudyFolder, execution: Execution, backend: _Backend
) -> dict[str, TrainJob | PackJob]:
    """Name → job of the runs that have not ended."""
    jobs = {
        name: TrainJob(
            config,
            folder.run(name).path,
            execution.data_root,
            backend.device,
            arithmetic=backend.arithmetic.get(config.precision),
            stop_hopeless=execution.stop_hopeless,
            leave_stopped=execution.stops_early,
        )
        for name, config in left.items()
    }
    return {
        " + ".join(pack.names): PackJob({name: jobs[name] for name in pack.names})
        if pack.packed
        else jobs[pack.names[0]]
        for pack in backend.packs
    }


@dataclass(frozen=True)
class _Backend:
    """Executor of the jobs, and how they are computed.

    Attributes:
        executor: Function that makes the executor, from the function to report events to.
        device: Device of every job.
        arithmetic: Arithmetic per precision, where it is the same for all runs.
        notes: Sentences to print before the runs begin.
        packs: Runs of each job, in the order to begin them.
    """

    executor: Callable[[EventSink], Executor]
    device: str
    arithmetic: Mapping[str, Arithmetic]
    notes: Sequence[str]
    packs: Sequence[Pack]


def _local_backend(
    left: Mapping[str, RunConfig], execution: Execution, divided: Callable[[int], Sequence[Pack]]
) -> _Backend:
    """Execution on this machine: in threads on its GPU, in processes on its cores."""
    from gradscape.executors.processes import Processes
    from gradscape.executors.threads import Threads
    from gradscape.study.concurrency import share_gpu, share_memory
    from gradscape.train.precision import decide
    from gradscape.train.process import find_device

    configs, wanted = list(left.values()), execution.workers
    device = find_device(execution.device)  # once and now, not in every worker
    precisions: set[str] = {config.precision for config in configs}
    arithmetic = {name: decide(name, device) for name in sorted(precisions)}
    notes = [text for how in arithmetic.values() for text in (how.fallback, how.fusing)]
    if device.type == "cuda" and configs:
        count, note = share_gpu(configs, device, arithmetic, wanted)
        executor = partial(Threads, train_job, count)
        return _Backend(executor, "cuda", arithmetic, (*notes, note), _alone(left))
    packs = divided(wanted or cores())
    jobs = [rows_of(pack, left) for pack in packs]
    count, note = share_memory(jobs, wanted or cores())
    limit = execution.epoch_limit
    return _Backend(
        lambda sink: Processes(train_job, count, sink, PRELOAD, limit, _advance),
        "cpu",
        arithmetic,
        (*notes, _packing(packs), note),
        packs,
    )


def rows_of(pack: Pack, left: Mapping[str, RunConfig]) -> list[RunConfig]:
    """Return the configuration of each row of a pack; a copy has that of its run.

    Args:
        pack: Runs of a job.
        left: Configuration per identity.
    """
    configs = [left[name] for name in pack.names]
    return configs + configs[:1] * (pack.rows - len(configs))


def _alone(left: Mapping[str, RunConfig]) -> list[Pack]:
    """Return a job for each run."""
    return [Pack((name,)) for name in left]


def _packing(packs: Sequence[Pack]) -> str:
    """Return a sentence on the runs that are trained as one network; empty without any."""
    sizes = [len(pack.names) for pack in packs if pack.packed]
    if not sizes:
        return ""
    runs, packs_of = count_noun(sum(sizes), "run"), count_noun(len(sizes), "pack")
    return f"{runs} in {packs_of}, each computed as one network"


def _ray_backend(left: Mapping[str, RunConfig], execution: Execution) -> _Backend:
    """Execution on a Ray cluster; each node finds its device and images, and decides how it computes."""
    from gradscape.executors.ray import Ray, Resources, reach
    from gradscape.study.remote import RemoteRuns, remote_job

    reach(execution.on)  # before anything is written
    takes = Resources(execution.cpus_per_run, execution.gpus_per_run)

    def executor(sink: EventSink) -> Executor:
        home = RemoteRuns(sink)
        limit = execution.epoch_limit
        return Ray(remote_job, execution.on, home.receive, takes, limit, _advance, home.begin, home.end)

    return _Backend(executor, execution.device, {}, (), _alone(left))


def _advance(payload: object) -> object:
    """Return the epochs and phases in the report of a run, or of a pack; None for a report without them."""
    told = payload if isinstance(payload, tuple) else (payload,)
    reports = [each.payload if isinstance(each, Event) else each for each in told]
    return tuple((each.epoch, each.phase) for each in reports if isinstance(each, Progress)) or None


def report(folder: StudyFolder, parts: ReportParts, out: Path | None = None) -> Report:
    """Write figures, tables and page of a study from its run folders alone.

    Args:
        folder: Folder of the study.
        parts: Contents of the report.
        out: Path of the report's folder (default: `report` in the study's).

    Raises:
        StoreError: The folder is damaged, cannot be written, or `out` holds something else.
    """
    if out is None:
        refuse_link(folder.path / "report")
    else:
        require_own(out)
    target = out or folder.path / "report"
    return build(folder.record(parts.epochs), parts, target, lambda identity: folder.run(identity).record())
