"""Random numbers in training: of the run and the epoch alone, so that a run continued draws the same."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cases import TINY, digits, tiny
from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.measure.core.objective import Objective
from gradscape.nets.residual import StochasticDepth
from gradscape.storage.run_folder import RunFolder
from gradscape.study import concurrency as packing
from gradscape.study.network_cost import dummy_step
from gradscape.train.cuda_graph import advance
from gradscape.train.loop import train_run
from gradscape.train.precision import Arithmetic
from gradscape.train.seeding import own_draws
from gradscape.train.state import TrainState
from gradscape.train.step import TrainStep

CPU = torch.device("cpu")
RESNET = NetConfig(family="resnet", depth=8, filters=4, stochastic_depth=0.5)
NETS = [RESNET, NetConfig(depth=14, filters=4, skip=True, norm="none", init="fixup", stochastic_depth=0.5)]


def weights(folder: RunFolder) -> dict[str, bytes]:
    checkpoint = folder.load()
    assert checkpoint is not None
    return {name: array.tobytes() for name, array in checkpoint.arrays.items()}


def global_state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]


class Kill(BaseException):
    """Ends a run as a kill does: no handler of the loop's sees it."""


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_killed_after_or_in_an_epoch_and_continued_it_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: NetConfig
) -> None:
    """Of 3 steps an epoch; torch's global generator is another at each start."""
    config = tiny(net=net)
    torch.manual_seed(1)
    train_run(config, RunFolder(tmp_path / "whole"), digits())
    for fatal in (4, 8):
        folder = RunFolder(tmp_path / f"cut-{fatal}")
        train_killed_and_continued(config, folder, fatal, monkeypatch)
        assert weights(folder) == weights(RunFolder(tmp_path / "whole"))


def train_killed_and_continued(
    config: RunConfig, folder: RunFolder, fatal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = 0, TrainStep.__call__

    def killed(step: TrainStep, size: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise Kill
        original(step, size)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", killed)
        torch.manual_seed(2)
        with pytest.raises(Kill):
            train_run(config, folder, digits())
    assert len(folder.epochs()) == (fatal - 1) // 3
    torch.manual_seed(3)
    train_run(config, folder, digits())


def test_the_global_state_is_as_before(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = global_state()
    train_run(tiny(net=RESNET), RunFolder(tmp_path), digits())
    assert global_state() == before


def test_draws_are_of_the_seed_and_the_epoch() -> None:
    def drawn(config: RunConfig, epoch: int) -> list[float]:
        with own_draws(config, epoch):
            return torch.rand(5).tolist()

    config = tiny(net=RESNET)
    first = drawn(config, 0)
    assert first == drawn(config, 0)
    others = [drawn(config, 1), drawn(replace(config, seed=2), 0)]
    assert first not in others
    assert others[0] != others[1]
    torch.manual_seed(4)
    undisturbed = torch.rand(5).tolist()
    torch.manual_seed(4)
    assert drawn(TINY, 0) == undisturbed  # a net that draws nothing leaves all as it is


@pytest.mark.slow
def test_a_measure_within_training_changes_no_weight(tmp_path: Path) -> None:
    config = tiny(net=RESNET)
    plain, measured = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "measured")
    train_run(config, plain, digits())
    record = train_run(replace(config, smoothness_every=1), measured, digits())
    assert weights(measured) == weights(plain)
    assert sum(len(epoch.smoothness) for epoch in record.epochs) == 9


def test_a_measure_within_training_is_of_the_loss_without_skipped_branches() -> None:
    step = dummy_step(tiny(net=replace(RESNET, norm="none", init="he")), CPU, batches=1)
    model = step.state.model
    x, y = step.batches.take(torch.arange(25))
    with torch.no_grad():
        wanted = cross_entropy(model.eval()(x), y).item()
    model.train()
    found = step.measure(25, "gradient", 0.01, 0)
    assert found.loss == pytest.approx(wanted, rel=1e-5)
    assert step.tally.means()[0] != pytest.approx(wanted, rel=1e-5)


def test_measures_take_stochastic_depth_as_eval_mode_does() -> None:
    """And norms as training does: the batch's own statistics."""
    model = TrainState(tiny(net=RESNET), CPU).model.train()
    x, y = torch.randn(6, 3, 8, 8), torch.arange(6)
    objective = Objective(model, cross_entropy, (x, y))
    loss, gradient = objective.gradient()
    assert (loss, gradient.tolist()) == (objective.gradient()[0], objective.gradient()[1].tolist())
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.eval()
    wanted = cross_entropy(model(x), y)
    assert loss == pytest.approx(wanted.item(), rel=1e-6)
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.survival = 1.0
    assert cross_entropy(model(x), y).item() != pytest.approx(loss, rel=1e-6)


def test_on_a_gpu_such_a_step_is_no_graph() -> None:
    step = dummy_step(tiny(net=RESNET), CPU, batches=1)
    step.device = torch.device("cuda")
    assert advance(step) is step


def test_on_a_gpu_such_runs_are_trained_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "memory_needed", lambda *_: 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (8 * 2**30, 8 * 2**30))
    configs, hows = [TINY, tiny(net=RESNET), TINY], {"fp32": Arithmetic("fp32")}
    assert packing.share_gpu(configs, torch.device("cuda"), hows, 3) == (
        1, "1 run at once: dropout and stochastic depth draw from a generator that threads share",
    )  # fmt: skip
    assert packing.share_gpu([TINY] * 3, torch.device("cuda"), hows, 3) == (3, "")
    assert packing.share_gpu([tiny(net=RESNET)], torch.device("cuda"), hows, 1) == (1, "")
