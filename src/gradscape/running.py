"""What the commands that run a whole study share: flags, the dry run, and what is said at the end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config import RunConfig
from gradscape.errors import ConfigError
from gradscape.flags import add_execution_flags, whole

if TYPE_CHECKING:
    from gradscape.study.plan import Plan


def add_study_flags(command: argparse.ArgumentParser) -> None:
    """How many runs side by side, a dry run, and where to execute."""
    command.add_argument(
        "--workers",
        metavar="W",
        type=whole,
        help="runs side by side (default: one per core; on a GPU as many as make it faster)",
    )
    command.add_argument("--dry-run", action="store_true", help="list the runs and estimate their time")
    add_execution_flags(command)


def run_study(plan: Plan, values: argparse.Namespace, names: Mapping[str, str]) -> None:
    """Run what is missing of a study, or list it; `names` has what each run is called in the list."""
    from gradscape.machine import cores
    from gradscape.store import StudyFolder
    from gradscape.study.run import Execution, execute

    if values.workers is not None and values.workers < 1:
        raise ConfigError(f"--workers: {values.workers} is not possible; give 1 or more")
    if values.dry_run:
        dry_run(plan.runs(), names, min(values.workers or cores(), cores()))
        return
    execution = Execution(
        workers=values.workers,
        device=values.device,
        data_root=values.data_root,
        download=values.download,
        mirrors=tuple(values.mirror),
    )
    say_verdicts(execute(plan, StudyFolder(values.out or Path("runs") / plan.name), execution))


def dry_run(configs: Mapping[str, RunConfig], names: Mapping[str, str], workers: int) -> None:
    """List the runs, each with the time a timed step promises."""
    from gradscape.study.cost import duration, measure_rate, run_macs

    rate = measure_rate(configs.values())
    seconds = {name: run_macs(config) / rate for name, config in configs.items()}
    width = max(44, *map(len, names.values()))
    for name, config in configs.items():
        print(f"{names[name]:<{width}} {config.epochs:>4} epochs  {duration(seconds[name]):>8}")
    # Two runs side by side share the memory and the clock: the estimate is for one core at work.
    total = max(sum(seconds.values()) / workers, *seconds.values())
    print(f"{len(configs)} runs, about {duration(total)} with {workers} at once (from steps timed here)")


def say_verdicts(page: Path) -> None:
    """The report's claims, a line each, and where to read on."""
    for claim in json.loads((page.parent / "claims.json").read_text(encoding="utf-8"))["claims"]:
        print(f"{claim['id']}  {claim['verdict']:<14} {claim['title']}")
    print(f"report: {page}")
