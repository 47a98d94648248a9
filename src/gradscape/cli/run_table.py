"""Table of runs that fits the terminal: columns are left out rather than wrapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from gradscape.cli.run_progress import counts, study_seconds_left
from gradscape.storage.run_summary import RunSummary
from gradscape.study.network_cost import duration

GAP = 2  # blanks between two columns
DAY = 86_400
STYLES = {
    "pending": "dim",
    "running": "cyan",
    "interrupted": "yellow",
    "done": "green",
    "diverged": "magenta",
    "failed": "bold red",
    "stopped": "yellow",
}


@dataclass(frozen=True)
class _TableColumn:
    """Column of the table; those of the highest `rank` are left out first where there is no room."""

    title: str
    rank: int
    text: Callable[[RunSummary, float], str]
    right: bool = True


def _progress(run: RunSummary, now: float) -> str:
    part = run.share
    return f"{run.epoch}" if part is None else f"{run.epoch}/{run.epochs} {part:4.0%}"


def _best(run: RunSummary, now: float) -> str:
    return "" if run.best_valid_accuracy is None else f"{run.best_valid_accuracy:.3f} @ {run.best_epoch}"


def _trained(run: RunSummary, now: float) -> str:
    return "" if run.train_accuracy is None else f"{run.train_accuracy:.3f}"


def _left(run: RunSummary, now: float) -> str:
    return duration(seconds) if (seconds := run.seconds_left) else ""  # 0: it is tested and measured


def _last_update(run: RunSummary, now: float) -> str:
    if run.last_update is None:
        return ""
    age = max(0.0, now - run.last_update)
    return f"{age / DAY:.0f} days ago" if age > 2 * DAY else f"{duration(age)} ago"


COLUMNS = (
    _TableColumn("run", 0, lambda run, now: run.identity, right=False),
    _TableColumn("state", 0, lambda run, now: run.state, right=False),
    _TableColumn("epochs", 1, _progress),
    _TableColumn("best valid", 2, _best),
    _TableColumn("train", 5, _trained),
    _TableColumn("left", 4, _left),
    _TableColumn("updated", 6, _last_update),
    _TableColumn("attempts", 7, lambda run, now: str(run.attempts) if run.attempts > 1 else ""),
    _TableColumn("device", 8, lambda run, now: run.device or "", right=False),
    _TableColumn("host", 9, lambda run, now: run.host or "", right=False),
)
FOR = _TableColumn("for", 3, lambda run, now: run.roles[0] if run.roles else "", right=False)


def run_table(runs: Sequence[RunSummary], width: int, now: float) -> Table:
    """Return the table, at most `width` cells wide if the names of runs can be folded into that.

    Args:
        runs: Runs, a row each.
        width: Width of the terminal, in cells.
        now: Seconds since 1970.
    """
    columns = (*COLUMNS[:2], FOR, *COLUMNS[2:]) if _share_names(runs) else COLUMNS
    texts = {column.title: [column.text(run, now) for run in runs] for column in columns}
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    fit = _fitting([c for c in columns if c.rank == 0 or any(texts[c.title])], texts, width)
    for column in fit:
        folds = column.title == "run"  # a name that is copied must be whole
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=not folds,
        )
    for row, run in enumerate(runs):
        style = {"state": STYLES[run.state]}
        table.add_row(*(Text(texts[c.title][row], style.get(c.title, "")) for c in fit))
    return table


def _share_names(runs: Sequence[RunSummary]) -> bool:
    """Check that runs of different roles differ in the last part of their names alone, a checksum."""
    roles: dict[str, tuple[str, ...]] = {}
    return any(roles.setdefault(run.identity.rpartition("-")[0], run.roles) != run.roles for run in runs)


def _fitting(columns: list[_TableColumn], texts: dict[str, list[str]], width: int) -> list[_TableColumn]:
    """Return the columns that have room beside each other, the more important first."""
    needed = {c.title: max(map(cell_len, (c.title, *texts[c.title]))) for c in columns}
    for column in sorted(columns, key=lambda column: -column.rank):
        total = sum(needed[c.title] for c in columns) + GAP * (len(columns) - 1)
        if total <= width or column.rank == 0:
            break
        columns = [c for c in columns if c is not column]
    return columns


def narrowest(runs: Sequence[RunSummary]) -> int:
    """Return the width in which no name of a run is folded.

    Args:
        runs: Runs of the table.
    """
    names = [cell_len(run.identity) for run in runs]
    return max(names, default=0) + GAP + max((len(run.state) for run in runs), default=0)


def summary(study: str, runs: Sequence[RunSummary]) -> str:
    """Return `study batchnorm (quick): 3 done, 2 running; about 5 min left`.

    Args:
        study: Name of the study for people.
        runs: All of its runs.
    """
    states = ", ".join(f"{count} {state}" for state, count in counts(runs).items())
    seconds = study_seconds_left(runs)
    estimate = "" if seconds is None else f"; about {duration(seconds)} left"
    return f"{study}: {states or 'no runs yet'}{estimate}"


def reasons(runs: Sequence[RunSummary]) -> list[str]:
    """Return a line for each reason, with its run or the number of runs that have it.

    Args:
        runs: Runs of the table.
    """
    by_reason: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.reason:
            by_reason.setdefault(run.reason, []).append(run)
    return [
        f"{same[0].identity}: {reason}"
        if len(same) == 1
        else f"{len(same)} runs, {same[0].identity} first: {reason}"
        for reason, same in by_reason.items()
    ]
