"""Smoothness within a training: weights end as without it, and the numbers are the measure's own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY
from gradscape._codec import decode, encode
from gradscape.errors import ConfigError
from gradscape.measure.smoothness.within_training import step_smoothness
from gradscape.records.run import RunRecord
from gradscape.records.smoothness import StepSmoothness
from gradscape.storage.run_folder import RunFolder
from made_records import made_smoothness

SMALL = gs.RunConfig(
    net=TINY.net,
    data=gs.DataConfig(name="digits", train=90, valid=40),
    batch_size=20,
    epochs=2,
)


def trained(config: gs.RunConfig, folder: Path) -> tuple[RunRecord, RunFolder]:
    place = RunFolder(folder / config.identity)
    return gs.train_run(config, place, gs.load_images("digits")), place


def test_weights_end_as_without_and_measures_take_turns(tmp_path: Path) -> None:
    measured, there = trained(replace(SMALL, smoothness_every=2), tmp_path)
    plain, here = trained(SMALL, tmp_path)
    first, second = there.load(), here.load()
    assert first is not None
    assert second is not None
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in second.arrays)
    assert measured.curve("train_loss") == plain.curve("train_loss")
    measures = [measure for epoch in measured.epochs for measure in epoch.smoothness]
    assert [(measure.step, measure.along) for measure in measures] == [
        (0, "gradient"), (2, "step"), (4, "relative"), (6, "gradient"), (8, "step"),
    ]  # fmt: skip
    assert [epoch.smoothness for epoch in plain.epochs] == [(), ()]
    assert SMALL.identity == plain.identity != measured.identity
    assert encode(there.record().epochs) == encode(measured.epochs)  # as read from the file


def test_a_measure_is_that_of_gs_smoothness() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
    ).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
    for step in range(3):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        expected = gs.smoothness(model, cross_entropy, (x, y), optimizer=optimizer, points=2)
        before = [p.detach().clone() for p in model.parameters()]
        gradient = [p.grad for p in model.parameters() if p.grad is not None]
        optimizer.step()
        known = loss.item(), gradient
        lines = {
            "gradient": expected.along_gradient,
            "step": expected.along_step,
            "relative": expected.relative,
        }
        for along, line in lines.items():
            found = step_smoothness(model, cross_entropy, (x, y), before, known, along, 0.01, step)  # type: ignore[arg-type]
            assert line is not None
            assert found.line.losses == pytest.approx(line.losses)
            assert found.line.changes == pytest.approx(line.changes, rel=1e-5)
            assert found.line.distances == pytest.approx(line.distances)
            assert found.beta == pytest.approx(line.beta[0], rel=1e-5)
            assert found.lipschitz == pytest.approx(line.lipschitz[0], rel=1e-5)


def test_what_is_not_finite_is_kept_as_such() -> None:
    measure = made_smoothness(0, "step", 0.1, (math.inf, 1.0), (math.nan, 3.0), (0.5, 4.0))
    assert encode(measure)["line"]["losses"] == [["Infinity", 1.0]]
    again = decode(StepSmoothness, encode(measure))
    assert again.line.losses.tolist() == [[math.inf, 1.0]]
    assert (again.beta, again.lipschitz) == (0.75, 0.25)
    assert math.isnan(made_smoothness(0, "step", 0.1, (1.0,), (3.0,), (0.0,)).beta)


def test_fewer_than_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="smoothness_every: expected 0 … 1000000000 steps; got -1"):
        replace(SMALL, smoothness_every=-1)


@pytest.mark.parametrize(
    "norm", ["batch", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("renorm", "group"))]
)
def test_the_gradient_s_change_goes_to_nothing_with_the_distance(tmp_path: Path, norm: str) -> None:
    """Also with a norm that looks at moving averages, which the step itself has moved on."""
    net = gs.NetConfig(depth=14, filters=8, norm=norm)  # type: ignore[arg-type]
    data = replace(SMALL.data, train=60)
    still = replace(SMALL, net=net, data=data, optim=gs.OptimConfig(lr=1e-7, min_lr=0.0), smoothness_every=1)
    record, _ = trained(still, tmp_path)
    measures = [measure for epoch in record.epochs for measure in epoch.smoothness]
    assert measures
    assert all(m.line.changes.max() < 0.01 * m.gradient_norm for m in measures if m.along == "gradient")
