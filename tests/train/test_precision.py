"""Precisions: what is refused, what is tried first, and what stays float32 in bf16."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cases import TINY, digits, tiny
from gradscape.cli.main import main
from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.storage.run_folder import RunFolder
from gradscape.study.network_cost import dummy_step
from gradscape.train import precision
from gradscape.train.loop import train_run
from gradscape.train.precision import Arithmetic, bf16_fault, measure_convolution, settle

CPU = torch.device("cpu")
BF16 = Arithmetic("bf16")  # as decided where the probe is content: these tests hold on any processor
SLOW = "bf16 convolutions are slow here (3.0 times fp32's time): computing in fp32"


def test_fp16_and_tf32_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="6e-5, erases vanishing gradients; bf16 is as fast"):
        RunConfig(precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^precision: expected fp32 or bf16 on a CPU; got tf32"):
        settle("tf32", CPU)
    assert settle("fp32", CPU) == ("fp32", "")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fp16", "gradscape: precision: 'fp16' is refused: its smallest normal number, 6e-5, erases vanish"),
        ("bf61", "gradscape: precision: expected one of fp32, tf32, bf16; got 'bf61'; did you mean 'bf16'?"),
        ("tf32", "gradscape: precision: expected fp32 or bf16 on a CPU; got tf32, which needs an NVIDIA GPU"),
    ],
)
@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_the_command_line_says_it_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, argument: str, message: str
) -> None:
    given = [command, "--precision", argument, "--device", "cpu", "--out", str(tmp_path / "x")]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_what_speaks_against_bf16() -> None:
    assert bf16_fault(2.0, 1.0, 0.005) == ""
    assert bf16_fault(1.0, 3.0, 0.005) == "bf16 convolutions are slow here (3.0 times fp32's time)"
    assert "wrong here (off by 50.0% of the largest value)" in bf16_fault(2.0, 1.0, 0.5)
    assert "wrong here" in bf16_fault(2.0, 1.0, math.nan)


def test_the_probe_sees_a_rounding_and_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    full, low, error = measure_convolution()
    assert full > 0
    assert low > 0
    assert 1e-4 < error < precision.TOLERANCE  # rounded, and no more than that
    right = precision.conv2d

    def wrong(x: torch.Tensor, weight: torch.Tensor, padding: int) -> torch.Tensor:
        out = right(x, weight, padding=padding)
        return out * 1.05 if x.dtype == torch.bfloat16 else out

    monkeypatch.setattr(precision, "conv2d", wrong)
    assert measure_convolution()[2] > precision.TOLERANCE


@pytest.mark.slow
def test_a_processor_without_bf16_falls_back_and_says_so(tmp_path: Path) -> None:
    """oneDNN is told to use AVX2 only, as on a processor that has no more: there bf16 is emulated."""
    run = [
        "train", "--net.depth=8", "--net.filters=4", "--data.train=60", "--data.valid=20", "--batch-size=20",
        "--epochs=1", "--precision=bf16", "--device=cpu", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "gradscape", *run],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["computed_in"] == "fp32"
    assert status["fallback"].startswith("bf16 convolutions are slow here (")
    assert done.stderr.count(status["fallback"]) == 1


def test_a_fallback_is_said_recorded_and_kept_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder, said = tiny(precision="bf16", epochs=2), RunFolder(tmp_path), list[str]()

    def tell(news: object) -> None:
        if isinstance(news, str):
            said.append(news)
        elif len(said) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("gradscape.train.loop.decide", lambda wanted, device: Arithmetic("fp32", SLOW))
    with pytest.raises(KeyboardInterrupt):
        train_run(config, folder, digits(), report=tell)
    assert said == [SLOW]
    # The machine is faster now; the run has begun in fp32 and stays in it.
    monkeypatch.setattr("gradscape.train.loop.decide", lambda wanted, device: BF16)
    record = train_run(config, folder, digits())
    assert (record.status["computed_in"], record.status["fallback"]) == ("fp32", SLOW)
    plain = train_run(tiny(epochs=2), RunFolder(tmp_path / "fp32"), digits(), arithmetic=Arithmetic("fp32"))
    assert record.curve("train_loss") == plain.curve("train_loss")


def test_a_run_that_a_gpu_has_begun_fused_goes_on_without_on_a_cpu(tmp_path: Path) -> None:
    """The fused layer is for GPUs alone: on a CPU the run failed in its first step."""
    net = NetConfig(depth=8, norm="batch", norm_where="everywhere", filters=8)
    config, folder = tiny(epochs=2, net=net), RunFolder(tmp_path)
    folder.create(config)
    folder.set_status(
        "interrupted", computed_in="fp32", fallback="", fused="BatchNorm with LeakyReLU", threads=1
    )
    record = train_run(config, folder, digits())
    assert (record.state, record.status["computed_in"]) == ("done", "fp32")
    assert "fused" not in record.status


@pytest.mark.parametrize("norm", ["none", "batch", "algorithm1"])
def test_in_bf16_all_that_is_summed_up_stays_float32(norm: str) -> None:
    config = tiny(net=replace(TINY.net, norm=norm), precision="bf16")
    step = dummy_step(config, CPU, batches=2)
    step.precision = "bf16"
    model, seen = step.state.model, dict[str, torch.dtype]()
    for name in ("entry.conv", "linear"):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.dtype})
        )
    step(config.batch_size)
    step(config.batch_size)
    assert seen == {"entry.conv": torch.bfloat16, "linear": torch.float32}
    kept = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    kept += [value for state in step.state.optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in kept if value is not None} <= {torch.float32, torch.int64}


def test_bf16_is_near_fp32_and_not_it_and_killed_and_resumed_it_is_bit_identical(tmp_path: Path) -> None:
    full = train_run(tiny(), RunFolder(tmp_path / "fp32"), digits())
    config = tiny(precision="bf16")
    low = train_run(config, RunFolder(tmp_path / "bf16"), digits(), arithmetic=BF16)
    assert low.status["computed_in"] == "bf16"
    assert low.curve("train_loss") != full.curve("train_loss")
    assert low.curve("train_loss") == pytest.approx(full.curve("train_loss"), rel=0.05)

    def stop(progress: object) -> None:
        if getattr(progress, "epoch", 0) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, RunFolder(tmp_path / "cut"), digits(), report=stop, arithmetic=BF16)
    cut = train_run(config, RunFolder(tmp_path / "cut"), digits(), arithmetic=BF16)
    assert len(low.epochs) == len(cut.epochs) == 3
    for name in ("train_loss", "valid_loss"):
        assert cut.curve(name) == low.curve(name)
    assert cut.flow.to_dict() == low.flow.to_dict()


@pytest.mark.slow
def test_bf16_keeps_gradients_that_fp16_would_erase(tmp_path: Path) -> None:
    config = tiny(net=NetConfig(depth=38, norm="none"), epochs=1, precision="bf16")
    flow = train_run(config, RunFolder(tmp_path), digits(), arithmetic=BF16).flow
    assert 0 < flow.mean_abs[0, 0] < 1e-12
