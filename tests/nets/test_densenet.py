"""DenseNets: the published sizes, their equations, gradients by finite differences, configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, leaky_relu, linear

from gradscape.config.run import DataConfig, NetConfig, RunConfig
from gradscape.nets import DenseNet, Layers, densenet
from gradscape.nets.densenet import DenseLayer, PreActivation
from gradscape.train.model import build_net

BC = {"bottleneck": True, "compression": 0.5}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def tiny(layers: Layers, **options: Any) -> DenseNet:
    sizes = {"blocks": 2, "stages": 2, "growth": 2, "filters": 4, "classes": 3, "seed": 0}
    return densenet(**{**sizes, **options}, layers=layers)


@pytest.mark.parametrize(
    ("options", "classes", "parameters"),
    [
        ({"blocks": 12}, 10, 1_019_722),  # L = 40, k = 12: 1.0 M in Table 2 of Huang et al. (2017)
        ({"blocks": 32}, 10, 6_979_642),  # L = 100, k = 12: 7.0 M
        ({"blocks": 16, "filters": 24, **BC}, 10, 769_162),  # DenseNet-BC, L = 100, k = 12: 0.8 M
        ({"blocks": 16, "filters": 24, **BC}, 100, 800_032),
    ],
)
def test_parameters_are_the_published(options: dict[str, Any], classes: int, parameters: int) -> None:
    assert count(densenet(**options, classes=classes, seed=0)) == parameters


@pytest.mark.parametrize(("family", "depth"), [("densenet", 40), ("densenet_bc", 100), ("densenet_bc", 40)])
def test_a_configuration_builds_the_network_that_it_counts(family: Any, depth: int) -> None:
    net = NetConfig(family=family, depth=depth)
    model = build_net(RunConfig(net=net))
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth
    for number, widths in enumerate(net.dense_stages, 1):
        stage = model.get_submodule(f"stage{number}")
        before = [layer.composite[0].conv.in_channels for layer in stage]
        assert (*before, normalised_after(model, number, net.stages)) == widths
    assert {m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == set(net.widths)


def normalised_after(model: nn.Module, number: int, stages: int) -> int:
    """Channels that leave a stage."""
    norm = model.get_submodule("norm" if number == stages else f"transition{number}.0.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    return norm.num_features


def test_compression_halves_the_channels_between_stages() -> None:
    model = densenet(blocks=3, classes=10, seed=0, growth=5, filters=10, **BC)
    shapes = [model.get_parameter(f"transition{n}.0.conv.weight").shape for n in (1, 2)]
    assert shapes == [(12, 25, 1, 1), (13, 27, 1, 1)]


def test_registration_order_is_the_forward_order() -> None:
    """Gradient-flow figures rely on it: layers in order on x."""
    model, order = densenet(blocks=2, classes=10, seed=0, filters=24, **BC), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.zeros(1, 3, 8, 8))
    assert order == [
        n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    ]


@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_forward_pass_is_the_papers(bottleneck: bool) -> None:
    """Written out: x_l = H_l([x_0, …, x_{l−1}]), equation (2), with a list of all that went before."""
    torch.manual_seed(0)
    model = tiny(Layers(), bottleneck=bottleneck, compression=0.5).double()
    of = dict(model.named_parameters())

    def preactivated(x: Tensor, name: str, padding: int) -> Tensor:
        normed = batch_norm(x, None, None, of[f"{name}.norm.weight"], of[f"{name}.norm.bias"], True)
        return conv2d(leaky_relu(normed, 0.01), of[f"{name}.conv.weight"], padding=padding)

    def stage(x: Tensor, number: int) -> Tensor:
        xs = [x]
        for layer in range(2):
            name, new = f"stage{number}.{layer}.composite", torch.cat(xs, 1)
            if bottleneck:
                new = preactivated(new, f"{name}.0", 0)
            xs.append(preactivated(new, f"{name}.{int(bottleneck)}", 1))
        return torch.cat(xs, 1)

    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    x = stage(conv2d(images, of["entry.weight"], padding=1), 1)
    x = stage(avg_pool2d(preactivated(x, "transition1.0", 0), 2), 2)
    normed = batch_norm(x, None, None, of["norm.weight"], of["norm.bias"], True)
    expected = linear(leaky_relu(normed, 0.01).mean((2, 3)), of["linear.weight"], of["linear.bias"])
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "batch", "weight", "renorm", "group"])
@pytest.mark.parametrize("activation", ["leaky_relu", "relu"])
def test_gradients_are_those_of_finite_differences(norm: str, activation: str) -> None:
    """An activation in place where features are shared would overwrite them: values and gradients tell."""
    torch.manual_seed(1)
    layers = Layers(norm=norm, groups=2, activation=activation, slope=0.2)
    model = tiny(layers, blocks=2, stages=1, bottleneck=True).double()
    x = torch.randn(3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*model.named_parameters(), strict=True)
    buffers = {name: b.clone() for name, b in model.named_buffers()}

    def output(x: Tensor, *values: Tensor) -> Tensor:
        held = dict(zip(names, values, strict=True)) | {n: b.clone() for n, b in buffers.items()}
        found: Tensor = torch.func.functional_call(model, held, (x,))
        return found

    assert torch.autograd.gradcheck(output, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("norm", ["none", "weight"])
def test_features_that_later_layers_see_are_not_overwritten(norm: str) -> None:
    layer = DenseLayer(4, 2, Layers(norm=norm, activation="relu"), bottleneck=True)
    x = torch.randn(2, 4, 3, 3)
    before = x.clone()
    out = layer(x)
    assert torch.equal(x, before)
    assert torch.equal(out[:, :4], before)


def test_biases_only_where_no_norm_shifts() -> None:
    for norm, biases in {"none": 6, "weight": 6, "batch": 0, "layer": 0}.items():
        modules = tiny(Layers(norm=norm)).modules()
        convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 6
        assert sum(m.bias is not None for m in convolutions) == biases


def test_dropout_after_every_convolution_but_the_first() -> None:
    model = tiny(Layers(dropout=0.2), **BC)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    drops = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(drops) == len(convolutions) - 1
    assert {m.p for m in drops} == {0.2}
    part = PreActivation(3, 4, 1, Layers(norm="none", dropout=0.5))
    x = torch.randn(2, 3, 4, 4)
    torch.manual_seed(0)
    dropped = part(x)
    kept = dropped != 0
    assert 0 < int(kept.sum()) < kept.numel()
    torch.testing.assert_close(dropped[kept], 2 * part.eval()(x)[kept])


@settings(deadline=None, max_examples=15)
@given(
    blocks=st.integers(1, 3),
    stages=st.integers(1, 3),
    growth=st.integers(1, 4),
    bottleneck=st.booleans(),
    norm=st.sampled_from(["none", "batch", "algorithm1", "renorm", "layer", "instance", "weight"]),
    init=st.sampled_from(["default", "he", "glorot"]),
)
def test_any_member_of_the_family_gives_logits(
    blocks: int, stages: int, growth: int, bottleneck: bool, norm: str, init: str
) -> None:
    model = densenet(
        blocks=blocks, stages=stages, growth=growth, filters=4, bottleneck=bottleneck, compression=0.5,
        layers=Layers(norm=norm), init=init, classes=7, seed=0,
    )  # fmt: skip
    out = model(torch.randn(3, 3, 8, 8))
    assert out.shape == (3, 7)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = tiny(Layers()), tiny(Layers()), tiny(Layers(), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.entry.weight, other.entry.weight)


def test_a_run_tells_its_layers_how_many_steps_it_has() -> None:
    net = NetConfig(family="densenet", depth=7, norm="renorm")
    config = RunConfig(net=net, data=DataConfig(train=250), epochs=3, batch_size=100)
    model = build_net(config)
    assert {m.steps for m in model.modules() if type(m).__name__ == "BatchRenorm2d"} == {9}
