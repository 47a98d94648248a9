"""Live progress: a line per running run and the time left; plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gradscape._printing import Forgiving
from gradscape._text import shorten, strip_controls
from gradscape.config.run import RunConfig
from gradscape.executors.base import Event
from gradscape.records.run import Progress, RunRecord
from gradscape.study.network_cost import duration
from gradscape.study.packs import Pack
from gradscape.study.time_left import TimeLeft

PLAIN_EVERY = 15.0  # seconds between two plain progress lines of one worker
GAP, NAME, LEAST = 2, 35, 12  # columns between a name and its progress, of most names, and of either at least
NOTABLE = 0.05  # share of a run's cost from which the beginning of a phase has a plain line of its own


class ProgressView:
    """Display of a study's events; a context manager.

    Args:
        runs: Configuration per identity of the runs to be executed.
        done: Number of the study's runs that are finished already.
        names: Name per identity for people; by default the run's label.
        report: Seconds that the report is expected to take; 0 if there is none.
        packs: Runs that are trained together.
    """

    def __init__(
        self,
        runs: Mapping[str, RunConfig],
        done: int,
        names: Mapping[str, str] | None = None,
        report: float = 0.0,
        packs: Iterable[Pack] = (),
    ) -> None:
        self.names = {name: config.label for name, config in runs.items()} if names is None else names
        self.runs, self.done, self.total = runs, done, done + len(runs)
        self.left = TimeLeft(runs, packs)
        self.running: dict[str, Progress | None] = {}
        self.printed: dict[Pack, float] = {}  # time of the last plain line of runs that are trained together
        self.report, self.reporting, self.began_report = report, False, 0.0
        self.start = time.monotonic()
        # A study goes on when its output is closed.
        self.console = Console(file=cast(IO[str], Forgiving(sys.stderr)), highlight=False)
        self.is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = Live(
            console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> ProgressView:
        if self.is_live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_live:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Update the display by an event, and print a line if it is worth one.

        Args:
            event: Event of a run.
        """
        name = event.job
        if event.kind == "progress":
            self._progress(name, event.payload)
            return
        self.running.pop(name, None)
        if event.kind == "started":
            self.running[name] = None
            self.left.begin(name)
            return
        self.left.leave(name, ended=event.kind != "died")
        self.done += event.kind != "died"
        self.print_line(f"[{self.done}/{self.total}] {self.names[name]}: {_ending(event)}{self.remaining()}")

    def _progress(self, name: str, progress: Progress | str) -> None:
        if isinstance(progress, str):
            self.print_line(f"  {self.names[name]}: {progress}")
            return
        before, self.running[name] = self.running.get(name), progress
        self.left.advance(name, progress)
        now = time.monotonic()
        changed = before is None or before.phase != progress.phase
        cost = self.left.phases[name][progress.phase]
        notable = changed and progress.phase != "training" and cost >= NOTABLE * self.left.cost[name]
        pack = self.left.pack[name]
        due = now - self.printed.get(pack, self.start) >= PLAIN_EVERY
        if not self.is_live and (due or notable):
            self.printed[pack] = now
            others = len(pack.names) - 1
            beside = f" and {others} with it" if others and progress.phase == "training" else ""
            self.print_line(f"  {self.names[name]}{beside}  {progress}{self.remaining()}")

    def begin_report(self) -> None:
        """Tell that all runs have ended and the report is being built."""
        self.reporting, self.began_report = True, time.monotonic()
        if not self.is_live:
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
        if self.reporting:
            return max(0.0, self.report - (time.monotonic() - self.began_report))
        left = self.left.seconds()
        return None if left is None else left + self.report

    def _render(self) -> Group:
        rows = [(self.names[name], str(progress or "starting")) for name, progress in self.running.items()]
        if self.reporting:
            rows.append(("report", "figures, tables and page"))
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in _beside(rows, self.console.width)]
        whole = Text(f"{self.done}/{self.total} runs{self.remaining()}", style="bold")
        return Group(*lines, whole)


def _beside(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield names and progress as two columns; without room for all, the last numbers are left out."""
    longest = max((len(name) for name, _ in rows), default=0)
    room = max(LEAST, width - GAP - min(longest, NAME))
    progress = [_without_last(text, room) for _, text in rows]
    room = max(LEAST, width - GAP - max(map(len, progress), default=0))
    names = [shorten(name, room) for name, _ in rows]
    start = max(map(len, names), default=0) + GAP
    return (f"{name:<{start}}{text}" for name, text in zip(names, progress, strict=True))


def _without_last(progress: str, most: int) -> str:
    """Return as many of the parts of a progress, which two blanks separate, as have room."""
    while len(progress) > most and "  " in progress:
        progress = progress.rpartition("  ")[0]
    return progress


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
