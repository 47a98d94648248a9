"""Residual blocks and stochastic depth against their equations, ResNets against their published sizes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu

from gradscape.nets import Layers, resnet, vgg
from gradscape.nets.blocks import ConvBlock, ReductionBlock
from gradscape.nets.fixup import FixupBlock
from gradscape.nets.residual import ResidualBlock, StochasticDepth, survival_probabilities


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """BatchNorm of a mini-batch, written out."""
    centered = x - x.mean((0, 2, 3), keepdim=True)
    unit = centered / (centered.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    weight, bias = norm.get_parameter("weight"), norm.get_parameter("bias")
    return unit * weight[:, None, None] + bias[:, None, None]


def shaken(model: nn.Module) -> nn.Module:
    """In float64, no parameter at its initial value."""
    model = model.double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# Depth, and the parameters that He et al. (2016) give in millions, Table 6.
@pytest.mark.parametrize(
    ("depth", "millions", "parameters"),
    [
        (20, 0.27, 269_722), (32, 0.46, 464_154), (44, 0.66, 658_586), (56, 0.85, 853_018),
        (110, 1.7, 1_727_962),
    ],
)  # fmt: skip
@pytest.mark.parametrize("skips", [True, False])
def test_parameters_are_the_papers_with_or_without_skips(
    depth: int, millions: float, parameters: int, skips: bool
) -> None:
    model = resnet(blocks=(depth - 2) // 6, classes=10, seed=0, skips=skips)
    assert count(model) == parameters
    assert parameters / 1e6 == pytest.approx(millions, abs=0.05 if millions == 1.7 else 0.005)
    weights = [p for p in model.parameters() if p.dim() > 1]
    assert len(weights) == depth


def test_projections_add_two_convolutions_and_their_norms() -> None:
    more = count(resnet(blocks=3, classes=10, seed=0, shortcut="b")) - 269_722
    assert more == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize("init", ["default", "fixup"])
@pytest.mark.parametrize("shortcut", ["a", "b"])
@pytest.mark.parametrize("skips", [True, False])
def test_registration_order_is_the_forward_order(skips: bool, shortcut: str, init: str) -> None:
    """Gradient-flow figures rely on it: layers in order on x."""
    norm = "batch" if init == "default" else "none"
    init = init if skips else "default"
    model = resnet(
        blocks=2, classes=3, seed=0, filters=2, layers=Layers(norm=norm), skips=skips, shortcut=shortcut,
        init=init,
    )  # fmt: skip
    order: list[str] = []
    for name, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.zeros(2, 3, 8, 8))
    assert order == [n for n, m in model.named_modules() if list(m.parameters(recurse=False))]


@pytest.mark.parametrize(("norm", "biased"), [("none", 13), ("batch", 0)])
def test_convolutions_have_a_bias_where_no_norm_follows(norm: str, biased: int) -> None:
    model = resnet(blocks=2, classes=3, seed=0, layers=Layers(norm=norm))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(conv.bias is not None for conv in convs) == biased


@pytest.mark.parametrize("kind", ["identity", "a", "b"])
def test_a_block_is_equations_1_and_2(kind: str) -> None:
    inputs, stride = (4, 1) if kind == "identity" else (2, 2)
    block = shaken(ResidualBlock(inputs, 4, Layers(norm="batch"), False, stride, kind))
    x = images(3, inputs, 8, 8)
    given = x.clone()
    inner = leaky_relu(
        normed(conv2d(x, block.get_parameter("conv1.weight"), stride=stride, padding=1), block.norm1), 0.01
    )
    branch = normed(conv2d(inner, block.get_parameter("conv2.weight"), padding=1), block.norm2)
    if kind == "identity":
        straight = x
    elif kind == "a":
        straight = torch.zeros(3, 4, 4, 4, dtype=torch.float64)
        straight[:, :2] = x[:, :, ::2, ::2]
    else:
        weight = block.get_parameter("shortcut.conv.weight")
        picked = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x[:, :, ::2, ::2])
        straight = normed(picked, block.get_submodule("shortcut.norm"))
    torch.testing.assert_close(block(x), leaky_relu(branch + straight, 0.01), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, given)  # activations in place do not reach the shortcut's input


NARROW = """
import torch
from gradscape.nets.layers import Layers
from gradscape.nets.residual import ProjectionShortcut
torch.set_num_threads(2)
torch.manual_seed(0)
for _ in range(100):
    exact = ProjectionShortcut(4, 8, 2, Layers(norm="none"), bias=False).double()
    module = ProjectionShortcut(4, 8, 2, Layers(norm="none"), bias=False)
    module = module.to(memory_format=torch.channels_last)
    module.load_state_dict(exact.state_dict())
    x = torch.randn(25, 4, 16, 16).contiguous(memory_format=torch.channels_last)
    module(x).square().sum().backward()
    exact(x.double()).square().sum().backward()
    torch.testing.assert_close(module.conv.weight.grad.double(), exact.conv.weight.grad, rtol=1e-4, atol=1e-4)
