"""Each tracker against the real library: it gives back what was read, and its failure harms nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscape as gs
import libraries
from gradscape.errors import ConfigError
from gradscape.integrations import trackers
from small_nets import batches, mlp, norms, train
from wandb_files import wandb_records

NEEDS = {"TensorBoard": "tensorboard", "WandB": "wandb", "MLflow": "mlflow", "Trackio": "trackio"}


def needs(tracker: str) -> pytest.MarkDecorator:
    return libraries.needs(NEEDS[tracker])


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "WANDB_SILENT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def tensorboard(folder: Path) -> trackers.Sink:
    return trackers.TensorBoard(folder)


def from_tensorboard(folder: Path) -> Iterator[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            yield name, event.step, event.value


def wandb(folder: Path) -> trackers.Sink:
    return trackers.WandB(dir=str(folder))


def from_wandb(folder: Path) -> Iterator[tuple[str, int, float]]:
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            row = {
                "/".join(item.nested_key) or item.key: float(item.value_json) for item in record.history.item
            }
            for name, value in row.items():
                yield name, int(row["gradient/step"]), value


def mlflow(folder: Path) -> trackers.Sink:
    return trackers.MLflow(f"sqlite:///{folder}/mlflow.db", experiment="tests")


def from_mlflow(folder: Path) -> Iterator[tuple[str, int, float]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            yield name, metric.step, metric.value


TRACKERS: list[Any] = [
    pytest.param(tensorboard, from_tensorboard, marks=needs("TensorBoard")),
    pytest.param(wandb, from_wandb, marks=[needs("WandB"), pytest.mark.slow]),
    pytest.param(mlflow, from_mlflow, marks=[needs("MLflow"), pytest.mark.slow]),
]


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize(("make", "read"), TRACKERS)
def test_what_a_tracker_gives_back_is_plain_autograd_s(
    make: Callable[[Path], trackers.Sink], read: Callable[[Path], Any], tmp_path: Path
) -> None:
    model, alone = mlp().double(), mlp().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    random.seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with gs.watch(model, optimizer) as flow, make(tmp_path).follow(flow, every=3):
        train_double(model, optimizer)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    direct = train_double(alone, torch.optim.SGD(alone.parameters(), lr=0.1))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), alone.parameters(), strict=True))
    found = {(name, step): value for name, step, value in read(tmp_path)}
    for step, expected in enumerate(direct):
        for (name, parameter), norm in zip(alone.named_parameters(), expected, strict=True):
            rms = found[f"gradient/{name}/rms", step]
            assert np.isclose(rms * np.sqrt(parameter.numel()), norm, rtol=1e-6, atol=0)
    assert {name for name, _ in found if name.startswith("gradient/0.weight")} == {
        f"gradient/0.weight/{statistic}" for statistic in ("mean_abs", "rms", "relative_update")
    }


def train_double(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """Trains, and gives the norms of each step's gradients."""
    found = []
    for x, y in batches():
        optimizer.zero_grad()
        loss = cross_entropy(model(x.double()), y)
        found.append(norms(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)))
        loss.backward()
        optimizer.step()
    return found


class Drawn:
    """A run of W&B's that keeps what is drawn over which metric."""

    def __init__(self) -> None:
        self.over: dict[str, str | None] = {}
        self.names: set[str] = set()

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.over[name] = step_metric

    def log(self, values: dict[str, Any]) -> None:
        self.names |= values.keys()

    def finish(self) -> None: ...


@needs("WandB")
@pytest.mark.parametrize("shared", [True, False])
def test_all_that_wandb_gets_is_drawn_over_the_step_that_was_read(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, model = Drawn(), mlp()
    monkeypatch.setattr("wandb.init", lambda **settings: run)
    sink = trackers.WandB(run if shared else None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watched = gs.watch(model, optimizer, activations=True, distributions=True)
    with watched as flow, sink.follow(flow):
        for x, y in batches():
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    lacking = {name for name in run.names if not any(fnmatch(name, glob) for glob in run.over)}
    assert {name.split("/")[0] for name in run.names} == {"gradient", "activation", "distribution", "loss"}
    assert lacking == ({"loss"} if shared else set())
    assert {over for name, over in run.over.items() if name != "gradient/step"} == {"gradient/step"}


BROKEN: list[Any] = [
    pytest.param(lambda path: trackers.TensorBoard(path / "file"), marks=needs("TensorBoard")),
    pytest.param(
        lambda path: trackers.MLflow(f"sqlite:///{path}/file/mlflow.db"),
        marks=[needs("MLflow"), pytest.mark.slow],
    ),
    pytest.param(
        lambda path: trackers.WandB(dir=str(path), mode="nonsense"), marks=[needs("WandB"), pytest.mark.slow]
    ),
    lambda path: trackers.JsonLines(path / "file" / "rows.jsonl"),
]


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("make", BROKEN)
def test_a_tracker_that_cannot_write_says_so_once_and_the_training_goes_on(
    make: Callable[[Path], trackers.Sink], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()  # where a folder would have to be
    model, alone = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow, make(tmp_path).follow(flow, every=2):
        train(model, optimizer)
    train(alone, torch.optim.SGD(alone.parameters(), lr=0.1))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), alone.parameters(), strict=True))
    (message,) = [record.getMessage() for record in caplog.records if record.name == "gradscape"]
    assert " is left out from now on: " in message
    assert "\n" not in message


@needs("TensorBoard")
@pytest.mark.filterwarnings("ignore")
def test_a_writer_of_the_training_s_own_is_shared_and_left_open(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    writer = SummaryWriter(str(tmp_path))
    with gs.watch(model, optimizer) as flow, trackers.TensorBoard(writer).follow(flow):
        train(model, optimizer)
    writer.add_scalar("loss", 1.0, 7)
    writer.close()
    found = {name for name, _, _ in from_tensorboard(tmp_path)}
    assert {"loss", "gradient/0.weight/mean_abs"} <= found


@pytest.mark.parametrize("name", NEEDS)
def test_a_library_that_is_missing_is_named_before_the_training(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gradscape.integrations.sink.importlib.util.find_spec", lambda _: None)
    library = NEEDS[name]
    with pytest.raises(ConfigError, match=rf"{library} is not installed; type: pip install {library}"):
        getattr(trackers, name)(str(tmp_path))
