"""Exporter to Trackio: a project in a folder, in which a run is written anew when there is more of it."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import Context
from pathlib import Path
from typing import Any

from gradscape.errors import ConfigError
from gradscape.integrations.export import EpochRow, TrackedRun, parameters
from gradscape.integrations.export_targets import FolderExporter
from gradscape.storage.run_summary import RunSummary

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL")  # an export sends nothing


class TrackioExport(FolderExporter):
    """Runs of a Trackio project in a folder; nothing is sent; see `FolderExporter`.

    Trackio reads its folder when it is imported: a process exports to one folder only.

    Raises:
        ConfigError: trackio is not installed, or was imported with another folder, or the folder cannot be
            written or is in use.
    """

    library = "trackio"

    def __init__(self, place: Path, study: str) -> None:
        super().__init__(place, study)
        os.environ["TRACKIO_DIR"] = str(place.absolute())
        with _quiet():
            import trackio
        if Path(trackio.utils.TRACKIO_DIR) != place.absolute():
            raise ConfigError(
                f"--into: trackio was imported already, with {trackio.utils.TRACKIO_DIR}; export from a "
                "process of its own"
            )

    @property
    def hint(self) -> str:
        """Command that shows what was exported."""
        place, study = shlex.quote(str(self.place)), shlex.quote(self.study)
        return f"TRACKIO_DIR={place} trackio show --project {study}"

    def known(self) -> dict[str, str]:
        """See `Exporter.known`."""
        self.names = {run.name for run in self._runs()}
        return super().known()

    def _runs(self) -> list[Any]:
        import trackio

        try:
            return list(trackio.Api().runs(self.study))
        except ValueError:  # there is no such project yet
            return []

    def _files(self, identity: str) -> list[Path]:
        return [self.place] if identity in self.names else []

    def open(self, run: RunSummary) -> TrackedRun:
        """Begin a run anew.

        Args:
            run: State of the run.
        """
        for old in self._runs():
            if old.name == run.identity:
                old.delete()
        return _TrackioRun(self.study, run)


class _TrackioRun(TrackedRun):
    def __init__(self, study: str, run: RunSummary) -> None:
        import trackio

        settings: Mapping[str, Any] = {
            "project": study, "name": run.identity, "config": parameters(run.config or {}),
            "embed": False, "auto_log_gpu": False, "auto_log_cpu": False,
        }  # fmt: skip
        with _quiet():
            self.run = Context().run(lambda: trackio.init(**settings))

    def put(self, rows: Sequence[EpochRow]) -> None:
        for row in rows:
            self.run.log(dict(row.values), step=row.epoch)

    def close(self, run: RunSummary) -> None:
        import trackio

        levels = {"failed": trackio.AlertLevel.ERROR, "diverged": trackio.AlertLevel.ERROR}
        level = levels.get(run.state, trackio.AlertLevel.INFO)
        with _quiet():
            self.run.alert(title=run.state, text=run.reason or None, level=level, step=run.epoch)
            self.run.finish()


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what Trackio prints, and its orders to send."""
    ours = {name: os.environ.pop(name) for name in ELSEWHERE if name in os.environ}
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.environ.update(ours)
