"""When BatchNorm and LeakyReLU are fused: only on a GPU, only where it is right and faster."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gradscape.nets import resnet
from gradscape.train import fusion as fuse
from gradscape.train.fusion import fusing_pays, verdict

CUDA = torch.device("cuda")


def test_never_on_a_cpu() -> None:
    assert fusing_pays(torch.device("cpu"), "fp32") == (False, "")


def test_the_verdict_asks_for_right_and_faster() -> None:
    assert verdict(2.0, 1.0, 1e-6, 1e-4) == (
        True,
        "BatchNorm and LeakyReLU are fused: 2.00 times as fast here",
    )
    refused = "BatchNorm and LeakyReLU are not fused: "
    assert verdict(1.0, 1.0, 1e-6, 1e-4) == (False, refused + "1.00 times as fast here")
    assert verdict(2.0, 1.0, 0.5, 1e-4) == (False, refused + "wrong here (off by 50.0% of the largest)")
    assert verdict(2.0, 1.0, math.nan, 1e-4)[0] is False


def test_without_triton_or_with_one_that_fails_it_is_said_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "find_spec", lambda name: None)
    assert fusing_pays(CUDA, "bf16") == (
        False, "BatchNorm and LeakyReLU are not fused: Triton is not installed",
    )  # fmt: skip
    monkeypatch.setattr(fuse, "find_spec", lambda name: object())

    def fail(device: torch.device, dtype: torch.dtype) -> tuple[float, float, float]:
        raise RuntimeError(f"no kernel image for {dtype}\nand more")

    monkeypatch.setattr(fuse, "measure", fail)
    assert fusing_pays(CUDA, "bf16") == (
        False, "BatchNorm and LeakyReLU are not fused: RuntimeError: no kernel image for torch.bfloat16",
    )  # fmt: skip
    monkeypatch.setattr(fuse, "measure", lambda device, dtype: (3.0, 2.0, 1e-5))
    assert fusing_pays(CUDA, "fp32")[0] is True


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_on_a_gpu_it_is_right_and_measured(precision: str) -> None:
    pytest.importorskip("triton")
    _, said = fusing_pays(CUDA, precision)
    assert "times as fast here" in said


def test_residual_blocks_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their second norm is followed by a sum: fused, an activation would come before it."""

    class Fused(nn.Sequential):
        """The two layers in the kernel's place, which needs Triton."""

        def __init__(self, norm: nn.BatchNorm2d, slope: float) -> None:
            super().__init__(norm, nn.LeakyReLU(slope))

    monkeypatch.setitem(sys.modules, "gradscape.nets.fused_norm", SimpleNamespace(BatchNormLeakyReLU=Fused))  # type: ignore[arg-type]
    for skips, count in ((True, 1), (False, 7)):
        model = resnet(blocks=1, classes=3, seed=0, skips=skips)
        x = torch.randn(2, 3, 8, 8)
        before = model(x)
        fused = fuse.fuse(model)
        assert sum(isinstance(module, Fused) for module in fused.modules()) == count
        torch.testing.assert_close(fused(x), before)
