"""Initial weights obey the equations of their papers, and the signal goes through depth as these say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.nn.utils.parametrizations import weight_norm

from gradscape.nets.activations import GAINS
from gradscape.nets.initialization import DRAWS, initialize

INITS = [*DRAWS]


def redrawn(module: nn.Module, init: str, activation: str = "relu", slope: float = 0.01) -> Any:
    torch.manual_seed(0)
    module = module.double()
    initialize(module, init, activation, slope)
    return module


def weight_of(module: nn.Module, *how: Any) -> Tensor:
    weight: Tensor = redrawn(module, *how).weight.detach()
    return weight


def gram(matrix: Tensor) -> Tensor:
    """Of the smaller side."""
    return matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix


def close(found: Tensor, wanted: Tensor | float) -> bool:
    return bool(torch.allclose(found, torch.as_tensor(wanted, dtype=found.dtype), atol=1e-10))


@pytest.mark.parametrize("activation", GAINS)
def test_he_is_normal_with_variance_gain_squared_over_fan_in(activation: str) -> None:
    weight = weight_of(nn.Conv2d(64, 128, 3), "he", activation, 0.2)
    variance = GAINS[activation](0.2) ** 2 / (64 * 9)
    count = weight.numel()
    assert float(weight.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    assert float((weight**4).mean()) == pytest.approx(3 * variance**2, rel=5 * math.sqrt(32 / 3 / count))
    assert float(weight.mean()) == pytest.approx(0, abs=5 * math.sqrt(variance / count))


def test_he_with_selu_is_lecun_normal() -> None:
    weight = weight_of(nn.Linear(400, 300), "he", "selu")
    assert float(weight.var()) == pytest.approx(1 / 400, rel=5 * math.sqrt(2 / weight.numel()))


@pytest.mark.parametrize("slope", [0.01, 0.5])
def test_he_of_leaky_relu_is_bitwise_torchs(slope: float) -> None:
    """Runs that were made when it was torch's stay the same."""
    theirs = nn.Conv2d(3, 8, 3).double()
    torch.manual_seed(1)
    torch.nn.init.kaiming_normal_(theirs.weight, a=slope, nonlinearity="leaky_relu")
    ours = nn.Conv2d(3, 8, 3).double()
    torch.manual_seed(1)
    initialize(ours, "he", "leaky_relu", slope)
    assert torch.equal(ours.weight, theirs.weight)


def test_glorot_is_uniform_with_variance_2_over_both_fans() -> None:
    weight = weight_of(nn.Conv2d(48, 96, 3), "glorot", "tanh")
    bound = math.sqrt(6 / (9 * (48 + 96)))
    assert 0.999 * bound < float(weight.abs().max()) <= bound
    assert float(weight.var()) == pytest.approx(2 / (9 * (48 + 96)), rel=5 * math.sqrt(0.8 / weight.numel()))


@pytest.mark.parametrize("activation", ["relu", "tanh", "selu"])
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 32, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(4, 9, 1), nn.Linear(5, 8), nn.Linear(8, 5)]
)
def test_orthogonal_kernels_as_matrices_are_orthogonal_times_gain(layer: nn.Module, activation: str) -> None:
    small = gram(weight_of(layer, "orthogonal", activation).flatten(1))
    assert close(small, GAINS[activation](0.01) ** 2 * torch.eye(len(small)))
    small = gram(weight_of(layer, "lsuv", activation).flatten(1))
    assert close(small, torch.eye(len(small)))


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(3, 8, 3), (6, 6, 3), (8, 3, 5), (4, 4, 1)])
def test_delta_orthogonal_kernels_are_zero_but_at_their_center(inputs: int, outputs: int, size: int) -> None:
    weight = weight_of(nn.Conv2d(inputs, outputs, size), "delta_orthogonal", "tanh")
    center = weight[:, :, size // 2, size // 2].clone()
    small = gram(center)
    assert close(small, GAINS["tanh"](0) ** 2 * torch.eye(len(small)))
    weight[:, :, size // 2, size // 2] = 0
    assert not weight.any()


def test_delta_orthogonal_convolutions_and_linear_layers_keep_norms() -> None:
    """Xiao et al. 2018: under circular padding the map of all pixels and channels is orthogonal."""
    conv = redrawn(nn.Conv2d(5, 7, 3, bias=False), "delta_orthogonal", "selu")
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64)
    out = conv2d(pad(x, (1, 1, 1, 1), mode="circular"), conv.weight)
    assert close(out.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    assert close(out.square().sum(1), x.square().sum(1))  # of every pixel, so that other padding does no harm
    linear = redrawn(nn.Linear(5, 7), "delta_orthogonal", "relu")
    assert close(linear(x[:, :, 0, 0]).square().sum(1), 2 * x[:, :, 0, 0].square().sum(1))


@pytest.mark.parametrize("init", INITS)
def test_biases_are_zeroed_and_other_layers_left(init: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4, bias=False))
    nn.init.constant_(model[1].bias, 3)
    redrawn(model, init)
    assert not model[0].bias.any()
    assert (model[1].bias == 3).all()
    assert (model[1].weight == 1).all()


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(3, 8, 3), lambda: nn.Linear(6, 5)])
def test_weight_normalized_layers_get_the_same_weights(init: str, layer: Any) -> None:
    plain, normed = redrawn(layer(), init), redrawn(weight_norm(layer()), init)
    assert close(normed.weight, plain.weight)
    g = normed.parametrizations.weight.original0
    assert close(g.flatten(), plain.weight.flatten(1).norm(dim=1))
    assert g.requires_grad
    assert not normed.bias.any()
    normed(torch.randn(2, 3, 6, 6).double()).sum().backward()
    assert g.grad is not None
    assert normed.parametrizations.weight.original1.grad is not None


def test_default_leaves_all_and_what_is_unknown_is_a_mistake_of_ours() -> None:
    layer = nn.Linear(3, 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    initialize(layer, "default", "relu", 0.0)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    with pytest.raises(
        AssertionError,
        match=r"^init: expected one of he, glorot, .*; got he2$",
    ):
        initialize(layer, "he2", "relu", 0.0)


def second_moments(init: str, activation: nn.Module, name: str, depth: int = 10) -> list[float]:
    """Of every layer's output before its activation, in a plain net without biases."""
    torch.manual_seed(0)
    width = 1_000
    layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
    initialize(layers, init, name, 0.0)
    found, x = [], torch.randn(64, width)
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            found.append(float(x.square().mean()))
            x = activation(x)
    return found


def test_the_signal_goes_through_depth_with_hes_weights_and_fades_with_torchs() -> None:
    """He et al. 2015, eq. 9: a layer multiplies the second moment by fan_in · Var[w] / 2: 1 or 1/6."""
    he = second_moments("he", nn.ReLU(), "relu")
    assert all(0.5 < later / he[0] < 2 for later in he)
    default = second_moments("default", nn.ReLU(), "relu")
    assert (default[-1] / default[0]) ** (1 / 9) == pytest.approx(1 / 6, rel=0.05)


def test_selu_with_hes_weights_keeps_unit_variance_through_depth() -> None:
    """Klambauer et al. 2017, §2: mean 0 and variance 1 are a fixed point, and it attracts."""
    assert second_moments("he", nn.SELU(), "selu", depth=20) == pytest.approx([1] * 20, rel=0.1)
