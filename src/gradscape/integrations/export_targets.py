"""Exporters to TensorBoard, Weights & Biases and MLflow.

TensorBoard and W&B have files, which are written anew whenever there is more of a run than they hold: nothing
is there twice after an interruption. In MLflow's database a run is recognized by its tag.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gradscape.errors import ConfigError, StoreError
from gradscape.integrations.export import EpochRow, Exporter, TrackedRun, describe_progress, parameters
from gradscape.integrations.mlflow_experiment import experiment_id
from gradscape.integrations.sink import require
from gradscape.storage.files import refuse_link, there
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.run_summary import RunSummary

OWN = ".gradscape"  # ends the names of event files: those of others in the same folder are left alone
ROWS = 50  # MLflow takes 1,000 values at once; a row has at most 20
PROJECT = "gradscape"
# MLflow's states: a run that diverged came to its end, and the tag `gradscape.state` says how.
STATUS = {"done": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class FolderExporter(Exporter):
    """A folder of files, held by one export at a time; `exported.json` in it lists the runs that they hold.

    Args:
        place: Folder; it is made.
        study: Name of the study, by which its runs are grouped.

    Raises:
        ConfigError: The library is not installed, or the folder cannot be written or is in use.
    """

    library: str

    def __init__(self, place: Path, study: str) -> None:
        require(self.library)
        self.place, self.study = place, study
        self.lock = _hold(place)

    def known(self) -> dict[str, str]:
        """See `Exporter.known`."""
        path = self.place / "exported.json"
        runs = read_json(path).get("runs") if there(path) else {}
        if not isinstance(runs, dict):
            raise StoreError(f"{path} is damaged: it names no runs; delete it")
        return {identity: state for identity, state in runs.items() if self._files(identity)}

    def remember(self, known: Mapping[str, str]) -> None:
        """See `Exporter.remember`.

        Args:
            known: `describe_progress` per identity.
        """
        write_json(self.place / "exported.json", {"runs": dict(known)})

    def close(self) -> None:
        """Release the folder."""
        self.lock.release()

    @abstractmethod
    def _files(self, identity: str) -> list[Path]:
        """Files of the tracker that hold a run."""


def _hold(place: Path) -> FileLock:
    """Make a folder, and hold it: two exports at once would write the same rows twice."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(f"--into: cannot write {place}: {error.strerror}; give another folder") from error
    refuse_link(place / ".lock")
    lock = FileLock(place / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"--into: another export is writing to {place}; give another folder") from error
    return lock


class TensorBoardExport(FolderExporter):
    """A folder of events for each run, for TensorBoard and its HParams page; see `FolderExporter`."""

    library = "tensorboard"

    @property
    def hint(self) -> str:
        """Command that shows what was exported."""
        return f"tensorboard --logdir {shlex.quote(str(self.place))}"

    def _files(self, identity: str) -> list[Path]:
        return list((self.place / identity).glob(f"events.out.tfevents.*{OWN}"))

    def open(self, run: RunSummary) -> TrackedRun:
        """Begin a run anew.

        Args:
            run: State of the run.
        """
        refuse_link(self.place / run.identity)
        for old in self._files(run.identity):
            old.unlink()
        return _TensorBoardRun(self.place / run.identity, run)


class _TensorBoardRun(TrackedRun):
    def __init__(self, folder: Path, run: RunSummary) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self.writer = SummaryWriter(str(folder), filename_suffix=OWN)
        # Not `add_hparams`: it takes the metrics' values, which are not known before the end.
        charted = dict.fromkeys(("valid/accuracy", "test/best/accuracy"), 0.0)
        self.experiment, self.begin, self.end = hparams(parameters(run.config or {}), charted)
        self.writer.file_writer.add_summary(self.experiment)
        self.writer.file_writer.add_summary(self.begin)

    def put(self, rows: Sequence[EpochRow]) -> None:
        for row in rows:
            for name, value in row.values.items():
                self.writer.add_scalar(name, value, row.epoch, walltime=row.time)
        self.writer.flush()

    def close(self, run: RunSummary) -> None:
        self.writer.add_text("state", f"{run.state}: {run.reason}" if run.reason else run.state, run.epoch)
        if run.state == "done":
            self.writer.file_writer.add_summary(self.end)
        self.writer.close()


class WandBExport(FolderExporter):
    """Offline runs, for `wandb sync`; nothing is sent; see `FolderExporter`."""

    library = "wandb"

    @property
    def hint(self) -> str:
        """Command that shows what was exported."""
        return f"wandb beta sync {shlex.quote(str(self.place / 'wandb'))}"

    def _files(self, identity: str) -> list[Path]:
        return list(self.place.glob(f"wandb/offline-run-*-*/run-{_wandb_id(identity)}.wandb"))

    def open(self, run: RunSummary) -> TrackedRun:
        """Begin a run anew.

        Args:
            run: State of the run.
        """
        for old in self._files(run.identity):
            shutil.rmtree(old.parent)
        return _WandBRun(self.place, self.study, run)


