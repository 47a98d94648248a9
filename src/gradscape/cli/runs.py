"""The command that shows a study's runs while and after they run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gradscape._text import plain
from gradscape.cli.app import FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gradscape.storage.run_summary import Glance, Glances

Order = Literal["best", "progress", "name", "state"]
NOTES = 5  # reasons shown beneath a table that is watched


@dataclass(frozen=True, kw_only=True)
class RunsOptions(Options):
    """Which runs are shown, and how."""

    watch: bool = option(False, "look again and again until every run has ended, or Ctrl-C")
    every: float = option(2.0, "seconds between two looks", 0, MOST_SECONDS)
    state: str | None = option(None, "only runs in these, as failed,running")
    sort: Order | None = option(None, "by what (default: in the order of the study)")
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
    """Show a row per run."""
    from gradscape.cli.run_progress import chosen, read_states
    from gradscape.storage.run_summary import Glances
    from gradscape.storage.study_folder import folder_at

    states = read_states(options.state) if options.state is not None else ()
    glances = Glances(folder_at(folder_of(folder)))
    if options.json:
        print(_as_json(glances, states, options.sort))
        return
    console = _console_here()
    if options.watch:
        watch(glances, console, options.every, states, options.sort)
        return
    found = glances.look()
    _show(console, _name(glances), found, chosen(found, states, options.sort))


def _console_here() -> Console:
    """Standard output; where its reader has gone (`runs DIR | head`), `main` ends the command well."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Piped(highlight=False)


def _name(glances: Glances) -> str:
    asked = glances.asked()
    study, preset = asked["study"], asked["preset"]
    return plain(f"run {preset}" if study == "run" else f"study {study} ({preset})")


def _as_json(glances: Glances, states: Sequence[str], sort: str | None) -> str:
    """One document: the study, how it stands, and a row for each run that was chosen."""
    from gradscape.cli.run_progress import chosen, counts, row, study_seconds_left

    found, asked = glances.look(), glances.asked()
    document = {
        "study": plain(asked["study"]),
        "preset": plain(asked["preset"]),
        "counts": counts(found),
        "seconds_left": study_seconds_left(found),
        "runs": [row(run) for run in chosen(found, states, sort)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def _show(console: Console, study: str, found: Sequence[Glance], shown: Sequence[Glance]) -> None:
    """Everything once; in a pipe as wide as names are long, so that they stay whole."""
    from gradscape.cli.run_table import narrowest, reasons, run_table, summary

    if not console.is_terminal:
        console.width = max(console.width, narrowest(shown))
    console.print(summary(study, found), markup=False, soft_wrap=True)
    if shown:
        console.print(run_table(shown, console.width, time.time()))
    for line in reasons(shown):
        console.print(line, markup=False, soft_wrap=True)


def watch(glances: Glances, console: Console, every: float, states: Sequence[str], sort: str | None) -> None:
    """Show the runs again and again until all have ended; Ctrl-C is how one leaves before."""
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            _watch_in_place(glances, console, every, states, sort)
        else:
            _watch_in_lines(glances, console, every, states)


def _looks(glances: Glances, every: float) -> Iterator[list[Glance]]:
    """The runs, again and again until all are over."""
    while True:
        found = glances.look()
        yield found
        if all(run.over for run in found):
            return
        time.sleep(every)


def _watch_in_place(
    glances: Glances, console: Console, every: float, states: Sequence[str], sort: str | None
) -> None:
    from rich.live import Live

    from gradscape.cli.run_progress import chosen

    study = _name(glances)
    with Live(console=console, auto_refresh=False) as live:
        for found in _looks(glances, every):
            live.update(_screenful(study, found, chosen(found, states, sort), sort, console), refresh=True)


def _screenful(
    study: str, found: Sequence[Glance], shown: Sequence[Glance], sort: str | None, console: Console
) -> RenderableType:
    """As much of the table as the terminal is high; without a `sort` of the user's what matters most."""
    from rich.console import Group
    from rich.text import Text

    from gradscape.cli.run_progress import chosen
    from gradscape.cli.run_table import reasons, run_table, summary

    notes = [Text(line, no_wrap=True, overflow="ellipsis") for line in reasons(shown)[:NOTES]]
    room = max(1, console.height - len(notes) - 4)  # summary, header, what is left out, the cursor
    kept = shown if len(shown) <= room else chosen(shown, (), sort or "state")[:room]
    more = [Text(f"and {len(shown) - len(kept)} more", "dim")] if len(kept) < len(shown) else []
    return Group(
        Text(summary(study, found), "bold"), run_table(kept, console.width, time.time()), *more, *notes
    )


def _watch_in_lines(glances: Glances, console: Console, every: float, states: Sequence[str]) -> None:
    """Without a terminal: how all stand, then a line for each change of a run's state."""
    from gradscape.cli.run_table import summary

    study, before = _name(glances), dict[str, str]()
    found: list[Glance] = []
    for found in _looks(glances, every):
        changed = [run for run in found if before.get(run.identity, run.state) != run.state]
        lines = [_change(run, before[run.identity]) for run in changed if not states or run.state in states]
        for line in lines if before else [summary(study, found)]:
            console.print(line, markup=False, soft_wrap=True)
        console.file.flush()
        before |= {run.identity: run.state for run in found}
    console.print(summary(study, found), markup=False, soft_wrap=True)


def _change(run: Glance, before: str) -> str:
    """`vgg08-…: running → done, epoch 6/6, best valid 0.480 in epoch 5`."""
    said = [f"{run.identity}: {before} → {run.state}"]
    if run.epoch:
        said.append(f"epoch {run.epoch}/{run.epochs}")
    if run.best_valid_accuracy is not None:
        said.append(f"best valid {run.best_valid_accuracy:.3f} in epoch {run.best_epoch}")
    return ", ".join([*said, *filter(None, [run.reason])])
