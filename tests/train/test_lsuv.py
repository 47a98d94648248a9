"""LSUV in a training run: every layer's output of variance 1 on the first mini-batch, all else as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from cases import TINY, digits, tiny
from gradscape.config.run import RunConfig
from gradscape.data import STATISTICS, split
from gradscape.data.device_batches import eval_batches
from gradscape.measure.check.reinitialize import unit_variance
from gradscape.measure.core.batch import Batch
from gradscape.nets.initialization import initialize
from gradscape.records.run import Progress
from gradscape.storage.run_folder import RunFolder
from gradscape.train.loop import train_run
from gradscape.train.model import scale_lsuv
from gradscape.train.state import TrainState

CPU = torch.device("cpu")


def lsuv(**net: Any) -> RunConfig:
    return tiny(net=replace(TINY.net, init="lsuv", **net), keep_every=3)


def first_batch(config: RunConfig) -> tuple[Tensor, Tensor]:
    images = digits()
    kept = split(images.train_labels, 20, 0).train[: config.batch_size]
    return next(eval_batches(images.train_images[kept], images.train_labels[kept], 25, *STATISTICS["digits"]))


def variances(model: nn.Module, x: Tensor, seed: int) -> list[float]:
    """Of the outputs of all convolutions and linear layers, in train mode."""
    found: list[float] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _m, _i, out: found.append(float(out.detach().double().var())))
    torch.manual_seed(seed)
    model.train()(x)
    return found


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("kind", [{}, {"activation": "selu"}, {"dropout": 0.3}])
def test_every_layers_output_has_variance_1(norm: Any, kind: dict[str, Any]) -> None:
    config = lsuv(norm=norm, depth=14, **kind)
    model, batch = TrainState(config, CPU).model, first_batch(config)
    assert not np.allclose(variances(TrainState(config, CPU).model, batch[0], 1), 1, rtol=0.1)
    assert scale_lsuv(config, model, batch) == ""
    assert variances(model, batch[0], config.seed) == pytest.approx([1] * 14, rel=1e-4)


def test_weight_normalised_layers_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(inplace=True), weight_norm(nn.Conv2d(4, 4, 3)), nn.Flatten(),
        nn.Linear(64, 5),
    ).double()  # fmt: skip
    initialize(model, "lsuv", "relu", 0.0)
    x = torch.randn(9, 3, 8, 8).double()
    assert unit_variance(model, Batch.of(x)) == (3, [])
    assert variances(model, x, 0) == pytest.approx([1] * 3, rel=1e-9)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_running_statistics_mode_and_random_numbers_stay(dropout: float) -> None:
    config = lsuv(dropout=dropout)
    model, batch = TrainState(config, CPU).model, first_batch(config)
    torch.manual_seed(7)
    before = {name: value.clone() for name, value in model.named_buffers()}
    random, weights = torch.get_rng_state(), model.state_dict().keys()
    scale_lsuv(config, model, batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert model.state_dict().keys() == weights
    other = TrainState(config, CPU).model
    torch.manual_seed(8)  # whatever was drawn before
    scale_lsuv(config, other, batch)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_run_starts_from_the_scaled_weights(tmp_path: Path) -> None:
    config, folder = lsuv(norm="none"), RunFolder(tmp_path)
    train_run(config, folder, digits())
    state = TrainState(config, CPU)
    scale_lsuv(config, state.model, first_batch(config))
    start = folder.kept_weights()[0]
    assert start.keys() == state.weights().keys()
    assert all(np.array_equal(start[name], value) for name, value in state.weights().items())


class Kill(BaseException):
    """Ends a run as a kill does: no handler of the loop's sees it."""


@pytest.mark.parametrize("fatal", [1, 2])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_killed_before_or_after_its_first_checkpoint_it_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: Any, fatal: int
) -> None:
    config = lsuv(norm=norm)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train_run(config, whole, digits())
    save, calls = RunFolder.save, []

    def killed(folder: RunFolder, *arguments: Any) -> None:
        calls.append(folder)
        if len(calls) == fatal:
            raise Kill
        save(folder, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", killed)
        with pytest.raises(Kill):
            train_run(config, cut, digits())
    torch.rand(5)
    again = train_run(config, cut, digits())
    assert again.status["attempts"] == 2
    one, other = whole.load(), cut.load()
    assert one is not None
    assert other is not None
    assert {name: value.tobytes() for name, value in one.arrays.items()} == {
        name: value.tobytes() for name, value in other.arrays.items()
    }


def test_a_run_whose_layers_cannot_be_scaled_goes_on_and_says_so(tmp_path: Path) -> None:
    """Dropout of all but one value in ten million leaves nothing that varies after the first activation."""
    said: list[Progress | str] = []
    record = train_run(lsuv(norm="none", dropout=1 - 1e-7), RunFolder(tmp_path), digits(), report=said.append)
    assert record.state == "done"
    assert [news for news in said if isinstance(news, str)] == [
        "LSUV left layers with a constant output on the first mini-batch unscaled: stage1.0.conv2, "
        "stage2.0.conv1, stage2.0.conv2, stage3.0.conv1, stage3.0.conv2, linear"
    ]
