"""The commands that show a study's runs while and after they run, and hand them on to trackers."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscape.errors import ConfigError, RunFailed
from gradscape.flags import MOST_SECONDS, path, place
from gradscape.words import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gradscape.glance import Glance, Glances
    from gradscape.integrations.export import Exporter

STUDY_FOLDER = "a study's folder: what reproduce named with --out"
EVERY = 2.0  # seconds between two looks
SORTS = ("best", "progress", "name", "state")
TRACKERS = ("tensorboard", "wandb", "mlflow")
NOTES = 5  # reasons shown beneath a table that is watched


def add_seeing(commands: Any) -> None:
    """`runs` and `export`, to the parsers of all commands."""
    runs_ = commands.add_parser("runs", help="what is done, running, failed in a study's folder")
    runs_.add_argument("folder", metavar="DIR", type=path, help=STUDY_FOLDER)
    runs_.add_argument(
        "--watch",
        metavar="SECONDS",
        type=seconds,
        nargs="?",
        const=EVERY,
        help="look again every so many seconds (2) until every run has ended, or Ctrl-C",
    )
    runs_.add_argument("--state", metavar="STATES", help="only runs in these, as failed,running")
    runs_.add_argument("--sort", choices=SORTS, help="default: in the order of the study")
    runs_.add_argument("--json", action="store_true", help="everything as JSON")
    runs_.set_defaults(command=runs, parser=runs_)

    export_ = commands.add_parser("export", help="hand a study's runs on to TensorBoard, W&B or MLflow")
    export_.add_argument("folder", metavar="DIR", type=path, help=STUDY_FOLDER)
    export_.add_argument("--to", required=True, choices=TRACKERS, help="where to")
    export_.add_argument(
        "--into", metavar="PLACE", type=place, required=True, help="a folder; for mlflow a tracking URI too"
    )
    export_.add_argument(
        "--follow",
        metavar="SECONDS",
        type=seconds,
        nargs="?",
        const=EVERY,
        help="go on every so many seconds (2) until every run has ended, or Ctrl-C",
    )
    export_.set_defaults(command=export, parser=export_)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0; DIR goes before it")
    return value


def runs(values: argparse.Namespace) -> None:
    """gradscape runs: a row per run."""
    from gradscape.glance import Glances
    from gradscape.overview import chosen, read_states
    from gradscape.store import StudyFolder

    states = read_states(values.state) if values.state is not None else ()
    if values.json and values.watch:
        raise ConfigError("--json: one document cannot be watched; leave out --watch")
    glances = Glances(StudyFolder(values.folder))
    if values.json:
        print(as_json(glances, states, values.sort))
        return
    console = console_here()
    if values.watch:
        watch(glances, console, values.watch, states, values.sort)
        return
    found = glances.look()
    show(console, name(glances), found, chosen(found, states, values.sort))


def console_here() -> Console:
    """Standard output; where its reader has gone (`runs DIR | head`), `main` ends the command well."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Piped(highlight=False)


def name(glances: Glances) -> str:
    asked = glances.asked()
    return plain(f"study {asked['study']} ({asked['preset']})")


