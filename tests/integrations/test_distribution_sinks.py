"""Distributions in folders, JSON lines and trackers: what they give back is what the watch has read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradscape as gs
import libraries
from gradscape.integrations import trackers
from gradscape.integrations.folder import Folder
from gradscape.records.distributions import Histograms
from small_nets import mlp, train
from wandb_files import wandb_records


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "WANDB_SILENT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def watched(sink: trackers.Sink, rounds: int = 3) -> gs.watch:  # type: ignore[valid-type]
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, distributions=True, activations=True) as flow, sink.follow(flow, every=7):
        for _ in range(rounds):
            train(model, optimizer)
    return flow


def test_a_folder_is_loaded_as_it_was_read(tmp_path: Path) -> None:
    flow = watched(Folder(tmp_path / "w"))
    found = gs.load(tmp_path / "w")
    assert found.distributions == flow.history().distributions
    assert found.distributions.steps.tolist() == [0, 1, 2, 3, 4, 20]
    assert found.distributions.activations.layers == ("0", "1", "2")


def test_json_lines_have_quantiles_at_the_steps_that_were_read(tmp_path: Path) -> None:
    flow = watched(trackers.JsonLines(tmp_path / "rows.jsonl"))
    lines = trackers.read_jsonl(tmp_path / "rows.jsonl")
    history = flow.history().distributions
    with_quantiles = [line["step"] for line in lines if "quantile/weights/2.bias/50" in line]
    assert with_quantiles == history.steps.tolist()
    names = [f"quantile/gradients/0.weight/{share}" for share in (1, 5, 25, 50, 75, 95, 99)]
    assert [lines[20][name] for name in names] == history.gradients.values[5, 0].tolist()


def expected(flow: Any) -> Iterator[tuple[str, Any]]:
    found: Histograms = flow.histograms()
    for quantity, layers in found.layers.items():
        for layer, each in layers.items():
            yield f"distribution/{quantity}/{layer}", each


@libraries.needs("tensorboard")
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_tensorboard_has_histograms(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flow = watched(trackers.TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    assert set(events.Tags()["histograms"]) == {name for name, _ in expected(flow)}
    assert not any("quantile" in name for name in events.Tags()["scalars"])
    for name, each in expected(flow):
        drawn = events.Histograms(name)
        assert [event.step for event in drawn] == [4, 20]  # the last one at each writing
        value = drawn[-1].histogram_value
        assert value.bucket == each.counts.tolist()
        assert value.bucket_limit == each.edges[1:].tolist()
        assert (value.min, value.max, value.num) == (each.edges[0], each.edges[-1], each.counts.sum())


@pytest.mark.slow
@libraries.needs("wandb")
@pytest.mark.filterwarnings("ignore")
def test_wandb_has_histograms(tmp_path: Path) -> None:
    import json

    flow = watched(trackers.WandB(dir=str(tmp_path)))
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, dict[str, Any]] = {}
    for record in wandb_records(path):
        for item in record.history.item if record.WhichOneof("record_type") == "history" else ():
            name, *part = item.nested_key or [item.key]
            if name.startswith("distribution/"):
                found.setdefault(name, {})["".join(part)] = json.loads(item.value_json)
    assert set(found) == {name for name, _ in expected(flow)}
    for name, each in expected(flow):
        assert found[name]["_type"] == "histogram"
        assert found[name]["values"] == each.counts.tolist()
        assert np.allclose(found[name]["bins"], each.edges)


@pytest.mark.slow
@libraries.needs("mlflow")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_no_histograms_and_writes_the_rest(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    sink = trackers.MLflow(f"sqlite:///{tmp_path}/mlflow.db")
    watched(sink, rounds=1)
    run = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(sink.run_id)
    assert not sink.failed
    assert "gradient/0.weight/rms" in run.data.metrics
    assert not any("distribution" in name or "quantile" in name for name in run.data.metrics)


def test_bins_of_a_histogram_are_few_and_hold_every_number() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values = torch.logspace(-30, 3, 48) * torch.tensor([1.0, -1.0]).repeat(24)
    with torch.no_grad():
        model[0].weight.copy_(values.view(8, 6))
    with gs.watch(model, optimizer, distributions=True) as flow:
        train(model, optimizer)
    found = flow.histograms()
    assert found is not None
    each = found.layers["gradients"]["2.weight"]
    assert each.counts.sum() == 24
    assert len(each.edges) == len(each.counts) + 1 <= 386
    assert (np.diff(each.edges) > 0).all()
    first = gs.watch(model, optimizer, distributions=True)
    with torch.no_grad():
        model[0].weight.copy_(values.view(8, 6))
    optimizer.zero_grad()
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    wide = first.histograms()
    assert wide is not None
    weight = wide.layers["weights"]["0.weight"]
    assert np.array_equal(np.histogram(values.double().numpy(), weight.edges)[0], weight.counts)
