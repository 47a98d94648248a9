"""The step asks the host for nothing, and its CUDA graph does what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from cases import digits, tiny
from gradscape.config.run import OptimConfig
from gradscape.executors.threads import Threads
from gradscape.records.run import RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.study.network_cost import dummy_step
from gradscape.study.train_job import TrainJob, train_job
from gradscape.train import cuda_graph as graph
from gradscape.train import loop
from gradscape.train.loop import train_run
from products import each_once

CPU = torch.device("cpu")
ADAM = OptimConfig(lr=0.01)
SGD = OptimConfig(name="sgd", lr=0.1, weight_decay=1e-3)


STEPS = {
    "none": ("none", ADAM),
    "batch": ("batch", ADAM),
    "algorithm1": ("algorithm1", ADAM),
    "sgd": ("batch", SGD),
}


@each_once("case, precision", STEPS, ["fp32", "bf16"])
def test_a_step_reads_nothing_back(case: tuple[str, OptimConfig], precision: str) -> None:
    """On tensors without values whatever would wait for one raises."""
    (norm, optim), config = case, tiny()
    net = replace(config.net, norm=norm)  # type: ignore[arg-type]
    step = dummy_step(tiny(net=net, optim=optim), CPU, batches=3)
    step.precision = precision
    step(config.batch_size)  # the optimiser's state is made by the first
    with FakeTensorMode(allow_non_fake_inputs=True):
        step(config.batch_size)
        step(7)  # the tail
        with pytest.raises(DataDependentOutputException):
            step.tally.means()


def test_steps_elsewhere_are_taken_as_they_are() -> None:
    step = dummy_step(tiny(), CPU, batches=1)
    assert graph.advance(step) is step


def same(one: RunRecord, other: RunRecord, rel: float) -> None:
    for name in ("train_loss", "valid_loss"):
        assert one.curve(name) == pytest.approx(other.curve(name), rel=rel)
    assert one.flow.mean_abs == pytest.approx(other.flow.mean_abs, rel=10 * rel, abs=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "optim"), [("fp32", ADAM), ("tf32", ADAM), ("bf16", ADAM), ("fp32", SGD)]
)
def test_the_graph_equals_the_eager_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, optim: OptimConfig
) -> None:
    """60 images by 25: batches of two sizes, each replayed from the second epoch on."""
    config = tiny(epochs=6, precision=precision, optim=optim)
    graphed = train_run(config, RunFolder(tmp_path / "graph"), digits(), device="cuda")
    monkeypatch.setattr(loop, "advance", lambda step: step)
    eager = train_run(config, RunFolder(tmp_path / "eager"), digits(), device="cuda")
    same(graphed, eager, rel=1e-3)


@pytest.mark.gpu
def test_runs_side_by_side_equal_runs_alone(tmp_path: Path) -> None:
    jobs = {
        str(seed): TrainJob(tiny(epochs=6, seed=seed), tmp_path / str(seed), device="cuda")
        for seed in range(4)
    }
    with Threads(train_job, 4) as executor:
        for future in [executor.submit(name, job) for name, job in jobs.items()]:
            future.result()
    for name, job in jobs.items():
        alone = train_run(job.config, RunFolder(tmp_path / f"alone-{name}"), digits(), device="cuda")
        same(RunFolder(job.folder).record(), alone, rel=1e-3)
