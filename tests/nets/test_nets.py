"""The VGG family: parameter counts of the paper's code, Algorithm 1 against torch, initializations."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.nets import Layers, vgg
from gradscape.nets.normalization import Algorithm1


def build(blocks: int = 5, **options: Any) -> nn.Module:
    kinds = {name: options.pop(name) for name in ("norm", "activation", "slope") if name in options}
    return vgg(blocks=blocks, classes=100, image_size=32, seed=0, layers=Layers(**kinds), **options)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"blocks": 0, "norm": "none", "entry_norm": True}, 59_716),
        ({"norm": "none", "entry_norm": True}, 336_196),
        ({"norm": "batch", "entry_norm": True}, 338_116),
        ({"norm": "batch", "norm_where": "everywhere"}, 338_500),
        ({"norm": "algorithm1", "norm_where": "everywhere"}, 338_500),
    ],
)
def test_parameters_are_the_course_codes(options: dict[str, Any], parameters: int) -> None:
    assert count(build(**options)) == parameters


def test_depth_counts_convolutions_and_the_linear_layer() -> None:
    kinds = [type(m) for m in build().modules()]
    assert kinds.count(nn.Conv2d) == 37
    assert kinds.count(nn.Linear) == 1
    assert kinds.count(nn.AvgPool2d) == 3


def test_registration_order_is_the_forward_order() -> None:
    """Gradient-flow figures rely on it: layers in order on x."""
    model, order = build(), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.zeros(1, 3, 32, 32))
    registered = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert order == registered


def test_biases_where_the_course_code_has_them_or_wherever_no_norm_follows() -> None:
    course = {n for n, _ in build(norm="batch").named_parameters() if "conv" in n and n.endswith("bias")}
    assert course == {f"stage{s}.5.conv{c}.bias" for s in (1, 2, 3) for c in (1, 2)}
    everywhere = {n for n, _ in build(norm="none", conv_bias="unnormalized").named_parameters()}
    assert sum("conv" in n and n.endswith("bias") for n in everywhere) == 37


@settings(deadline=None, max_examples=20)
@given(
    blocks=st.integers(0, 2),
    stages=st.integers(1, 3),
    filters=st.integers(1, 5),
    norm=st.sampled_from(["none", "batch", "algorithm1"]),
    head=st.sampled_from(["average", "flatten"]),
    activation=st.sampled_from(["leaky_relu", "relu", "tanh"]),
    init=st.sampled_from(["default", "he", "glorot"]),
)
def test_any_member_of_the_family_gives_logits(
    blocks: int, stages: int, filters: int, norm: str, head: str, activation: str, init: str
) -> None:
    model = vgg(
        blocks=blocks, stages=stages, filters=filters, layers=Layers(norm=norm, activation=activation),
        head=head, init=init, classes=7, image_size=16, seed=0,
    )  # fmt: skip
    out = model(torch.randn(3, 3, 16, 16))
    assert out.shape == (3, 7)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_weights_come_from_the_seed_alone_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = build(blocks=0), build(blocks=0)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    other = vgg(blocks=0, classes=100, image_size=32, seed=1)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("init", "deviation"),
    [("he", math.sqrt(2 / (1 + 0.01**2) / 288)), ("glorot", math.sqrt(2 / (288 + 288)))],
)
def test_initial_weights_have_the_variance_of_their_paper(init: str, deviation: float) -> None:
    weight = build(blocks=1, init=init).get_parameter("stage1.0.conv1.weight")
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)  # 9,216 draws: 3 % is four sigmas
    assert abs(weight.mean().item()) < 4 * deviation / math.sqrt(9_216)


def test_algorithm_1_is_torchs_batchnorm_forward_and_backward() -> None:
    torch.manual_seed(0)
    ours, theirs = Algorithm1(5).double(), nn.BatchNorm2d(5).double()
    with torch.no_grad():
        for parameter in ("weight", "bias"):
            getattr(ours, parameter).copy_(value := torch.randn(5, dtype=torch.float64))
            getattr(theirs, parameter).copy_(value)
    for _ in range(3):
        x = torch.randn(4, 5, 6, 7, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ya, yb = ours(a), theirs(b)
        seed = torch.randn_like(x)
        ya.backward(seed)
        yb.backward(seed)
        torch.testing.assert_close(ya, yb, rtol=0, atol=1e-6)
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-6)
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(ours, name).grad, getattr(theirs, name).grad, rtol=0, atol=1e-6)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-12)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


def test_algorithm_1_has_the_derivative_that_finite_differences_give() -> None:
    norm = Algorithm1(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.slow
def test_without_a_seed_a_network_is_a_factory_as_torchs_own_modules_are() -> None:
    make = partial(vgg, blocks=0, classes=10, image_size=8, filters=4)
    torch.manual_seed(3)
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[key], value) for key, value in make(seed=3).state_dict().items())
    assert not torch.equal(first["entry.conv.weight"], second["entry.conv.weight"])
    signal = gs.check(make, (torch.randn(4, 3, 8, 8), torch.arange(4)), cross_entropy, remedies=False).signal
    assert len(set(signal.loss.tolist())) == 3  # three seeds are three networks