class _WandBRun(TrackedRun):
    def __init__(self, place: Path, study: str, run: RunSummary) -> None:
        import wandb

        self.run = wandb.init(
            project=PROJECT,
            group=study,
            name=run.identity,
            id=_wandb_id(run.identity),
            config=parameters(run.config or {}),
            dir=str(place),
            mode="offline",
            reinit="create_new",
            # The machine that exports is not the one that trained.
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        )
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def put(self, rows: Sequence[EpochRow]) -> None:
        for row in rows:
            self.run.log({"epoch": row.epoch, **row.values})

    def close(self, run: RunSummary) -> None:
        self.run.tags = (run.state,)
        self.run.summary.update({"state": run.state, "reason": run.reason})
        self.run.finish(exit_code=int(run.state == "failed"))


def _wandb_id(identity: str) -> str:
    """Return an id made from the hash in the run's name: the same run whenever it is exported."""
    return f"gradscape-{identity.rpartition('-')[2]}"


@contextmanager
def brief_patience() -> Iterator[None]:
    """Few attempts at a server's first word: MLflow's own patience with none is minutes of silence."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


class MLflowExport(Exporter):
    """Runs of an experiment in an MLflow store.

    Args:
        place: Folder, which is made, for a SQLite file `mlflow.db`; or a tracking URI.
        study: Name of the experiment; it is made if there is none.

    Raises:
        ConfigError: MLflow is not installed, or the folder has no URI, cannot be written or is in use.
    """

    def __init__(self, place: str, study: str) -> None:
        require("mlflow")
        self.uri, self.study = place, study
        self.lock: FileLock | None = None  # of a folder; a tracking URI has no place for one
        if "://" not in place:
            if "?" in place:  # what follows would be taken for options, and another file be written
                raise ConfigError(f"--into: expected a folder without ? in its path for mlflow; got {place}")
            self.lock = _hold(Path(place))
            self.uri = f"sqlite:///{place}/mlflow.db"
        self.ids: dict[str, str] = {}

    @property
    def hint(self) -> str:
        """Command that shows what was exported."""
        return f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"

    def known(self) -> dict[str, str]:
        """See `Exporter.known`."""
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs every table it makes
        self.client = MlflowClient(self.uri)
        with brief_patience():
            self.experiment = experiment_id(self.client, self.study)
        exported, token = {}, None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1_000, page_token=token)
            for run in page:
                if identity := run.data.tags.get("gradscape.identity"):
                    self.ids[identity] = run.info.run_id
                    exported[identity] = run.data.tags.get("gradscape.exported", "")
            if not (token := page.token):
                return exported

    def open(self, run: RunSummary) -> TrackedRun:
        """Begin a run, or continue it.

        Args:
            run: State of the run.
        """
        return _MLflowRun(self, run)

    def remember(self, known: Mapping[str, str]) -> None:
        """Do nothing: the runs' tags hold it.

        Args:
            known: `describe_progress` per identity.
        """

    def close(self) -> None:
        """Release the folder."""
        if self.lock is not None:
            self.lock.release()


class _MLflowRun(TrackedRun):
    def __init__(self, to: MLflowExport, run: RunSummary) -> None:
        from mlflow.entities import Param

        self.client = to.client
        if run.identity in to.ids:
            self.id = to.ids[run.identity]
            self.client.update_run(self.id, status="RUNNING")
            self.client.set_tag(self.id, "gradscape.state", run.state)
            history = self.client.get_metric_history(self.id, "valid/loss")
            self.first = max((metric.step for metric in history), default=0)
        else:
            tags = {"gradscape.identity": run.identity, "gradscape.state": run.state}
            self.id = self.client.create_run(to.experiment, tags=tags, run_name=run.identity).info.run_id
            to.ids[run.identity] = self.id
        params = [Param(name, str(value)) for name, value in parameters(run.config or {}).items()]
        self.client.log_batch(self.id, params=params)

    def put(self, rows: Sequence[EpochRow]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(rows), ROWS):  # whole rows: `first` counts them by one of their values
            metrics = [
                Metric(name, value, int(1_000 * row.time), row.epoch)
                for row in rows[start : start + ROWS]
                for name, value in row.values.items()
            ]
            self.client.log_batch(self.id, metrics)

    def close(self, run: RunSummary) -> None:
        from mlflow.entities import RunTag

        texts = {"state": run.state, "reason": run.reason, "exported": describe_progress(run)}
        tags = [RunTag(f"gradscape.{name}", value) for name, value in texts.items()]
        self.client.log_batch(self.id, tags=tags)
        ended = int(1_000 * run.last_update) if run.last_update else None
        if run.over:
            self.client.set_terminated(self.id, STATUS[run.state], ended)
        elif run.state in ("pending", "interrupted"):
            self.client.update_run(self.id, status="SCHEDULED")
