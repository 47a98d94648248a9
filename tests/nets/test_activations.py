"""Activations have the gains of their definition and right gradients; dropout keeps what its papers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from gradscape.nets import Layers, vgg
from gradscape.nets.activations import ACTIVATIONS, GAINS
from gradscape.nets.blocks import ConvBlock, ReductionBlock
from products import each_once

SLOPES = {"leaky_relu": (0.01, 0.3, 0.9)}
CASES = [(name, slope) for name in ACTIVATIONS for slope in SLOPES.get(name, (0.01,))]
DRAWS = 1_000_000


def second_moment(activation: nn.Module) -> float:
    """E[φ(z)²], z standard normal, by Gauss-Legendre quadrature on both sides of the kink."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z = torch.from_numpy(7 * (nodes + 1))  # 0 … 14; beyond lies 1e-44 of the normal distribution
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * torch.from_numpy(7 * weights)
    return sum(float((activation(side.clone()).square() * density).sum()) for side in (z, -z))


@pytest.mark.parametrize(("name", "slope"), CASES)
def test_a_gain_is_one_over_the_root_of_the_second_moment(name: str, slope: float) -> None:
    assert GAINS[name](slope) == pytest.approx(second_moment(ACTIVATIONS[name](slope)) ** -0.5, abs=1e-6)


def test_gains_are_torchs_for_relu_and_leaky_relu_alone() -> None:
    assert GAINS.keys() == ACTIVATIONS.keys()
    assert GAINS["relu"](0.01) == torch.nn.init.calculate_gain("relu")
    assert GAINS["leaky_relu"](0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)
    theirs = {name: torch.nn.init.calculate_gain(name) for name in ("tanh", "sigmoid", "selu")}
    assert theirs == {"tanh": 5 / 3, "sigmoid": 1, "selu": 3 / 4}
    assert not any(math.isclose(GAINS[name](0), gain, rel_tol=0.01) for name, gain in theirs.items())


@each_once("case, norm, dropout", [*CASES, ("leaky_relu", 0.0)], ["none", "batch", "algorithm1"], [0.0, 0.5])
def test_gradients_after_a_convolution_or_a_norm_are_those_of_finite_differences(
    case: tuple[str, float], norm: str, dropout: float
) -> None:
    name, slope = case
    torch.manual_seed(0)
    layers = Layers(norm=norm, activation=name, slope=slope, dropout=dropout)
    block = nn.Sequential(
        layers.conv(2, 2, bias=True), layers.after_conv(2), layers.act(), layers.drop()
    ).double()

    def same_mask(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        out: torch.Tensor = block(x)
        return out

    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(same_mask, (x,))


def test_dropout_keeps_the_expectation_and_that_share() -> None:
    torch.manual_seed(0)
    drop, x = Layers(dropout=0.3).drop(), 2 + torch.randn(DRAWS)
    out = drop(x)
    error = 5 * math.sqrt((5 / 0.7 - 4) / DRAWS)  # five standard errors: E[out²] = E[x²] / 0.7
    assert float(out.mean()) == pytest.approx(2, abs=error)
    assert float((out == 0).double().mean()) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / DRAWS))
    assert torch.equal(drop.eval()(x), x)


def test_alpha_dropout_keeps_mean_and_variance_of_what_selu_gives() -> None:
    torch.manual_seed(0)
    layers = Layers(activation="selu", dropout=0.3)
    x = layers.act()(torch.randn(DRAWS, dtype=torch.float64))
    out = layers.drop()(x)
    for values in (x, out):
        assert float(values.mean()) == pytest.approx(0, abs=5 / math.sqrt(DRAWS))
        assert float(values.var()) == pytest.approx(1, abs=10 / math.sqrt(DRAWS))
    plain = Layers(dropout=0.3).drop()(x)
    assert float(plain.var()) == pytest.approx(1 / 0.7, abs=0.02)  # which dropout does not keep


@pytest.mark.parametrize("activation", ["leaky_relu", "selu"])
def test_a_vgg_drops_after_every_activation_of_its_blocks_and_keeps_its_names(activation: str) -> None:
    kind = Layers(activation=activation, dropout=0.5)
    shape = {"blocks": 1, "classes": 4, "image_size": 8, "seed": 0, "filters": 4}
    dropping, plain = vgg(**shape, layers=kind), vgg(**shape, layers=Layers(activation=activation))
    assert [name for name, _ in dropping.named_parameters()] == [name for name, _ in plain.named_parameters()]
    for name, value in plain.state_dict().items():
        assert torch.equal(dropping.state_dict()[name], value)
    order: list[str] = []
    for module in dropping.modules():
        if isinstance(module, (nn.Dropout, nn.AlphaDropout, nn.Conv2d, nn.AvgPool2d, type(kind.act()))):
            module.register_forward_hook(lambda module, *_: order.append(type(module).__name__))
    x = torch.randn(3, 3, 8, 8)
    dropping(x)
    act, drop = type(kind.act()).__name__, type(kind.drop()).__name__
    half = ["Conv2d", act, drop]
    assert order == half[:2] + (half + half + half + ["AvgPool2d"] + half) * 3
    plain.load_state_dict(dropping.state_dict())  # running statistics
    assert torch.equal(dropping.eval()(x), plain.eval()(x))
    blocks = [m for m in plain.modules() if isinstance(m, ConvBlock | ReductionBlock)]
    assert all(isinstance(drop, nn.Identity) for block in blocks for drop in (block.drop1, block.drop2))
