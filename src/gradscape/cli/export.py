"""Command that exports runs to trackers, once or while they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gradscape._text import strip_controls
from gradscape.cli.app import FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, Options, checked_path
from gradscape.errors import RunFailed

if TYPE_CHECKING:
    from gradscape.integrations.export import Exporter

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Duration of an export."""

    follow: bool = option(False, "continue until every run has ended, or Ctrl-C")
    every: float = option(2.0, "seconds between two looks", 0, MOST_SECONDS)


def export(
    folder: Annotated[str, Parameter(name="DIR", help=FOLDER)],
    /,
    *,
    to: Annotated[Tracker, Parameter(help="tracker to write to")],
    into: Annotated[str, Parameter(metavar="PLACE", help="a folder; for mlflow a tracking URI too")],
    options: Annotated[ExportOptions, FLAT] = ExportOptions(),
) -> None:
    """Write each run of a folder into a run of a tracker, once or live.

    Args:
        folder: Path of a study's or a run's folder.
        to: Tracker.
        into: Path of a folder, or for mlflow a tracking URI.
        options: Duration of the export.

    Raises:
        StoreError: The folder holds no run, or the tracker cannot write.
        RunFailed: Some runs were left out, because their files are damaged.
    """
    from gradscape.integrations.export import Export
    from gradscape.storage.run_summary import StudyWatcher
    from gradscape.storage.study_folder import folder_at

    study = folder_at(folder_of(folder))
    if into.startswith("~") or not into.strip():
        into = str(checked_path(into, "--into"))
    exporter = _exporter_of(to, into, StudyWatcher(study).asked()["study"])
    with silent_threads(), Export(study, exporter) as export:
        runs = export.advance(stay=options.follow)
        with suppress(KeyboardInterrupt):  # how one leaves before the study has ended
            while options.follow and not all(run.over for run in runs):
                time.sleep(options.every)
                runs = export.advance(stay=True)
    exported = sum(run.identity in export.known for run in runs) - len(export.unreadable)
    done = f"{exported} of {len(runs)} runs exported, {len(export.written)} of them now"
    print(strip_controls(f"{done}; type: {exporter.hint}"))
    if export.unreadable:
        names, reasons = ", ".join(export.unreadable), next(iter(export.unreadable.values()))
        raise RunFailed(f"{len(export.unreadable)} of {len(runs)} runs were left out ({names}): {reasons}")


@contextmanager
def silent_threads() -> Iterator[None]:
    """Suppress the tracebacks of a tracker's own threads; it raises the same error once more in ours."""
    before = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


def _exporter_of(tracker: Tracker, place: str, study: str) -> Exporter:
    from gradscape.integrations import export_targets

    if tracker == "mlflow":
        return export_targets.MLflowExport(place, study)
    if tracker == "trackio":
        from gradscape.integrations.export_trackio import TrackioExport

        return TrackioExport(Path(place), study)
    kinds = {"tensorboard": export_targets.TensorBoardExport, "wandb": export_targets.WandBExport}
    return kinds[tracker](Path(place), study)
