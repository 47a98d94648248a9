"""What the commands that run a whole study share: the run, the dry run, and what is said at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape._printing import heard_or_not
from gradscape._text import plain
from gradscape.config.run import RunConfig
from gradscape.study.execution import Execution

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
    """Run what is missing of a study, or list it."""
    from gradscape._machine import cores
    from gradscape.storage.study_folder import StudyFolder

    if dry:
        _dry_run(plan.runs(), plan.names(), min(execution.workers or cores(), cores()))
        return
    report = run(StudyFolder(Path(out or Path("runs") / plan.name)), execution)
    with heard_or_not(sys.stdout):
        say_verdicts(report)


def _dry_run(configs: Mapping[str, RunConfig], names: Mapping[str, str], workers: int) -> None:
    """List the runs, each with the time a timed step promises."""
    from gradscape.study.network_cost import duration, measure_rate, run_macs

    rate = measure_rate(configs.values())
    seconds = {name: run_macs(config) / rate for name, config in configs.items()}
    width = max(44, *map(len, names.values()))
    for name, config in configs.items():
        print(f"{names[name]:<{width}} {config.epochs:>4} epochs  {duration(seconds[name]):>8}")
    # Two runs side by side share the memory and the clock: the estimate is for one core at work.
    total = max(sum(seconds.values()) / workers, *seconds.values())
    print(f"{len(configs)} runs, about {duration(total)} with {workers} at once (from steps timed here)")


def say_verdicts(report: Report) -> None:
    """Print a report's claims, a line each, and the path of its page."""
    for claim in report.claims:
        print(plain(f"{claim.id}  {claim.verdict:<14} {claim.title}"))
    print(plain(f"report: {report.page}"))
