"""Fixup: its three rules, and what they are for: a step changes a deep network no more than a shallow one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, leaky_relu

from gradscape.measure.core.parameter_kinds import parameter_kind
from gradscape.nets import Layers, resnet, vgg
from gradscape.nets.fixup import FixupBlock, ScalarBias, ScalarMultiplier

PLAIN = Layers(norm="none")


def build(family: str, blocks: int = 2, init: str = "fixup", **options: Any) -> nn.Module:
    if family == "vgg":
        return vgg(
            blocks=blocks, classes=10, image_size=16, seed=0, layers=PLAIN, skip=True, init=init, **options
        )
    return resnet(blocks=blocks, classes=10, seed=0, layers=PLAIN, init=init, **options)


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 16, 16, generator=generator, dtype=dtype), torch.arange(8)


def blocks_of(model: nn.Module) -> list[FixupBlock]:
    return [module for module in model.modules() if isinstance(module, FixupBlock)]


@pytest.mark.parametrize("family", ["vgg", "resnet"])
def test_at_first_branches_are_0_and_logits_are_0(family: str) -> None:
    model, (x, y) = build(family), batch()
    outputs: list[Tensor] = []
    for block in blocks_of(model):
        block.depth.register_forward_hook(lambda *call: outputs.append(call[2]))
    logits = model(x)
    assert len(outputs) == 6
    assert not any(out.any() for out in outputs)
    assert torch.equal(logits, torch.zeros(8, 10))
    assert cross_entropy(logits, y).item() == pytest.approx(math.log(10), rel=1e-6)


def test_at_first_a_residual_stage_is_the_identity() -> None:
    """Of what is not negative, as an activation's output is."""
    model = resnet(blocks=3, classes=10, seed=0, layers=Layers(norm="none", activation="relu"), init="fixup")
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(model.get_submodule("stage1")(x), x)


@pytest.mark.parametrize("kind", ["identity", "a", "b"])
def test_a_block_is_figure_1(kind: str) -> None:
    inputs, stride = (4, 1) if kind == "identity" else (2, 2)
    block = FixupBlock(inputs, 4, PLAIN, stride, kind).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in block.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.randn(3, inputs, 8, 8, generator=generator, dtype=torch.float64)
    bias = {name: block.get_parameter(f"bias{name}.bias") for name in ("1a", "1b", "2a", "2b")}
    shifted = x + bias["1a"]
    inner = leaky_relu(conv2d(shifted, block.conv1.weight, stride=stride, padding=1) + bias["1b"], 0.01)
    branch = conv2d(inner + bias["2a"], block.conv2.weight, padding=1)
    branch = block.get_parameter("multiplier.weight") * branch + bias["2b"]
    straight = x
    if kind == "a":
        straight = torch.cat([shifted[:, :, ::2, ::2], torch.zeros(3, 2, 4, 4)], 1)
    elif kind == "b":
        straight = conv2d(shifted, block.get_parameter("shortcut.conv.weight"), stride=2)
    torch.testing.assert_close(block(x), leaky_relu(branch + straight, 0.01), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("family", "branches"), [("resnet", 12), ("vgg", 12)])
def test_convolutions_in_branches_are_hes_times_1_over_root_l(family: str, branches: int) -> None:
    model = build(family, blocks=branches // 3, filters=32)
    found = blocks_of(model)
    assert len(found) == branches
    gain = math.sqrt(2 / (1 + 0.01**2))
    for block in found:
        deviation = gain / math.sqrt(9 * block.conv1.in_channels) * branches**-0.5
        assert block.conv1.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert not block.conv2.weight.any()
        assert block.conv1.bias is block.conv2.bias is None
    entry = model.get_submodule("entry.conv")
    assert isinstance(entry, nn.Conv2d)
    assert entry.bias is None
    assert entry.weight.std().item() == pytest.approx(gain / math.sqrt(27), rel=0.1)


def test_layers_outside_of_branches_are_hes() -> None:
    reduction = build("vgg", filters=32).get_parameter("stage1.2.conv2.weight")
    assert reduction.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / 288), rel=0.05)
    projection = build("resnet", filters=32, shortcut="b").get_parameter("stage2.0.shortcut.conv.weight")
    assert projection.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / 32), rel=0.05)


def test_a_vgg_without_blocks_has_no_branch_to_scale() -> None:
    model = build("vgg", blocks=0)
    assert blocks_of(model) == []
    assert torch.equal(model(batch()[0]), torch.zeros(8, 10))


@pytest.mark.parametrize("family", ["vgg", "resnet"])
def test_scalars_are_a_number_each_and_kinds_of_their_own(family: str) -> None:
    model = build(family)
    scalars = {n: p for n, p in model.named_parameters() if p.dim() == 0}
    # Four biases and a multiplier for each of 6 branches, one bias before the entry's activation, one before
    # the linear layer.
    assert len(scalars) == 6 * 5 + 2
    kinds = [
        parameter_kind(module, name, parameter.shape)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, ScalarBias | ScalarMultiplier)
    ]
    assert (kinds.count("bias"), kinds.count("norm"), len(kinds)) == (26, 6, 32)
    assert all(p.item() == ("multiplier" in n) for n, p in scalars.items())


def change(blocks: int, init: str, eta: float, steps: int) -> float:
    """The largest change of a logit by some steps of SGD, over η."""
    model, (x, y) = build("resnet", blocks, init, filters=8).double(), batch(torch.float64)
    before = model(x).detach()
    for _ in range(steps):
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= eta * parameter.grad
    return (model(x) - before).abs().max().item() / eta


def test_a_steps_change_of_the_logits_is_of_order_eta_at_any_depth() -> None:
    """Zhang et al. (2019), §3: for 3 and 27 branches, by one step and by several, which move all layers."""
    for steps in (1, 5):
        shallow, deep = (change(blocks, "fixup", 1e-3, steps) for blocks in (1, 9))
        assert 0.5 < deep / shallow < 2
        assert change(9, "fixup", 1e-4, steps) == pytest.approx(deep, rel=0.1)  # of order η
    assert change(9, "he", 1e-12, 1) > 1e3 * change(1, "he", 1e-12, 1)
