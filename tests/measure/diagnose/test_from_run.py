"""Verdicts on recorded runs: those of a watch on the same training, and of real runs with a fault in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY, digits, tiny
from gradscape.config.network import NetConfig
from gradscape.config.serialize import to_dict
from gradscape.errors import ConfigError
from gradscape.measure.diagnose.from_run import recorded
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs
from gradscape.records.run import EpochRecord, RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.train.step import TrainStep

STEPS = 12


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(64) % 4
    return torch.randn(64, 16, generator=generator) + 2 * nn.functional.one_hot(y, 16), y


def deep(depth: int, activation: Callable[[], nn.Module], gain: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (40, *[16] * depth):  # of two sizes, so that norms and RMS differ
        linear = nn.Linear(40 if len(layers) == 2 else 16, width)
        nn.init.normal_(linear.weight, std=gain * math.sqrt(2 / linear.in_features))
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(16, 4))


def dead(model: nn.Sequential) -> nn.Sequential:
    """Its third layer's units are never active; those after it are."""
    nn.init.constant_(model.get_parameter("4.bias"), -1e3)
    nn.init.constant_(model.get_parameter("6.bias"), 0.1)
    return model


def both(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[gs.watch, RunRecord]:
    """A watch, and the record of the same steps, each an epoch of its own."""
    x, y = batch()
    recorder, epochs, rows, flow = gs.FlowRecorder(model), [], [], gs.watch(model, optimizer)
    lr = optimizer.param_groups[0]["lr"]
    for step in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        recorder.reset()
        recorder.before_step()
        optimizer.step()
        recorder.after_step()
        epochs.append(EpochRecord(step + 1, lr, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0))
        rows.append(recorder.result(step + 1))
    config: Any = to_dict(gs.RunConfig())
    config["optim"]["name"] = type(optimizer).__name__.lower()
    config["net"]["activation"] = "sigmoid" if any(isinstance(m, nn.Sigmoid) for m in model) else "relu"
    return flow, RunRecord("run", config, "done", {}, tuple(epochs), {}, joined(rows))


def joined(rows: list[FlowHistory]) -> FlowHistory:
    """Epochs of a run, one after the other."""
    tables = np.array([[getattr(row, name)[0] for name in EPOCH_TABLES] for row in rows])
    first = rows[0]
    return flow_of_epochs(first.layers, first.kinds, first.sizes, range(1, 1 + len(rows)), tables)


def first(flow: FlowHistory, count: int) -> FlowHistory:
    """Its first epochs."""
    tables = np.stack([getattr(flow, name)[:count] for name in EPOCH_TABLES], axis=1)
    return flow_of_epochs(flow.layers, flow.kinds, flow.sizes, range(1, 1 + count), tables)


CASES: dict[str, tuple[Callable[[], nn.Module], type[torch.optim.Optimizer], float]] = {
    "healthy": (lambda: deep(3, nn.ReLU), torch.optim.Adam, 0.001),
    "healthy, with SGD": (lambda: deep(3, nn.ReLU), torch.optim.SGD, 0.02),
    "vanishing": (lambda: deep(12, nn.Sigmoid, 0.5), torch.optim.Adam, 0.001),
    "vanishing, with SGD, though it moves": (lambda: deep(4, nn.Sigmoid, 0.5), torch.optim.SGD, 0.1),
    "frozen layer": (lambda: dead(deep(4, nn.ReLU)), torch.optim.SGD, 0.02),
    "exploding": (lambda: deep(12, nn.Identity, 4.0), torch.optim.Adam, 1e-4),
    "learning rate too large, and gradients with it": (lambda: deep(3, nn.ReLU), torch.optim.Adam, 10.0),
    "learning rate too small": (lambda: deep(3, nn.ReLU), torch.optim.Adam, 1e-7),
    "below the optimizer's reach": (lambda: deep(3, nn.ReLU), torch.optim.SGD, 1e-9),
}


@pytest.mark.parametrize("case", CASES)
def test_a_record_of_single_steps_gets_the_verdicts_of_a_watch(case: str) -> None:
    make, kind, lr = CASES[case]
    model = make()
    flow, record = both(model, kind(model.parameters(), lr=lr))  # type: ignore[call-arg]
    seen, found = gs.diagnose(replace(flow.history(), loss=None)), gs.diagnose(record)
    assert found.verdict == case.split(", ")[0]
    watched = [each for each in seen.findings if each.verdict != "noise-dominated"]
    assert [(each.verdict, each.layer) for each in found.findings] == [(e.verdict, e.layer) for e in watched]
    for ours, theirs in zip(found.findings, watched, strict=True):
        assert ours.remedy == theirs.remedy.replace(
            "gs.lr_range(model, (x, y), loss, optimizer)", "gradscape lr-range FILE.py:FACTORY"
        )
        assert (" tells which learning rate" in theirs.remedy) == theirs.verdict.startswith("learning rate")
        assert [e.what for e in ours.evidence] == [e.what for e in theirs.evidence]
        expected = [evidence.value for evidence in theirs.evidence]
        assert [evidence.value for evidence in ours.evidence] == pytest.approx(expected, rel=1e-3)
    assert found.notes == ()


def test_its_history_is_the_watch_s_but_for_what_epochs_do_not_keep() -> None:
    model = deep(3, nn.ReLU)
    flow, record = both(model, torch.optim.SGD(model.parameters(), lr=0.02))
    seen, found = flow.history(), recorded(record)
    assert (found.layers, found.sizes) == (seen.layers, seen.sizes)
    for name in ("mean_abs", "max_abs", "rms", "zeros", "nonfinite", "weight", "update"):
        expected = getattr(seen, name)
        assert getattr(found, name) == pytest.approx(expected, rel=1e-3, abs=1e-12), name
    assert np.isnan(found.agreement).all()
    assert found.steps.tolist() == list(range(1, STEPS + 1))
    assert (found.row, seen.row) == ("epoch", "step")
    assert "in the 12 epochs looked at" in gs.diagnose(record).findings[0].cause
    facts = found.optimizers[0]
    assert (facts.name, facts.lr, facts.eps, facts.momentum) == ("SGD", 0.02, None, 0.9)


@pytest.mark.parametrize(("accuracy", "epochs", "verdict"), [
    (0.3, 12, "does not learn"), (0.6, 12, "healthy"), (0.3, 1, "too early to tell"),
])  # fmt: skip
def test_a_run_that_stays_at_guessing_is_not_healthy(accuracy: float, epochs: int, verdict: str) -> None:
    """Four classes; a single epoch has ten steps."""
    model = deep(3, nn.ReLU)
    _, record = both(model, torch.optim.Adam(model.parameters()))
    record.config["data"]["train"], record.config["batch_size"] = 100, 10  # type: ignore[index]
    made = tuple(
        replace(epoch, train_accuracy=accuracy, train_loss=1.386) for epoch in record.epochs[:epochs]
    )
    found = gs.diagnose(replace(record, epochs=made, flow=first(record.flow, epochs)))
    assert found.verdict == verdict
    if verdict == "too early to tell":
        assert found.grade == "warn"
        assert [(each.value, each.limit) for each in found.findings[0].evidence] == [(0.3, 0.5), (10, 50)]
    if verdict == "does not learn":
        assert found.grade == "fail"
        assert "after 120 steps the loss on training images is 1.39, and guessing's is 1.39" in str(found)
        (evidence,) = found.findings[0].evidence
        assert (evidence.value, evidence.limit) == (pytest.approx(accuracy), 0.5)


def test_a_run_that_collapsed_in_its_first_epoch_has_no_rate_that_is_too_small() -> None:
    """As VGG38 from LSUV's weights: Adam remembers one huge gradient, and moves next to nothing after it."""
    model = deep(3, nn.ReLU)
    _, record = both(model, torch.optim.Adam(model.parameters()))
    tables = np.stack([getattr(record.flow, name) for name in EPOCH_TABLES], axis=1)
    for name, factor in (
        ("mean_abs", 1e-3),
        ("last_mean_abs", 1e-3),
        ("rms", 1e-3),
        ("relative_update", 1e-3),
    ):
        tables[1:, EPOCH_TABLES.index(name)] *= factor
    flow = flow_of_epochs(
        record.flow.layers, record.flow.kinds, record.flow.sizes, range(1, 1 + STEPS), tables
    )
    epochs = tuple(replace(epoch, train_accuracy=0.25, train_loss=1.386) for epoch in record.epochs)
    found = gs.diagnose(replace(record, epochs=epochs, flow=flow))
    assert found.verdict == "does not learn"
    assert "learning rate too small" not in {each.verdict for each in found.findings}


def test_what_cannot_be_judged_is_refused() -> None:
    model = deep(2, nn.ReLU)
    _, record = both(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match="watched: run run has no epoch yet: train one, then diagnose"):
        gs.diagnose(replace(record, epochs=(), flow=None))


def test_epochs_read_without_their_statistics_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    gs.train_run(TINY, folder, digits())
    with pytest.raises(ConfigError, match=r"first was read without the gradient statistics of every epoch"):
        gs.diagnose(folder.record("last"))


def test_a_run_without_a_norm_vanishes_and_one_with_it_has_made_too_few_steps(tmp_path: Path) -> None:
    """VGG38 of 8 filters, on 60 digits: and the verdict stands in the status of the finished run."""
    verdicts, images = {}, digits()
    for norm in ("none", "batch"):
        net = NetConfig(depth=38, filters=8, norm=norm)  # type: ignore[arg-type]
        folder = RunFolder(tmp_path / norm)
        record = gs.train_run(replace(TINY, net=net), folder, images)
        found = gs.diagnose(record)
        verdicts[norm] = found.verdict
        assert (
            json.loads((folder.path / "status.json").read_text())["diagnosis"]
            == replace(found, profile=None).to_dict()
        )
        assert record.status["diagnosis"]["verdict"] == found.verdict
        assert found.notes == ()
    assert verdicts == {"none": "vanishing", "batch": "too early to tell"}


def test_a_diverged_run_says_so_and_keeps_what_else_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = TrainStep.__call__, 0

    def poisoned(step: TrainStep, size: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # epoch 2, step 2 of 3
            next(step.state.model.parameters()).data.fill_(float("nan"))
        original(step, size)

    monkeypatch.setattr(TrainStep, "__call__", poisoned)
    plain = NetConfig(depth=8, filters=4, norm="none")
    for name, config in (("mild", TINY), ("wild", tiny(optim=gs.OptimConfig(lr=30.0), net=plain))):
        calls = 0
        record = gs.train_run(config, RunFolder(tmp_path / name), digits())
        assert record.state == "diverged"
        assert (record.status["epoch"], record.status["step"]) == (2, 2)
        found = gs.diagnose(record)
        assert record.status["diagnosis"] == replace(found, profile=None).to_dict()
        assert found.verdict == "non-finite"
        assert "the loss became infinite or NaN in epoch 2, step 2" in found.findings[0].cause
        others = [each.verdict for each in found.findings[1:]]
        assert ("learning rate too large" in others) == (name == "wild")


def test_a_run_that_diverges_in_its_first_epoch_is_not_finite(tmp_path: Path) -> None:
    config = tiny(optim=gs.OptimConfig(lr=1e30), net=NetConfig(depth=8, filters=4, norm="none"))
    record = gs.train_run(config, RunFolder(tmp_path / "run"), digits())
    assert (record.state, record.epochs) == ("diverged", ())
    (finding,) = gs.diagnose(record).findings
    assert (finding.verdict, finding.grade) == ("non-finite", "fail")
    assert finding.cause == "the loss became infinite or NaN in epoch 1, step 2"
    assert record.status["diagnosis"] == gs.diagnose(record).to_dict()
