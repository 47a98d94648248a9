"""Live progress: a line per running run and the time left; plain lines without a terminal."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gradscape._printing import Forgiving
from gradscape._text import strip_controls
from gradscape.config.run import RunConfig
from gradscape.executors.base import Event
from gradscape.records.run import Phase, Progress, RunRecord
from gradscape.study.network_cost import duration, phase_macs

PLAIN_EVERY = 15.0  # seconds between two plain progress lines of one run
NOTABLE = 0.05  # share of a run's cost from which the beginning of a phase has a plain line of its own


class ProgressView:
    """Display of a study's events; a context manager.

    Args:
        runs: Configuration per identity of the runs to be executed.
        done: Number of the study's runs that are finished already.
        names: Name per identity for people; by default the run's label.
        report: Seconds that the report is expected to take; 0 if there is none.
    """

    def __init__(
        self,
        runs: Mapping[str, RunConfig],
        done: int,
        names: Mapping[str, str] | None = None,
        report: float = 0.0,
    ) -> None:
        self.names = {name: config.label for name, config in runs.items()} if names is None else names
        self.runs, self.done, self.total = runs, done, done + len(runs)
        self.phases = {name: phase_macs(config) for name, config in runs.items()}
        self.cost = {name: sum(phases.values()) for name, phases in self.phases.items()}
        self.share: dict[str, float] = {}  # share of each begun run's cost that is done, 0 to 1
        self.first: dict[str, float] = {}  # its share when this command began it: a resumed run's is not 0
        self.running: dict[str, Progress | None] = {}
        self.printed: dict[str, float] = {}  # time of each run's last plain line
        self.report, self.reporting = report, False
        self.start = time.monotonic()
        self.workers = 1  # most runs at once so far
        self.busy = 0.0  # seconds that workers have been at runs, beginning with the first report of any
        self.until: float | None = None  # time up to which they are counted
        # A study goes on when its output is closed.
        self.console = Console(file=cast(IO[str], Forgiving(sys.stderr)), highlight=False)
        self.live = Live(
            console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> ProgressView:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Update the display by an event, and print a line if it is worth one.

        Args:
            event: Event of a run.
        """
        name = event.job
        self.busy, self.until = self._busy_now()
        if event.kind == "progress":
            self._progress(name, event.payload)
            return
        self.running.pop(name, None)
        if event.kind == "started":
            self.running[name] = None
            self.workers = max(self.workers, len(self.running))
            return
        if event.kind != "died":
            self.done += 1
            self.first.setdefault(name, 0.0)
            self.share[name] = 1.0
        self.print_line(f"[{self.done}/{self.total}] {self.names[name]}: {_ending(event)}{self.remaining()}")

    def _progress(self, name: str, progress: Progress | str) -> None:
        if isinstance(progress, str):
            self.print_line(f"  {self.names[name]}: {progress}")
            return
        before, self.running[name] = self.running.get(name), progress
        phases, cost = self.phases[name], self.cost[name]
        self.share[name] = _macs_done(phases, progress, progress.share) / cost
        self.first.setdefault(name, _macs_done(phases, progress, 0.0) / cost)
        now = time.monotonic()
        self.until = now if self.until is None else self.until
        changed = before is None or before.phase != progress.phase
        notable = changed and progress.phase != "training" and phases[progress.phase] >= NOTABLE * cost
        due = now - self.printed.get(name, self.start) >= PLAIN_EVERY
        if not self.console.is_terminal and (due or notable):
            self.printed[name] = now
            self.print_line(f"  {self.names[name]}  {progress}")

    def begin_report(self) -> None:
        """Tell that all runs have ended and the report is being built."""
        self.reporting = True
        if not self.console.is_terminal:
            self.print_line("report: figures, tables and page")

    def print_line(self, line: str) -> None:
        """Print a line above the display.

        Args:
            line: Text without markup.
        """
        self.console.print(strip_controls(line), soft_wrap=True, markup=False)

    def remaining(self) -> str:
        """Return `  (about 3 min left)`, from the rate of this command up to now."""
        seconds = self.seconds_left()
        return f"  (about {duration(seconds)} left)" if seconds else ""

    def seconds_left(self) -> float | None:
        """Return the seconds until all runs have ended and the report is built; None if not known yet."""
        worked = sum(self.cost[n] * (share - self.first.get(n, 0.0)) for n, share in self.share.items())
        order = dict.fromkeys([*self.running, *self.cost])
        left = [self.cost[name] * (1 - self.share.get(name, 0.0)) for name in order]
        if not any(left):
            return self.report
        if worked <= 0:
            return None
        return _length(left, self.workers) * self._busy_now()[0] / worked + self.report

    def _busy_now(self) -> tuple[float, float | None]:
        """Return the seconds that workers have been at runs, and up to which time."""
        if self.until is None:
            return 0.0, None
        now = time.monotonic()
        return self.busy + (now - self.until) * len(self.running), now

    def _render(self) -> Group:
        lines = [
            Text(f"{self.names[name]:<42} {progress or 'starting'}", no_wrap=True, overflow="ellipsis")
            for name, progress in self.running.items()
        ]
        if self.reporting:
            lines.append(Text(f"{'report':<42} figures, tables and page"))
        whole = Text(f"{self.done}/{self.total} runs{self.remaining()}", style="bold")
        return Group(*lines, whole)


def _length(costs: Sequence[float], workers: int) -> float:
    """Return the length of jobs done in order by whoever is free: no run is shared among workers."""
    ends = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)


def _macs_done(phases: Mapping[Phase, float], progress: Progress, share: float) -> float:
    """Return the multiply-adds of a run up to a share of its present epoch."""
    order = list(phases)
    before = sum(phases[phase] for phase in order[: order.index(progress.phase)])
    if progress.phase != "training":
        return before
    return before + phases["training"] * (progress.epoch - 1 + share) / progress.epochs


def _ending(event: Event) -> str:
    """Return the end of a run, in words."""
    if event.kind == "failed":
        return f"FAILED: {event.payload}"
    if event.kind == "died":
        return f"{event.payload}; it goes on from its last epoch"
    record = event.payload
    assert isinstance(record, RunRecord)
    if record.state == "stopped":
        return f"stopped early: {record.status['reason']}"
    if record.state == "diverged":
        return f"diverged in epoch {record.status['epoch']}, step {record.status['step']}"
    last = record.epochs[-1]
    return f"accuracy {last.train_accuracy:.3f} train, {last.valid_accuracy:.3f} valid"