print("right")
"""


@pytest.mark.slow
def test_a_narrow_projection_neither_crashes_nor_errs() -> None:
    """With the stride in the convolution: `corrupted size vs. prev_size`, in torch 2.13 with two threads."""
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True, check=False)
    assert done.stdout == "right\n", done.stderr


@pytest.mark.parametrize("kind", ["identity", "a", "b"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_block_has_the_derivative_that_finite_differences_give(norm: str, kind: str) -> None:
    inputs, stride = (2, 1) if kind == "identity" else (1, 2)
    block = shaken(ResidualBlock(inputs, 2, Layers(norm=norm, activation="tanh"), False, stride, kind))
    assert torch.autograd.gradcheck(block, (images(2, inputs, 4, 4).requires_grad_(),))


def test_a_vggs_skips_are_identities_and_keep_names_and_weights() -> None:
    options: dict[str, Any] = {"blocks": 2, "classes": 5, "image_size": 16, "seed": 3, "filters": 4}
    plain, skips = vgg(**options), vgg(**options, skip=True)
    for (name, weight), (other, same) in zip(plain.named_parameters(), skips.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(weight, same)
    kinds = [[type(block) for block in skips.get_submodule(f"stage{s}").children()] for s in (1, 2, 3)]
    assert kinds == [[ResidualBlock, ResidualBlock, ReductionBlock]] * 3


def test_a_vggs_stage_with_skips_written_out() -> None:
    """Blocks add their input, the reduction block does not."""
    model = shaken(vgg(blocks=1, classes=5, image_size=8, seed=0, filters=3, stages=1, skip=True))
    x, act = images(2, 3, 8, 8), lambda x: leaky_relu(x, 0.01)

    def conv(x: Tensor, name: str) -> Tensor:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        return conv2d(x, layer.weight, layer.bias, padding=1)

    x0 = act(conv(x, "entry.conv"))
    inner = act(normed(conv(x0, "stage1.0.conv1"), model.get_submodule("stage1.0.norm1")))
    x1 = act(x0 + normed(conv(inner, "stage1.0.conv2"), model.get_submodule("stage1.0.norm2")))
    x2 = act(conv(avg_pool2d(act(conv(x1, "stage1.1.conv1")), 2), "stage1.1.conv2"))
    logits = x2.mean((2, 3)) @ model.get_parameter("linear.weight").T + model.get_parameter("linear.bias")
    torch.testing.assert_close(model(x), logits, rtol=1e-12, atol=1e-12)


def test_skips_keep_gradients_of_a_deep_vgg_alive() -> None:
    """No norm, default weights: with skips the first convolution's is about 1e-6, without about 1e-19."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, 32, 32, generator=generator), torch.arange(20)
    found = {}
    for skip in (True, False):
        model = vgg(blocks=5, classes=100, image_size=32, seed=0, layers=Layers(norm="none"), skip=skip)
        nn.functional.cross_entropy(model(x), y).backward()
        convs = [
            p.grad.abs().mean().item() for p in model.parameters() if p.dim() == 4 and p.grad is not None
        ]
        found[skip] = convs[0], convs[-1]
    assert 1e-7 < found[True][0] < 1e-5
    assert 1e-5 < found[True][1] < 1e-3
    assert found[False][0] < 1e-15


