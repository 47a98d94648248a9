"""A study's runs as a table that fits where it is shown: columns are left out rather than wrapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from gradscape.cli.run_progress import counts, seconds_left, share, study_seconds_left
from gradscape.storage.run_summary import Glance
from gradscape.study.network_cost import duration

GAP = 2  # blanks between two columns
DAY = 86_400
STYLES = {
    "pending": "dim",
    "running": "cyan",
    "done": "green",
    "diverged": "magenta",
    "failed": "bold red",
    "stopped": "yellow",
}


@dataclass(frozen=True)
class _Column:
    """A column; those of the highest `rank` go first where there is no room."""

    title: str
    rank: int
    text: Callable[[Glance, float], str]
    right: bool = True


def _progress(run: Glance, now: float) -> str:
    part = share(run)
    return f"{run.epoch}" if part is None else f"{run.epoch}/{run.epochs} {part:4.0%}"


def _best(run: Glance, now: float) -> str:
    return "" if run.best_valid_accuracy is None else f"{run.best_valid_accuracy:.3f} @ {run.best_epoch}"


def _trained(run: Glance, now: float) -> str:
    return "" if run.train_accuracy is None else f"{run.train_accuracy:.3f}"


def _left(run: Glance, now: float) -> str:
    return duration(seconds) if (seconds := seconds_left(run)) else ""  # 0: it is tested and measured


def _heard(run: Glance, now: float) -> str:
    if run.heard is None:
        return ""
    age = max(0.0, now - run.heard)
    return f"{age / DAY:.0f} days ago" if age > 2 * DAY else f"{duration(age)} ago"


COLUMNS = (
    _Column("run", 0, lambda run, now: run.identity, right=False),
    _Column("state", 0, lambda run, now: run.state, right=False),
    _Column("epochs", 1, _progress),
    _Column("best valid", 2, _best),
    _Column("train", 4, _trained),
    _Column("left", 3, _left),
    _Column("heard", 5, _heard),
    _Column("attempts", 6, lambda run, now: str(run.attempts) if run.attempts > 1 else ""),
    _Column("device", 7, lambda run, now: run.device or "", right=False),
    _Column("host", 8, lambda run, now: run.host or "", right=False),
)


def run_table(runs: Sequence[Glance], width: int, now: float) -> Table:
    """The table, at most `width` cells wide if the names of runs can be folded into that.

    Args:
        runs: a row each.
        width: of the terminal.
        now: seconds since 1970.
    """
    texts = {column.title: [column.text(run, now) for run in runs] for column in COLUMNS}
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    shown = _fitting([c for c in COLUMNS if c.rank == 0 or any(texts[c.title])], texts, width)
    for column in shown:
        folds = column.title == "run"  # what is copied must be whole
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=not folds,
        )
    for place, run in enumerate(runs):
        style = {"state": STYLES[run.state]}
        table.add_row(*(Text(texts[c.title][place], style.get(c.title, "")) for c in shown))
    return table


def _fitting(columns: list[_Column], texts: dict[str, list[str]], width: int) -> list[_Column]:
    """The columns that have room beside each other, the more important first."""
    needed = {c.title: max(map(cell_len, (c.title, *texts[c.title]))) for c in columns}
    for column in sorted(columns, key=lambda column: -column.rank):
        total = sum(needed[c.title] for c in columns) + GAP * (len(columns) - 1)
        if total <= width or column.rank == 0:
            break
        columns = [c for c in columns if c is not column]
    return columns


def narrowest(runs: Sequence[Glance]) -> int:
    """The width that no name of a run is folded in."""
    names = [cell_len(run.identity) for run in runs]
    return max(names, default=0) + GAP + max((len(run.state) for run in runs), default=0)


def summary(study: str, runs: Sequence[Glance]) -> str:
    """`study batchnorm (quick): 3 done, 2 running; about 5 min left`."""
    states = ", ".join(f"{count} {state}" for state, count in counts(runs).items())
    seconds = study_seconds_left(runs)
    estimate = "" if seconds is None else f"; about {duration(seconds)} left"
    return f"{study}: {states or 'no runs yet'}{estimate}"


def reasons(runs: Sequence[Glance]) -> list[str]:
    """A line for each reason: the run's, or how many runs have it."""
    told: dict[str, list[Glance]] = {}
    for run in runs:
        if run.reason:
            told.setdefault(run.reason, []).append(run)
    return [
        f"{those[0].identity}: {reason}"
        if len(those) == 1
        else f"{len(those)} runs, {those[0].identity} first: {reason}"
        for reason, those in told.items()
    ]
