"""What the commands that run a whole study share: flags, the dry run, and what is said at the end."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradscape.config import RunConfig
from gradscape.errors import ConfigError, nearest
from gradscape.flags import add_execution_flags, count, number, seconds
from gradscape.options import MOST_WORKERS
from gradscape.printing import heard_or_not
from gradscape.words import plain

if TYPE_CHECKING:
    from gradscape.store import StudyFolder
    from gradscape.study.plan import Plan
    from gradscape.study.run import Execution


def add_study_flags(command: argparse.ArgumentParser) -> None:
    """How many runs side by side, a dry run, and where to execute."""
    command.add_argument(
        "--workers",
        metavar="W",
        type=count(1, MOST_WORKERS),
        help="runs side by side (default: one per core; on a GPU as many as make it faster)",
    )
    command.add_argument("--dry-run", action="store_true", help="list the runs and estimate their time")
    command.add_argument(
        "--stop-hopeless",
        action="store_true",
        help="end runs early that guess, their gradients vanished",
    )
    command.add_argument(
        "--asha", action="store_true", help="end runs early that fall behind (successive halving, by Optuna)"
    )
    command.add_argument(
        "--epoch-limit",
        metavar="S",
        type=seconds,
        default=7_200.0,
        help="seconds an epoch may take before its worker counts as hung (default: 7200)",
    )
    command.add_argument(
        "--on",
        metavar="WHERE",
        default="local",
        help="local (default), ray (this machine's cluster) or ray://HOST:PORT",
    )
    command.add_argument(
        "--cpus-per-run", metavar="X", type=number, default=1.0, help="of a Ray node (default: 1)"
    )
    command.add_argument(
        "--gpus-per-run",
        metavar="X",
        type=number,
        default=0.0,
        help="of a Ray node (default: 0); 0.25 lets four runs share a GPU",
    )
    add_execution_flags(command)


def run_study(plan: Plan, values: argparse.Namespace, run: Callable[[StudyFolder, Execution], Path]) -> None:
    """Run what is missing of a study, or list it."""
    from gradscape.machine import cores
    from gradscape.store import StudyFolder
    from gradscape.study.run import Execution

    check_execution(values)
    if values.dry_run:
        dry_run(plan.runs(), plan.names(), min(values.workers or cores(), cores()))
        return
    execution = Execution(
        workers=values.workers,
        device=values.device,
        data_root=values.data_root,
        download=values.download,
        mirrors=tuple(values.mirror),
        epoch_limit=values.epoch_limit,
        stop_hopeless=values.stop_hopeless,
        asha=values.asha,
        on=values.on,
        cpus_per_run=values.cpus_per_run,
        gpus_per_run=values.gpus_per_run,
    )
    page = run(StudyFolder(values.out or Path("runs") / plan.name), execution)
    with heard_or_not(sys.stdout):
        say_verdicts(page)


def check_execution(values: argparse.Namespace) -> None:
    """Refuse what no executor can do."""
    if values.on not in ("local", "ray") and not values.on.startswith("ray://"):
        raise ConfigError(
            f"--on: {values.on!r} is not local, ray or ray://HOST:PORT{nearest(values.on, ('local', 'ray'))}"
        )
    if values.on != "local" and values.workers is not None:
        raise ConfigError("--workers: a cluster has as many as it has room for; give --cpus-per-run instead")
    if values.on != "local" and values.asha:
        raise ConfigError(f"--asha: runs on {values.on} cannot be ended from here; give --on local")
    if not 0 < values.cpus_per_run < math.inf:
        raise ConfigError(f"--cpus-per-run: {values.cpus_per_run:g} is not possible; give a number above 0")
    gpus = values.gpus_per_run
    if not (0 <= gpus <= 1 or (gpus < math.inf and gpus.is_integer())):
        raise ConfigError(f"--gpus-per-run: {gpus:g} is not possible; give 0 … 1, or a whole number")


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
        print(plain(f"{claim['id']}  {claim['verdict']:<14} {claim['title']}"))
    print(plain(f"report: {page}"))
