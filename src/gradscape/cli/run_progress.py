"""Choice, order and time left of a study's runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict
from gradscape.errors import ConfigError, nearest
from gradscape.storage.run_summary import STATES, RunSummary
from gradscape.study.network_cost import run_macs

# What a watcher looks for, first.
URGENT = ("running", "failed", "stopped", "diverged", "interrupted", "pending", "done")

SORTS: Mapping[str, Callable[[RunSummary], Any]] = {
    "best": lambda run: -math.inf if run.best_valid_accuracy is None else run.best_valid_accuracy,
    "progress": lambda run: run.share or 0.0,
    "name": lambda run: run.identity,
    "state": lambda run: URGENT.index(run.state),
}
DESCENDING = ("best", "progress")


def chosen(runs: Iterable[RunSummary], states: Sequence[str], sort: str | None) -> list[RunSummary]:
    """Return the runs in some states, sorted; ties keep the study's order.

    Args:
        runs: Runs of the study, in its order.
        states: States, of `gradscape.storage.run_summary.STATES`; without any, all runs are returned.
        sort: `best` (highest first), `progress` (furthest first), `name`, `state`; None keeps the order.
    """
    matching = [run for run in runs if not states or run.state in states]
    return sorted(matching, key=SORTS[sort], reverse=sort in DESCENDING) if sort else matching


def read_states(text: str) -> tuple[str, ...]:
    """Return the states that a text such as `failed,running` names.

    Args:
        text: States, parted by commas.

    Raises:
        ConfigError: There is no such state.
    """
    states = tuple(part.strip() for part in text.split(","))
    for state in states:
        if state not in STATES:
            raise ConfigError(
                f"--state: expected one of {', '.join(STATES)}; got {state!r}{nearest(state, STATES)}"
            )
    return states


def counts(runs: Iterable[RunSummary]) -> dict[str, int]:
    """Return the number of runs per state; states without runs are left out.

    Args:
        runs: Runs of the study.
    """
    present = [run.state for run in runs]
    return {state: present.count(state) for state in STATES if state in present}


def study_seconds_left(runs: Sequence[RunSummary]) -> float | None:
    """Return the seconds until all runs are over, if as many processes as now are at work.

    A run that has finished an epoch goes on at its own pace; others are given the multiply-adds per second
    of those that are running or, where none of them has finished an epoch, of all. None where no run is
    running or nothing is known of their pace. A run that has no folder yet is taken for a mean one from its
    first epoch on.

    Args:
        runs: Runs of the study.
    """
    left = [run for run in runs if not run.over]
    running = [run for run in left if run.state == "running"]
    if not running:
        return None
    costs = _Costs()
    pace = costs.pace(running) or costs.pace(runs)
    works = [(run, work) for run in left if (work := costs.work(run, pace)) is not None]
    if not works:
        return None
    total = math.fsum(work for _, work in works)
    if unknown := len(left) - len(works):
        total += unknown * fmean(whole for run in runs if (whole := costs.whole(run, pace)) is not None)
    processes = math.fsum(1 / run.beside for run in running)
    longest = max(work * run.beside for run, work in works)
    return max(total / processes, longest)  # no run is shared among several workers


class _Costs:
    """Multiply-adds of an epoch, computed once for all runs that differ in seed and optimizer alone."""

    def __init__(self) -> None:
        self.known: dict[str, float | None] = {}

    def epoch(self, run: RunSummary) -> float | None:
        if run.config is None:
            return None
        key = repr({name: value for name, value in run.config.items() if name not in ("seed", "optim")})
        if key not in self.known:
            try:
                config = from_dict(RunConfig, run.config)
                self.known[key] = run_macs(config) / config.epochs
            except ConfigError:  # of another version: an estimate is no reason to refuse
                self.known[key] = None
        return self.known[key]

    def pace(self, runs: Iterable[RunSummary]) -> float | None:
        """Return multiply-adds per second of wall time; None if no run has finished an epoch."""
        timed = [(cost, run.epoch_seconds) for run in runs if run.epoch_seconds and (cost := self.epoch(run))]
        seconds = math.fsum(duration for _, duration in timed)
        return math.fsum(cost for cost, _ in timed) / seconds if timed else None

    def whole(self, run: RunSummary, pace: float | None) -> float | None:
        """Return the seconds that all epochs of a run take, alone."""
        cost = self.epoch(run)
        seconds = run.epoch_seconds if cost is None or pace is None else cost / pace
        return None if run.epochs is None or seconds is None else run.epochs * seconds

    def work(self, run: RunSummary, pace: float | None) -> float | None:
        """Return the seconds that are left of a run, alone."""
        if (own := run.own_seconds_left) is not None:
            return own
        whole = self.whole(run, pace)
        return None if whole is None else whole * (1 - (run.share or 0.0))


def row(run: RunSummary) -> dict[str, Any]:
    """Return the row of a run in `gradscape runs --json`; None for what is not known.

    Args:
        run: State of the run.
    """
    return {
        "identity": run.identity,
        "roles": list(run.roles),
        "state": run.state,
        "epoch": run.epoch,
        "epochs": run.epochs,
        "share": run.share,
        "seconds_left": run.seconds_left,
        "best_valid_accuracy": run.best_valid_accuracy,
        "best_epoch": run.best_epoch,
        "train_accuracy": run.train_accuracy,
        "attempts": run.attempts,
        "host": run.host,
        "device": run.device,
        "last_update": run.last_update,
        "reason": run.reason,
    }
