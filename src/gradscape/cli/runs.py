"""Command that shows the runs of a folder while and after they run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gradscape._text import strip_controls
from gradscape.cli.app import FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gradscape.storage.run_summary import RunSummary, StudyWatcher

RunOrder = Literal["best", "progress", "name", "state"]
NOTES = 5  # reasons shown beneath a table that is watched


@dataclass(frozen=True, kw_only=True)
class RunsOptions(Options):
    """Choice of the runs that are shown, and form."""

    watch: bool = option(False, "look again and again until every run has ended, or Ctrl-C")
    every: float = option(2.0, "seconds between two looks", 0, MOST_SECONDS)
    state: str | None = option(None, "states of the runs to show, such as failed,running")
    sort: RunOrder | None = option(None, "order of the runs (default: the study's)")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.json and self.watch:
            raise ConfigError("--json: one document cannot be watched; leave out --watch")


def runs(
    folder: Annotated[str, Parameter(name="DIR", help=FOLDER)],
    /,
    *,
    options: Annotated[RunsOptions, FLAT] = RunsOptions(),
) -> None:
    """Show a row per run.

    Args:
        folder: Path of a study's or a run's folder.
        options: Choice of the runs, and form.

    Raises:
        ConfigError: A state is unknown.
        StoreError: The folder holds no run, or is damaged.
    """
    from gradscape.cli.run_progress import chosen, read_states
    from gradscape.storage.run_summary import StudyWatcher
    from gradscape.storage.study_folder import folder_at

    states = read_states(options.state) if options.state is not None else ()
    watcher = StudyWatcher(folder_at(folder_of(folder)))
    if options.json:
        print(_as_json(watcher, states, options.sort))
        return
    console = _console_here()
    if options.watch:
        watch(watcher, console, options.every, states, options.sort)
        return
    all_runs = watcher.poll()
    _show(console, _name(watcher), all_runs, chosen(all_runs, states, options.sort))


def _console_here() -> Console:
    """Return standard output; if its reader has gone (`runs DIR | head`), `main` ends the command well."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Piped(highlight=False)


def _name(watcher: StudyWatcher) -> str:
    """Return `study batchnorm (quick)`, or `run first` for a single run's folder."""
    asked = watcher.asked()
    study, preset = asked["study"], asked["preset"]
    return strip_controls(f"run {preset}" if study == "run" else f"study {study} ({preset})")


def _as_json(watcher: StudyWatcher, states: Sequence[str], sort: str | None) -> str:
    """Return one document: the study, the counts of its states, and a row for each chosen run."""
    from gradscape.cli.run_progress import chosen, counts, row, study_seconds_left

    all_runs, asked = watcher.poll(), watcher.asked()
    document = {
        "study": strip_controls(asked["study"]),
        "preset": strip_controls(asked["preset"]),
        "counts": counts(all_runs),
        "seconds_left": study_seconds_left(all_runs),
        "runs": [row(run) for run in chosen(all_runs, states, sort)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _show(
    console: Console, study: str, all_runs: Sequence[RunSummary], chosen_runs: Sequence[RunSummary]
) -> None:
    """Print everything once; in a pipe as wide as names are long, so that they stay whole."""
    from gradscape.cli.run_table import narrowest, reasons, run_table, summary

    if not console.is_terminal:
        console.width = max(console.width, narrowest(chosen_runs))
    console.print(summary(study, all_runs), markup=False, soft_wrap=True)
    if chosen_runs:
        console.print(run_table(chosen_runs, console.width, time.time()))
    for line in reasons(chosen_runs):
        console.print(line, markup=False, soft_wrap=True)


def watch(
    watcher: StudyWatcher, console: Console, every: float, states: Sequence[str], sort: str | None
) -> None:
    """Show the runs again and again until all have ended, or Ctrl-C.

    Args:
        watcher: Reader of the runs.
        console: Terminal or pipe to print to.
        every: Seconds between two looks.
        states: States of the runs to show; without any, all are shown.
        sort: Order of the runs; None for the study's.
    """
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            _watch_in_place(watcher, console, every, states, sort)
        else:
            _watch_in_lines(watcher, console, every, states)


def _looks(watcher: StudyWatcher, every: float) -> Iterator[list[RunSummary]]:
    """Yield the runs again and again until all are over."""
    while True:
        all_runs = watcher.poll()
        yield all_runs
        if all(run.over for run in all_runs):
            return
        time.sleep(every)


def _watch_in_place(
    watcher: StudyWatcher, console: Console, every: float, states: Sequence[str], sort: str | None
) -> None:
    from rich.live import Live

    from gradscape.cli.run_progress import chosen

    study = _name(watcher)
    with Live(console=console, auto_refresh=False) as live:
        for all_runs in _looks(watcher, every):
            live.update(
                _screenful(study, all_runs, chosen(all_runs, states, sort), sort, console), refresh=True
            )


def _screenful(
    study: str,
    all_runs: Sequence[RunSummary],
    chosen_runs: Sequence[RunSummary],
    sort: str | None,
    console: Console,
) -> RenderableType:
    """Return as much of the table as the terminal is high; without a `sort` what matters most."""
    from rich.console import Group
    from rich.text import Text

    from gradscape.cli.run_progress import chosen
    from gradscape.cli.run_table import reasons, run_table, summary

    notes = [Text(line, no_wrap=True, overflow="ellipsis") for line in reasons(chosen_runs)[:NOTES]]
    room = max(1, console.height - len(notes) - 4)  # summary, header, what is left out, the cursor
    fitting = chosen_runs if len(chosen_runs) <= room else chosen(chosen_runs, (), sort or "state")[:room]
    more = (
        [Text(f"and {len(chosen_runs) - len(fitting)} more", "dim")]
        if len(fitting) < len(chosen_runs)
        else []
    )
    return Group(
        Text(summary(study, all_runs), "bold"), run_table(fitting, console.width, time.time()), *more, *notes
    )


def _watch_in_lines(watcher: StudyWatcher, console: Console, every: float, states: Sequence[str]) -> None:
    """Print, without a terminal, the counts of states, then a line for each change of a run's state."""
    from gradscape.cli.run_table import summary

    study, before = _name(watcher), dict[str, str]()
    all_runs: list[RunSummary] = []
    for all_runs in _looks(watcher, every):
        changed = [run for run in all_runs if before.get(run.identity, run.state) != run.state]
        lines = [_change(run, before[run.identity]) for run in changed if not states or run.state in states]
        for line in lines if before else [summary(study, all_runs)]:
            console.print(line, markup=False, soft_wrap=True)
        console.file.flush()
        before |= {run.identity: run.state for run in all_runs}
    console.print(summary(study, all_runs), markup=False, soft_wrap=True)


def _change(run: RunSummary, before: str) -> str:
    """Return `vgg08-…: running → done, epoch 6/6, best valid 0.480 in epoch 5`."""
    parts = [f"{run.identity}: {before} → {run.state}"]
    if run.epoch:
        parts.append(f"epoch {run.epoch}/{run.epochs}")
    if run.best_valid_accuracy is not None:
        parts.append(f"best valid {run.best_valid_accuracy:.3f} in epoch {run.best_epoch}")
    return ", ".join([*parts, *filter(None, [run.reason])])
