"""What a public function says to arguments of another type, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradscape as gs
from gradscape.measure.diagnose.limits import Limits

NET = nn.Linear(2, 2)
BATCH = (torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
LOSS = nn.functional.cross_entropy
SGD = torch.optim.SGD(NET.parameters(), 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gs.watch(NET, None), "optimizer: expected one or several of torch.optim; got None"),
        (lambda: gs.watch(NET, [1]), r"optimizer: expected one or several of torch.optim; got \[1\]"),
        (lambda: gs.watch(NET, SGD, every="x"), "every: expected a whole number; got 'x'"),
        (lambda: gs.watch(NET, SGD, activations="no"), "activations: expected true or false; got 'no'"),
        (lambda: gs.watch(NET, SGD, capacity=10**12), "capacity: expected at most 1,000,000; got .*"),
        (lambda: gs.watch(NET), "watch: missing a required argument: 'optimizer'"),
        (lambda: gs.load(None), "folder: expected text or a path; got None"),
        (lambda: gs.load_images("digits", root=3), "root: expected text or a path or None; got 3"),
        (lambda: gs.check(NET, BATCH, LOSS, seeds=2.5), "seeds: expected a whole number; got 2.5"),
        (lambda: gs.check(NET, BATCH, LOSS, optimizer=len), "optimizer: it fails .TypeError"),
        (lambda: gs.check(NET, BATCH, LOSS, optimizer=list), "optimizer: it makes .* give what makes one"),
        (lambda: gs.curvature(NET, LOSS, BATCH, matrix=np.zeros(3)), "matrix: expected text; got array"),
        (lambda: gs.curvature(NET, "loss", BATCH), "loss: expected a function or None; got 'loss'"),
        (lambda: gs.landscape(NET, LOSS, BATCH, points=10**6), "points: expected at"),
        (lambda: gs.landscape(NET, LOSS, torch.zeros(2, 3), points=2), "Linear.* was given .*3"),
        (
            lambda: gs.landscape(NET, LOSS, BATCH, metrics={"a": 1}),
            "metrics: expected functions of output and y; got another value for a",
        ),
        (lambda: gs.train_run(None, "r", gs.load_images("digits")), "config: expected RunConfig; got None"),
        (lambda: gs.save_html(3, "x", "y"), "diagnosis: expected Diagnosis or None; got 'y'"),
        (lambda: Limits(rows="x"), "limits.rows: expected a whole number; got 'x'"),
        (lambda: Limits(dead=None), "limits.dead: expected a number; got None"),
        (lambda: gs.FlowRecorder(None), "model: expected a module; got None"),
        (lambda: gs.RunFolder(None), "path: expected text or a path; got None"),
    ],
)
def test_another_type_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(gs.GradscapeError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    with gs.watch(NET, SGD, every=np.int64(2), capacity=np.int32(7)) as flow:
        for _ in range(3):
            LOSS(NET(BATCH[0]), BATCH[1]).backward()
            SGD.step()
    assert flow.history().steps.tolist() == [0, 2]


def test_a_path_may_be_text(tmp_path: Path) -> None:
    assert gs.RunFolder("a/b").path == Path("a/b")
    config = gs.RunConfig(
        net=gs.NetConfig(depth=8, filters=2, norm="none"), data=gs.DataConfig(train=20, valid=20),
        batch_size=20, epochs=1,
    )  # fmt: skip
    record = gs.train_run(config, str(tmp_path / "run"), gs.load_images("digits"))
    assert record.state == "done"
    assert gs.RunFolder(tmp_path / "run").record().epochs == record.epochs


def test_a_watch_is_saved_as_its_history_would_be(tmp_path: Path) -> None:
    with gs.watch(NET, SGD) as flow:
        for _ in range(3):
            SGD.zero_grad()
            LOSS(NET(BATCH[0]), BATCH[1]).backward()
            SGD.step()
    page = gs.save_html(flow, tmp_path / "a.html").read_text()
    assert "weight" in page
