"""A run before its first step: plain autograd's gradients, the signal of gs.check, and nothing changed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY, digits
from gradscape.config.network import NetConfig
from gradscape.data import STATISTICS, split
from gradscape.data.device_batches import eval_batches
from gradscape.measure.signal.signal import signal
from gradscape.records.run import RunRecord
from gradscape.records.signal import RunStart
from gradscape.storage.run_folder import RunFolder
from gradscape.train import attempt
from gradscape.train.measurements import measure_start
from gradscape.train.state import TrainState, build_model

CPU = torch.device("cpu")


def first_images() -> tuple[Tensor, Tensor]:
    images = digits()
    kept = split(images.train_labels, 20, 0).train[:60]
    chosen = images.train_images[kept], images.train_labels[kept]
    return next(iter(eval_batches(*chosen, 60, *STATISTICS["digits"], CPU)))


def start_of(record: RunRecord) -> RunStart:
    assert record.start is not None
    return record.start


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_it_is_plain_autograd_and_the_signal_on_the_first_images(tmp_path: Path, norm: str) -> None:
    net = NetConfig(depth=8, filters=4, norm=norm, norm_where="everywhere")  # type: ignore[arg-type]
    config = replace(TINY, net=net)
    found = start_of(gs.train_run(config, RunFolder(tmp_path / "run"), digits()))
    x, y = first_images()
    model = build_model(config, CPU)
    loss = cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    named = dict(model.named_parameters())
    assert found.signal.samples == 60
    assert found.signal.loss[0] == pytest.approx(loss.item(), rel=1e-6)
    assert found.flow.layers == tuple(named)
    assert found.flow.sizes == tuple(parameter.numel() for parameter in named.values())
    expected = [float(p.grad.abs().double().mean()) for p in named.values() if p.grad is not None]
    assert found.flow.mean_abs[0] == pytest.approx(expected, rel=1e-4)
    weights = [place for place, parameter in enumerate(named.values()) if parameter.dim() > 1]
    assert found.gradients.tolist() == found.flow.mean_abs[0, weights].tolist()
    record = signal(build_model(config, CPU), (x, y), cross_entropy, jacobian_samples=0)
    assert found.signal.to_dict() == record.to_dict()
    assert found.correlation.tolist() == record.correlation[0, record.weights].tolist()


def test_model_buffers_gradients_and_random_numbers_are_left_as_found(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    for folder in folders:
        folder.create(TINY)
    net = NetConfig(depth=8, filters=4, norm_where="everywhere")
    state = TrainState(replace(TINY, net=net), CPU)
    state.model.add_module("pool", nn.Sequential(state.model.get_submodule("pool"), nn.Dropout()))
    state.model.eval()
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    for folder in folders:
        torch.manual_seed(len(folder.path.name))
        drawn = torch.get_rng_state()
        measure_start(TINY, folder, state, first_images(), lambda _: None)
        assert torch.equal(torch.get_rng_state(), drawn)
        torch.rand(7)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert not any(module.training for module in state.model.modules())
    assert folders[0].start().to_dict() == folders[1].start().to_dict()  # nothing is dropped


def test_weights_end_as_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("with", "without")]
    gs.train_run(TINY, folders[0], digits())
    monkeypatch.setattr(attempt, "measure_start", lambda *_: None)
    record = gs.train_run(TINY, folders[1], digits())
    assert record.start is None  # as of runs from before it was measured
    assert record.to_dict()["start"] is None
    ends = [folder.load() for folder in folders]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(value.tobytes() == ends[1].arrays[name].tobytes() for name, value in ends[0].arrays.items())


def test_it_is_not_measured_again_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(TINY)
    folder.ask_stop("?")
    gs.train_run(TINY, folder, digits(), report=lambda _: folder.ask_stop("enough"))
    assert folder.record().state == "stopped"
    path = folder.path / "start.json"
    before = path.stat().st_mtime_ns, path.read_bytes()
    found = start_of(gs.train_run(TINY, folder, digits()))
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert folder.record().to_dict()["start"] == found.to_dict()


def test_dead_outputs_have_no_correlation_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(config: gs.RunConfig, device: torch.device) -> nn.Module:
        model = build_model(config, device)
        nn.init.zeros_(model.get_parameter("entry.conv.weight"))
        return model

    monkeypatch.setattr("gradscape.train.state.build_model", dead)
    config = replace(TINY, net=NetConfig(depth=8, filters=4, norm="none"), epochs=1)
    record = gs.train_run(config, RunFolder(tmp_path / "run"), digits())
    assert record.state == "done"
    assert start_of(record).signal.second_moment[0, 0] == 0
    assert math.isnan(start_of(record).correlation[0])
    values = json.loads((tmp_path / "run" / "start.json").read_text())
    assert values["signal"]["correlation"][0][0] == "NaN"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "first", "last"),
    [
        (NetConfig(norm="none"), 8e-19, 4e-5),
        (NetConfig(norm="none", init="he"), 6e-5, 1e-4),
        (NetConfig(), 5e-2, 5e-4),
        (NetConfig(norm_where="everywhere"), 1.0, 2e-3),
    ],
)
def test_gradients_of_vgg38_vanish_explode_or_pass(
    tmp_path: Path, net: NetConfig, first: float, last: float
) -> None:
    """Known orders of magnitude on 100 random images of 32×32, at the first and the last convolution."""
    config = gs.RunConfig(net=net, data=gs.DataConfig(name="cifar100"))
    folder, generator = RunFolder(tmp_path / "run"), torch.Generator().manual_seed(0)
    folder.create(config)
    images = torch.randn(100, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 100, (100,), generator=generator)
    measure_start(config, folder, TrainState(config, CPU), (images, labels), lambda _: None)
    found = folder.start()
    assert found is not None
    *convolutions, _ = found.gradients
    assert len(convolutions) == 37
    assert 1 / 4 < convolutions[0] / first < 4
    assert 1 / 4 < convolutions[-1] / last < 4


def test_no_block_is_skipped_in_what_is_measured(tmp_path: Path) -> None:
    """A skipped block's gradients are exactly 0, and which are skipped is a toss."""
    net = NetConfig(depth=14, filters=4, norm="none", skip=True, stochastic_depth=0.9)
    for seed in range(3):
        folder, config = RunFolder(tmp_path / f"run-{seed}"), replace(TINY, net=net, seed=seed)
        folder.create(config)
        measure_start(config, folder, TrainState(config, CPU), first_images(), lambda _: None)
        start = folder.start()
        assert start is not None
        assert start.gradients.min() > 0
