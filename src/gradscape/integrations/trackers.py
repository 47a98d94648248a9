"""Sinks of a watch: a JSONL file, TensorBoard, Weights & Biases, MLflow, Trackio.

    >>> flow = gs.watch(model, optimizer)
    >>> with trackers.TensorBoard("runs/first").follow(flow, every=100):
    ...     ...  # train

Each uses what is already open in the training (a `SummaryWriter`, a run) or opens its own.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import Context
from pathlib import Path
from typing import Any, Self

from gradscape.errors import NotDelivered
from gradscape.integrations.jsonl import JsonLines, read_jsonl
from gradscape.integrations.mlflow_experiment import experiment_id
from gradscape.integrations.sink import CHARTS, KINDS, Row, Sink, require
from gradscape.measure.watch.watch import Watch
from gradscape.records.alert import Alert
from gradscape.records.distributions import Histogram

__all__ = ["JsonLines", "MLflow", "Sink", "TensorBoard", "Trackio", "WandB", "read_jsonl"]


class TensorBoard(Sink):
    """Scalars `gradient/<layer>/<statistic>` for TensorBoard, and histograms where distributions are read.

    Args:
        to: Path of a folder, or a `SummaryWriter` that the training has open; that one is not closed.
        statistics: Names of statistics to write; see `Sink`.

    Raises:
        ConfigError: TensorBoard is not installed.

    Example:
        >>> with trackers.TensorBoard("runs/first").follow(flow):
        ...     ...  # train
    """

    has_histograms = True

    def __init__(self, to: str | Path | Any, statistics: Sequence[str] = CHARTS) -> None:
        super().__init__(statistics)
        require("tensorboard")
        self.to = to
        self.writer: Any = None

    def _begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.to)) if isinstance(self.to, str | Path) else self.to

    def _put(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def _put_histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        for name, each in histograms.items():
            low, high = each.edges[[0, -1]].tolist()
            total, squares = each.moments
            self.writer.add_histogram_raw(
                name, low, high, int(each.counts.sum()), total, squares, each.edges[1:].tolist(),
                each.counts.tolist(), step,
            )  # fmt: skip
        self.writer.flush()

    def _end(self) -> None:
        if self.writer is not None and self.writer is not self.to:
            self.writer.close()


class WandB(Sink):
    """Rows of a Weights & Biases run, drawn over `gradient/step`.

    A run's own step only ever grows: rows written later than they were read cannot use it, and a training
    that shares its run needs it for itself.

    Args:
        run: Run that the training has open; it is not finished. By default the sink opens a run.
        statistics: Names of statistics to write; see `Sink`.
        settings: Arguments of `wandb.init` for the sink's run. Unless `mode="online"` is set nothing is sent:
            the run is written to a folder, for `wandb sync`.

    Raises:
        ConfigError: wandb is not installed.

    Example:
        >>> with trackers.WandB(project="digits", dir="runs").follow(flow):
        ...     ...  # train
    """

    has_histograms = True

    def __init__(self, run: Any = None, statistics: Sequence[str] = CHARTS, **settings: Any) -> None:
        super().__init__(statistics)
        require("wandb")
        self.open_run, self.run = run, run
        self.settings = {"project": "gradscape", "mode": "offline", "reinit": "create_new", **settings}

    def _begin(self) -> None:
        import wandb

        self.run = self.open_run if self.open_run is not None else wandb.init(**self.settings)
        self.run.define_metric("gradient/step")
        own = () if self.run is self.open_run else ("loss",)  # in the training's run that may be its own
        for names in (*(f"{kind}/*" for kind in KINDS), *own):
            self.run.define_metric(names, step_metric="gradient/step")

    def _put(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self.run.log({"gradient/step": step, **values})

    def _put_histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        import wandb

        drawn = {
            name: wandb.Histogram(np_histogram=(each.counts.tolist(), each.edges.tolist()))
            for name, each in histograms.items()
        }
        self.run.log({"gradient/step": step, **drawn})

    def _end(self) -> None:
        if self.run is not None and self.run is not self.open_run:
            self.run.finish()


class MLflow(Sink):
    """Metrics of an MLflow run; it has no histograms, so that distributions are not written.

    Args:
        uri: URI of the tracking store; by default the SQLite file `mlflow.db` in the working directory.
        experiment: Name of the experiment; made if there is none.
        run_id: Id of a run that the training has open; it is not ended. By default the sink opens a run.
        statistics: Names of statistics to write; see `Sink`.

    Raises:
        ConfigError: mlflow is not installed.

    Example:
        >>> with trackers.MLflow("sqlite:///mlflow.db").follow(flow):
        ...     ...  # train
    """

    def __init__(
        self,
        uri: str = "sqlite:///mlflow.db",
        experiment: str = "gradscape",
        run_id: str | None = None,
        statistics: Sequence[str] = CHARTS,
    ) -> None:
        super().__init__(statistics)
        require("mlflow")
        self.uri, self.experiment, self.open_run = uri, experiment, run_id
        self.run_id = run_id
        self.client: Any = None

    def _begin(self) -> None:
        from mlflow.tracking import MlflowClient

        # The sink has its own client: the training's tracking URI and active run stay what they are.
        self.client = MlflowClient(self.uri)
        if self.open_run is None:
            number = experiment_id(self.client, self.experiment)
            self.run_id = self.client.create_run(number).info.run_id

    def _put(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(re.sub(r"[^\w\-. /:]", "_", name), value, now, step)
            for step, values in rows
            for name, value in values.items()
        ]
        for start in range(0, len(metrics), 1_000):  # MLflow takes no more at once
            self.client.log_batch(self.run_id, metrics[start : start + 1_000])

    def _end(self) -> None:
        if self.client is not None and self.open_run is None:
            self.client.set_terminated(self.run_id)


class Trackio(Sink):
    """Metrics of a Trackio run, and what is found wrong with the training as its alerts.

    A watch that it follows is diagnosed while it trains, see `gradscape.watch`, and each finding becomes an
    alert of the run: of level `error` for a `fail`, `warn` for a `warn`. It is a receiver of alerts too.

    Args:
        run: Run that the training has open; it is not finished. By default the sink opens one
            beside it, which stays on this machine unless Trackio's settings or environment say otherwise.
        statistics: Names of statistics to write; see `Sink`.
        alerts: Whether what is found is told as the run's alerts.
        settings: Arguments of `trackio.init` for the sink's run, such as `project` and `name`.

    Raises:
        ConfigError: trackio is not installed.

    Example:
        >>> with trackers.Trackio(project="digits").follow(flow):
        ...     ...  # train
    """

    is_slow = has_histograms = True

    def __init__(
        self, run: Any = None, statistics: Sequence[str] = CHARTS, alerts: bool = True, **settings: Any
    ) -> None:
        super().__init__(statistics)
        require("trackio")
        self.open_run, self.run, self.alerts = run, run, alerts
        own = {"project": "gradscape", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self.settings = {**own, **settings}
        self.lock = threading.Lock()  # alerts come from a thread of their own
        self.over = False  # whether the sink's run has been finished

    def follow(self, flow: Watch, every: int = 100, first: int = 0) -> Self:
        """Write every `every` steps of the training from now on, and tell what is found; see `Sink.follow`.

        Args:
            flow: Watch returned by `gradscape.watch`.
            every: Number of steps from one writing to the next.
            first: Number of the watch's first step, where a training continues from a checkpoint.

        Raises:
            ConfigError: `every` is below 1, or the watch has ended.
        """
        super().follow(flow, every, first)
        if self.alerts:
            flow.on_finding(self)
        return self

    def close(self) -> None:
        """Wait for alerts that are on their way, such as why the training ends, and close; see `Sink`."""
        if self.flow is not None:
            self.flow.wait_for_alerts(self)
        super().close()

    def __call__(self, alert: Alert) -> None:
        """Tell an alert in the run.

        Args:
            alert: Alert to tell.

        Raises:
            NotDelivered: The sink's run has been finished.
        """
        import trackio

        levels = {"fail": trackio.AlertLevel.ERROR, "warn": trackio.AlertLevel.WARN}
        with self.lock:
            if self.over:
                raise NotDelivered("trackio: the run has been finished")
            self._open()
            self.opened = True
            self.run.alert(title=alert.heading, text=alert.text, level=levels[alert.grade], step=alert.step)

    def _begin(self) -> None:
        with self.lock:
            self.over = False
            self._open()

    def _open(self) -> None:
        if self.run is None:
            import trackio

            # In a context of its own: `init` finishes the run that is current, which is the training's.
            self.run = Context().run(lambda: trackio.init(**self.settings))

    def _put(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self.run.log(values, step=step)

    def _put_histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        import trackio

        drawn = {
            name: trackio.Histogram(np_histogram=(each.counts, each.edges))
            for name, each in histograms.items()
        }
        self.run.log(drawn, step=step)

    def _end(self) -> None:
        with self.lock:
            if self.run is not None and self.run is not self.open_run:
                self.run.finish()
                self.run, self.over = None, True
