"""Common parts of the commands that run a whole study: the run, the dry run, the printed verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape._printing import heard_or_not
from gradscape._text import strip_controls
from gradscape.study.execution_options import Execution

if TYPE_CHECKING:
    from gradscape.report.build import Report
    from gradscape.storage.study_folder import StudyFolder
    from gradscape.study.plan import Plan


def run_study(
    plan: Plan,
    out: str | Path | None,
    dry: bool,
    execution: Execution,
    run: Callable[[StudyFolder, Execution], Report],
) -> None:
    """Run what is missing of a study and print its verdicts, or list its runs.

    Args:
        plan: Runs of the study.
        out: Path of the study's folder (default: `runs/` and the plan's name).
        dry: True to list the runs and stop.
        execution: Place and manner.
        run: Function that runs the study in a folder and returns its report.
    """
    from gradscape.storage.study_folder import StudyFolder

    folder = StudyFolder(Path(out or Path("runs") / plan.name))
    if dry:
        _dry_run(plan, folder, execution)
        return
    report = run(folder, execution)
    with heard_or_not(sys.stdout):
        print_verdicts(report)


def _dry_run(plan: Plan, folder: StudyFolder, execution: Execution) -> None:
    """Print the runs, each with an estimate of its time from steps timed now, or that it has ended."""
    from gradscape._machine import cores
    from gradscape.study.network_cost import duration, measure_rate, run_macs
    from gradscape.study.packs import divide, pack_macs
    from gradscape.study.train_runs import missing

    runs, names = plan.runs(), plan.names()
    left = missing(runs, folder, execution.stops_early)
    workers = min(execution.workers or cores(), cores())
    packs = divide(runs, left, plan.together, workers)
    rate = measure_rate(left.values()) if left else 1.0
    seconds = {pack: pack_macs(pack, lambda name, rows: run_macs(runs[name], rows)) / rate for pack in packs}
    share = {name: each / len(pack.names) for pack, each in seconds.items() for name in pack.names}
    width = max(44, *map(len, names.values()))
    for name, config in runs.items():
        time = duration(share[name]) if name in left else "ended"
        print(f"{names[name]:<{width}} {config.epochs:>4} epochs  {time:>8}")
    # Two runs side by side share the memory and the clock: the estimate is for one core at work.
    total = max(sum(seconds.values()) / workers, *seconds.values()) if left else 0.0
    ended = f", {len(runs) - len(left)} of them ended" if len(left) < len(runs) else ""
    side = f"{workers} at once" if workers > 1 else "one at a time"
    print(
        f"{len(runs)} runs{ended}, about {duration(total)} with {side} (from steps timed on this CPU; "
        "of a GPU it says nothing)"
    )


def print_verdicts(report: Report) -> None:
    """Print a report's claims, a line each, and the path of its page.

    Args:
        report: Report that was written.
    """
    for claim in report.claims:
        print(strip_controls(f"{claim.id}  {claim.verdict:<14} {claim.title}"))
    print(strip_controls(f"report: {report.page}"))
