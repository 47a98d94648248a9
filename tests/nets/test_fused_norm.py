"""The fused kernels against the eager layers; without a GPU, Triton's interpreter executes them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="comes with CUDA builds of torch")

from cases import digits, tiny  # noqa: E402
from gradscape.config.network import NetConfig  # noqa: E402
from gradscape.config.run import RunConfig  # noqa: E402
from gradscape.nets.fused_norm import BatchNormLeakyReLU  # noqa: E402
from gradscape.storage.run_folder import RunFolder  # noqa: E402
from gradscape.train.fusion import away_from_the_kink, both_ways, difference, fuse  # noqa: E402
from gradscape.train.loop import train_run  # noqa: E402
from gradscape.train.model import build_model  # noqa: E402
from gradscape.train.precision import Arithmetic  # noqa: E402

SLOPE = 0.01


def layers(channels: int) -> tuple[nn.Module, nn.Module]:
    """Fused and eager, with the same parameters, none of them at their initial values."""
    norms = [nn.BatchNorm2d(channels, device=DEVICE) for _ in range(2)]
    for norm in norms:
        generator = torch.Generator().manual_seed(1)
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
            tensor.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(torch.rand(channels, generator=generator))
    return BatchNormLeakyReLU(norms[0], SLOPE), nn.Sequential(norms[1], nn.LeakyReLU(SLOPE, inplace=True))


# One block; several; more blocks than stripes; channels that are no power of two.
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (20, 32, 8, 8), (9, 3, 30, 31), (9, 32, 12, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_equals_eager(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.nets.fused_norm.MOST_STRIPES", 4)
    generator = torch.Generator().manual_seed(0)
    x, cotangent = (
        (3 + torch.randn(shape, generator=generator))
        .to(DEVICE, dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    fused, eager = layers(shape[1])
    cotangent *= away_from_the_kink(layers(shape[1])[1](x))
    found, wanted = both_ways(fused, x, cotangent), both_ways(eager, x, cotangent)
    tolerance = 2e-5 if dtype == torch.float32 else 2**-7
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert difference([a], [b]) < tolerance
    assert difference(list(fused.buffers()), list(eager.buffers())) < 2e-5
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    fused.eval()
    eager.eval()
    assert difference([fused(x)], [eager(x)]) < tolerance


def test_gradients_are_those_of_float64() -> None:
    """Against eager in double precision: the fused float32 is as near as the eager float32 is."""
    generator = torch.Generator().manual_seed(0)
    x, cotangent = (torch.randn(20, 8, 6, 6, generator=generator).to(DEVICE) for _ in range(2))
    fused, eager = layers(8)
    cotangent *= away_from_the_kink(layers(8)[1](x))
    exact = both_ways(layers(8)[1].double(), x.double(), cotangent.double())
    near = difference(both_ways(fused, x, cotangent), exact)
    assert near < 2 * difference(both_ways(eager, x, cotangent), exact) + 1e-6


def normed(where: str) -> RunConfig:
    return tiny(net=NetConfig(depth=14, filters=4, norm="batch", norm_where=where))


@pytest.mark.parametrize(("where", "count"), [("blocks", 6), ("everywhere", 13)])
def test_a_fused_model_keeps_its_parameters_and_their_names(where: str, count: int) -> None:
    model, plain = (build_model(normed(where), DEVICE) for _ in range(2))
    parameters = dict(model.named_parameters())
    fuse(model)
    assert {name: id(p) for name, p in model.named_parameters()} == {n: id(p) for n, p in parameters.items()}
    assert model.state_dict().keys() == plain.state_dict().keys()
    fused = [name for name, m in model.named_modules() if isinstance(m, BatchNormLeakyReLU)]
    norms = [name for name, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert fused == norms
    assert len(fused) == count


@pytest.mark.parametrize("change", [{"norm": "none"}, {"norm": "algorithm1"}, {"activation": "relu"}])
def test_other_blocks_are_left_alone(change: dict[str, str]) -> None:
    model = fuse(build_model(tiny(net=replace(normed("blocks").net, **change)), DEVICE))
    assert not any(isinstance(module, BatchNormLeakyReLU) for module in model.modules())


@pytest.mark.slow
@pytest.mark.long  # with those of a pass and of a step
def test_training_fused_is_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss curves, gradient flow and the test, all within rounding; interrupted, it stays fused."""
    monkeypatch.setattr("gradscape.train.attempt.can_fuse", lambda device: True)  # in Triton's interpreter
    config = normed("everywhere")
    plain = train_run(config, RunFolder(tmp_path / "plain"), digits(), str(DEVICE))

    def stop(progress: object) -> None:
        if getattr(progress, "epoch", 0) == 2:
            raise KeyboardInterrupt

    how, folder = Arithmetic("fp32", fused=True), RunFolder(tmp_path / "fused")
    with pytest.raises(KeyboardInterrupt):
        train_run(config, folder, digits(), str(DEVICE), stop, how)
    fused = train_run(config, folder, digits(), str(DEVICE))
    assert fused.status["fused"] == "BatchNorm with LeakyReLU"
    assert fused.curve("train_loss") == pytest.approx(plain.curve("train_loss"), rel=1e-4)
    assert fused.flow.layers == plain.flow.layers
    assert fused.flow.kinds == plain.flow.kinds
    for epoch, rel in enumerate((1e-3, 0.01, 0.05)):  # steps amplify
        assert fused.flow.mean_abs[epoch] == pytest.approx(plain.flow.mean_abs[epoch], rel=rel, abs=1e-6)
    assert fused.test["last"]["loss"] == pytest.approx(plain.test["last"]["loss"], rel=1e-3)