def test_survival_falls_linearly_to_that_of_the_last_block() -> None:
    """Equation 4; the ResNet-110 of the paper has 54 blocks."""
    found = survival_probabilities(54, 0.5)
    assert found == [1 - block / 54 * (1 - 0.5) for block in range(1, 55)]
    assert (found[26], found[-1]) == (0.75, 0.5)
    models = [
        resnet(blocks=2, classes=3, seed=0, stochastic_depth=0.6),
        vgg(blocks=2, classes=3, image_size=8, seed=0, skip=True, stochastic_depth=0.6),
    ]
    for model in models:
        depths = [m.survival for m in model.modules() if isinstance(m, StochasticDepth)]
        assert depths == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    kept = resnet(blocks=2, classes=3, seed=0)
    assert not any(isinstance(m, StochasticDepth) for m in kept.modules())


def test_stochastic_depth_keeps_or_skips_a_whole_mini_batch() -> None:
    """Equation 2 in training, and 5 in eval mode."""
    depth, x = StochasticDepth(0.3), images(4, 2, 3, 3)
    torch.manual_seed(0)
    kept = 0
    for _ in range(2_000):
        out = depth(x)
        assert torch.equal(out, x) or torch.equal(out, torch.zeros_like(x))
        kept += bool(out.any())
    assert kept / 2_000 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 2_000) ** 0.5)  # four sigmas
    assert torch.equal(depth.eval()(x), 0.3 * x)


def test_a_skipped_branch_has_exact_zeros_for_gradients_and_the_block_passes_its_input_on() -> None:
    block = ResidualBlock(3, 3, Layers(norm="batch", activation="relu"), False, survival=0.0)
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    out = block(x)
    assert torch.equal(out, x)
    out.sum().backward()
    for parameter in block.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


@settings(deadline=None, max_examples=40)
@given(
    family=st.sampled_from(["resnet", "plain", "vgg", "vgg with skips"]),
    blocks=st.integers(1, 2),
    stages=st.integers(1, 3),
    filters=st.integers(1, 4),
    norm=st.sampled_from(["none", "batch", "algorithm1"]),
    activation=st.sampled_from(["leaky_relu", "relu", "tanh"]),
    shortcut=st.sampled_from(["a", "b"]),
    share=st.sampled_from([0.0, 0.5]),
    init=st.sampled_from(["default", "he", "glorot", "fixup"]),
)
def test_any_member_of_the_families_gives_logits(
    family: str, blocks: int, stages: int, filters: int, norm: str, activation: str, shortcut: str,
    share: float, init: str,
) -> None:  # fmt: skip
    residual = family in ("resnet", "vgg with skips")
    if init == "fixup":
        norm, init = ("none", "fixup") if residual else (norm, "default")
    options: dict[str, Any] = {
        "blocks": blocks, "stages": stages, "filters": filters, "classes": 7, "seed": 0, "init": init,
        "layers": Layers(norm=norm, activation=activation),
        "stochastic_depth": share if residual else 0.0,
    }  # fmt: skip
    if family in ("resnet", "plain"):
        model: nn.Module = resnet(**options, skips=residual, shortcut=shortcut)
    else:
        model = vgg(**options, image_size=16, skip=residual)
    out = model(torch.randn(3, 3, 16, 16))
    assert out.shape == (3, 7)
    assert out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    blocks_made = [m for m in model.modules() if isinstance(m, ResidualBlock | FixupBlock)]
    assert len(blocks_made) == (blocks * stages if residual else 0)
    assert residual or any(isinstance(m, ConvBlock) for m in model.modules())


def test_weights_come_from_the_seed_alone_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (resnet(blocks=1, classes=3, seed=0, init="he") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    other = resnet(blocks=1, classes=3, seed=1, init="he")
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