def as_json(glances: Glances, states: Sequence[str], sort: str | None) -> str:
    """One document: the study, how it stands, and a row for each run that was chosen."""
    from gradscape.overview import chosen, counts, row, study_seconds_left

    found, asked = glances.look(), glances.asked()
    document = {
        "study": plain(asked["study"]),
        "preset": plain(asked["preset"]),
        "counts": counts(found),
        "seconds_left": study_seconds_left(found),
        "runs": [row(run) for run in chosen(found, states, sort)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def show(console: Console, study: str, found: Sequence[Glance], shown: Sequence[Glance]) -> None:
    """Everything once; in a pipe as wide as names are long, so that they stay whole."""
    from gradscape.run_table import narrowest, reasons, run_table, summary

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
            watch_in_place(glances, console, every, states, sort)
        else:
            watch_in_lines(glances, console, every, states)


def looks(glances: Glances, every: float) -> Iterator[list[Glance]]:
    """The runs, again and again until all are over."""
    while True:
        found = glances.look()
        yield found
        if all(run.over for run in found):
            return
        time.sleep(every)


def watch_in_place(
    glances: Glances, console: Console, every: float, states: Sequence[str], sort: str | None
) -> None:
    from rich.live import Live

    from gradscape.overview import chosen

    study = name(glances)
    with Live(console=console, auto_refresh=False) as live:
        for found in looks(glances, every):
            live.update(screenful(study, found, chosen(found, states, sort), sort, console), refresh=True)


def screenful(
    study: str, found: Sequence[Glance], shown: Sequence[Glance], sort: str | None, console: Console
) -> RenderableType:
    """As much of the table as the terminal is high; without a `sort` of the user's what matters most."""
    from rich.console import Group
    from rich.text import Text

    from gradscape.overview import chosen
    from gradscape.run_table import reasons, run_table, summary

    notes = [Text(line, no_wrap=True, overflow="ellipsis") for line in reasons(shown)[:NOTES]]
    room = max(1, console.height - len(notes) - 4)  # summary, header, what is left out, the cursor
    kept = shown if len(shown) <= room else chosen(shown, (), sort or "state")[:room]
    more = [Text(f"and {len(shown) - len(kept)} more", "dim")] if len(kept) < len(shown) else []
    return Group(
        Text(summary(study, found), "bold"), run_table(kept, console.width, time.time()), *more, *notes
    )


def watch_in_lines(glances: Glances, console: Console, every: float, states: Sequence[str]) -> None:
    """Without a terminal: how all stand, then a line for each change of a run's state."""
    from gradscape.run_table import summary

    study, before = name(glances), dict[str, str]()
    found: list[Glance] = []
    for found in looks(glances, every):
        changed = [run for run in found if before.get(run.identity, run.state) != run.state]
        lines = [change(run, before[run.identity]) for run in changed if not states or run.state in states]
        for line in lines if before else [summary(study, found)]:
            console.print(line, markup=False, soft_wrap=True)
        console.file.flush()
        before |= {run.identity: run.state for run in found}
    console.print(summary(study, found), markup=False, soft_wrap=True)


def change(run: Glance, before: str) -> str:
    """`vgg08-…: running → done, epoch 6/6, best valid 0.480 in epoch 5`."""
    said = [f"{run.identity}: {before} → {run.state}"]
    if run.epoch:
        said.append(f"epoch {run.epoch}/{run.epochs}")
    if run.best_valid_accuracy is not None:
        said.append(f"best valid {run.best_valid_accuracy:.3f} in epoch {run.best_epoch}")
    return ", ".join([*said, *filter(None, [run.reason])])


def export(values: argparse.Namespace) -> None:
    """gradscape export: a run of the tracker's for each of the study's, at once or live."""
    from gradscape.glance import Glances
    from gradscape.integrations.export import Export
    from gradscape.store import StudyFolder

    study = StudyFolder(values.folder)
    exporter = exporter_of(values.to, values.into, Glances(study).asked()["study"])
    with silent_threads(), Export(study, exporter) as going:
        found = going.advance(stay=bool(values.follow))
        with suppress(KeyboardInterrupt):  # how one leaves before the study has ended
            while values.follow and not all(run.over for run in found):
                time.sleep(values.follow)
                found = going.advance(stay=True)
    there = sum(run.identity in going.known for run in found) - len(going.unreadable)
    done = f"{there} of {len(found)} runs exported, {len(going.written)} of them now"
    print(plain(f"{done}; type: {exporter.hint}"))
    if going.unreadable:
        names, reasons = ", ".join(going.unreadable), next(iter(going.unreadable.values()))
        raise RunFailed(f"{len(going.unreadable)} of {len(found)} runs were left out ({names}): {reasons}")


@contextmanager
def silent_threads() -> Iterator[None]:
    """Keep back the tracebacks of a tracker's own threads: it raises the same once more where we hear it."""
    before = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


def exporter_of(tracker: str, place: str, study: str) -> Exporter:
    from gradscape.integrations import exporters

    if tracker == "mlflow":
        return exporters.MLflowExport(place, study)
    kinds = {"tensorboard": exporters.TensorBoardExport, "wandb": exporters.WandBExport}
    return kinds[tracker](Path(place), study)
