"""Remedies have the properties that their papers give them; the model they are tried on stays as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradscape.measure.check.remedies import REMEDIES, Applied
from gradscape.nets import Layers, vgg

IMAGES = torch.randn(16, 3, 8, 8)


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.Tanh(), nn.Conv2d(64, 64, 3, padding=1), nn.Sigmoid(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Linear(64, 10),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(24, 32, 2, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


class Branches(nn.Module):
    """Python branches on a value: torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.one(x)
        return self.two(out if out.sum() > 0 else -out)


def applied(name: str, model: nn.Module, batch: Any, **options: Any) -> Applied:
    found = REMEDIES[name](model, batch, **options)
    assert isinstance(found, Applied), found
    return found


def refusal(name: str, model: nn.Module, batch: Any, **options: Any) -> str:
    found = REMEDIES[name](model, batch, **options)
    assert isinstance(found, str)
    assert "\n" not in found
    return found


def layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def fans(weight: Tensor) -> tuple[int, int]:
    return weight[0].numel(), weight.shape[0] * weight[0, 0].numel()


@pytest.mark.parametrize("name", REMEDIES)
def test_the_original_is_bitwise_as_it_was(name: str) -> None:
    model = convnet()
    model.insert(1, nn.BatchNorm2d(64))
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[1].eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    told, grad, modes = repr(model), model[0].weight.grad, [m.training for m in model.modules()]
    found = applied(name, model, (IMAGES, None))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert repr(model) == told
    assert model[0].weight.grad is grad
    assert [m.training for m in model.modules()] == modes
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in found.model.parameters()}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in found.model.modules())
    assert found.model.training
    assert found.model(IMAGES).shape == (16, 10)
    assert str(found) == found.what


@pytest.mark.parametrize("name", ["he", "glorot", "orthogonal", "lsuv"])
def test_a_seed_decides_what_is_drawn(name: str) -> None:
    one, same, other = (applied(name, convnet(), IMAGES, seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(layers(one)[1].weight, layers(same)[1].weight)
    assert not torch.equal(layers(one)[1].weight, layers(other)[1].weight)
    assert all(not layer.bias.any() for layer in layers(one))


def test_he_and_glorot_have_the_variance_of_their_papers() -> None:
    leaky = convnet()
    leaky[1] = nn.LeakyReLU(0.5)
    for name, model, variance in (
        ("he", convnet(), lambda i, o: 2 / i),
        ("he", leaky, lambda i, o: 2 / (1.25 * i)),
        ("glorot", convnet(), lambda i, o: 2 / (i + o)),
    ):
        found = applied(name, model, IMAGES)
        for layer in layers(found.model):
            expected = variance(*fans(layer.weight))
            slack = 6 * math.sqrt(2 / layer.weight.numel())  # six standard errors of a normal's variance
            assert float(layer.weight.detach().var()) == pytest.approx(expected, rel=slack)
        if name == "glorot":
            assert float(layers(found.model)[1].weight.detach().abs().max()) <= math.sqrt(6 / (2 * 576))
    assert "of 4 layers, biases 0" in found.what


def test_orthogonal_weights_are_orthogonal() -> None:
    for layer in layers(applied("orthogonal", convnet().double(), IMAGES.double()).model):
        matrix = layer.weight.flatten(1)
        small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        assert torch.allclose(small, torch.eye(len(small)).double(), atol=1e-10)


def test_gates_and_projections_are_drawn_each_for_itself() -> None:
    rnn = applied("orthogonal", Recurrent(), torch.randn(8, 5, 24)).model.rnn
    for weight in (rnn.weight_hh_l0, rnn.weight_ih_l1):
        for gate in weight.chunk(4):
            assert torch.allclose(gate @ gate.T, torch.eye(32), atol=1e-5)
    assert not rnn.bias_ih_l0.any()
    attention = applied("orthogonal", Attentive(), torch.randn(8, 5, 32)).model.attention
    for projection in (*attention.in_proj_weight.chunk(3), attention.out_proj.weight):
        assert torch.allclose(projection @ projection.T, torch.eye(32), atol=1e-5)


def test_lsuv_gives_every_layer_an_output_of_variance_1() -> None:
    model, x = convnet().double(), IMAGES.double()
    found = applied("lsuv", model, (x, None))
    assert found.what == "LSUV: orthogonal, then 4 layers' outputs of variance 1"
    seen: list[float] = []
    for layer in layers(found.model):
        layer.register_forward_hook(lambda _m, _i, out: seen.append(float(out.detach().var())))
    found.model(x)
    assert seen == pytest.approx([1] * 4, rel=1e-9)


def test_lsuv_keeps_running_statistics_and_tells_of_outputs_that_do_not_vary() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Threshold(1e9, 0.0), nn.Linear(6, 3))
    found = applied("lsuv", model, torch.randn(9, 6))
    assert "1 layers' outputs of variance 1; left as drawn, its output does not vary: 3" in found.what
    assert not found.model[1].running_mean.any()
    assert found.model[1].num_batches_tracked == 0
    assert "no convolution or linear layer's output varies" in refusal("lsuv", model, torch.zeros(9, 6))


def test_norms_stand_after_each_layer_but_the_last() -> None:
    model = convnet()
    found = applied("norm", model, IMAGES)
    assert found.what == "BatchNorm2d after 2 layers and LayerNorm after 1 layer, the last left as it was"
    changed = found.model
    conv = model[0](IMAGES)
    expected = (conv - conv.mean((0, 2, 3), True)) / (conv.var((0, 2, 3), False, True) + 1e-5).sqrt()
    assert torch.allclose(changed[0](IMAGES), expected, atol=1e-5)
    assert changed[0].weight.shape == model[0].weight.shape  # the layer's own attributes are there
    assert isinstance(changed[8], nn.Linear)
    again = refusal("norm", changed, IMAGES)
    assert again == "norm: no convolution or linear layer but the last is without a norm after it"
    assert "no convolution or linear layer" in refusal("norm", nn.Linear(3, 3), torch.randn(4, 3))


def test_norms_can_be_put_into_networks_that_read_their_layers_attributes() -> None:
    model = vgg(blocks=1, classes=4, image_size=8, seed=0, filters=4, layers=Layers(norm="none"))
    found = applied("norm", model, IMAGES)
    assert found.what.startswith("BatchNorm2d after 13 layers")
    assert found.model(IMAGES).shape == (16, 4)
    assert copy.deepcopy(found.model)(IMAGES).shape == (16, 4)


def test_a_shared_layer_is_changed_under_each_of_its_names() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2))
    changed = applied("norm", model, torch.randn(9, 6)).model
    assert changed[0] is changed[2]
    assert isinstance(changed[0].norm, nn.LayerNorm)


def test_a_skip_gives_x_plus_f_of_x() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(inplace=True),
        nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8),
    ).double()  # fmt: skip
    x = torch.randn(9, 6).double()
    found = applied("skip", model, x)
    assert found.what == "a skip around 2 weight layers with their activation, by torch.fx"
    hidden = model[:2](x)
    hidden = hidden + model[2:5](hidden)
    hidden = hidden + model[5:7](hidden)
    assert torch.equal(found.model(x), model[7](hidden))


def test_a_skip_goes_around_functions_too_and_takes_arguments_by_name() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, values: Tensor, scale: float = 2.0) -> Tensor:
            return self.two(torch.relu(self.one(values)) * scale)

    model, x = Functional(), torch.randn(9, 6)
    found = applied("skip", model, {"values": x}).model
    assert torch.allclose(found(x), model.two(2 * (x + torch.relu(model.one(x)))))


def test_where_tracing_fails_a_skip_goes_around_modules_and_it_is_said() -> None:
    model = vgg(blocks=2, classes=4, image_size=8, seed=0, filters=4, layers=Layers(norm="none", slope=0.5))
    found = applied("skip", model, IMAGES)
    assert found.what.startswith("a skip around 6 modules that keep their shape; torch.fx cannot trace VGG: ")
    x = torch.randn(2, 4, 8, 8)
    block = model.stage1[0]
    assert torch.allclose(found.model.stage1[0](x), x + block(x))


def test_skips_that_cannot_be_are_refused_in_words() -> None:
    told = refusal("skip", Branches(), torch.randn(4, 6))
    assert told.startswith("skip: torch.fx cannot trace Branches: TraceError: symbolically traced variables")
    assert told.endswith("none of its modules is a block that keeps shape")
    narrow = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    assert "no weight layer with an activation keeps the shape" in refusal("skip", narrow, torch.randn(4, 6))
    assert "layer 0 (Linear) was given" in refusal("skip", narrow, torch.randn(4, 7))


def test_running_statistics_are_kept_while_shapes_are_found() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    for name in ("skip", "lsuv", "activation tanh"):
        found = applied(name, model, 3 + torch.randn(9, 6)).model
        norms = [m for m in found.modules() if isinstance(m, nn.BatchNorm1d)]
        assert not norms[0].running_mean.any()


def test_activations_are_exchanged() -> None:
    found = applied("activation relu", convnet(), IMAGES)
    assert found.what == "ReLU in the place of 2 × Tanh, Sigmoid"
    kinds = [type(m) for m in found.model if type(m) in (nn.ReLU, nn.Tanh, nn.Sigmoid)]
    assert kinds == [nn.ReLU] * 3
    assert refusal("activation relu", found.model, IMAGES) == "activation: every one is ReLU already"
    assert "functions called in forward cannot be exchanged" in refusal(
        "activation relu", Branches(), torch.randn(4, 6)
    )
    told = refusal("activation relu", convnet(), IMAGES, to="sine")
    assert told == "activation: 'sine' is not known; give one of relu, leaky_relu, elu, gelu, tanh"


class NotCopied(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("holds a file\nopen")


class Itself(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return self


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.parametrize(
    ("make", "reason"), [(NotCopied, "RuntimeError: holds a file"), (Itself, "its copy shares its weights")]
)
def test_a_model_that_cannot_be_copied_is_refused_in_words(
    name: str, make: Callable[[int, int], nn.Module], reason: str
) -> None:
    told = refusal(name, make(3, 3), torch.randn(4, 3))
    assert told == f"{make.__name__} cannot be copied: {reason}"


def test_what_has_nothing_to_draw_is_refused_and_parametrised_weights_are_left() -> None:
    for name in ("he", "glorot", "orthogonal", "lsuv"):
        told = refusal(name, nn.BatchNorm1d(3), torch.randn(4, 3))
        assert told == "BatchNorm1d has no convolution, linear or recurrent layer to initialize"
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    found = applied("he", model, torch.randn(4, 3))
    assert torch.equal(found.model[0].weight, model[0].weight)
    assert "1 parametrized ones left as they were" in found.what


def test_lsuv_scales_weight_normalised_layers_by_their_gain_and_leaves_other_parametrisations() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 6).double()
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
        nn.utils.parametrizations.spectral_norm(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))),
        nn.Linear(6, 2),
    ).double()
    found = applied("lsuv", model, x)
    assert "then 2 layers' outputs of variance 1" in found.what
    scaled, other, chain, _ = found.model
    assert float(scaled(x).detach().var()) == pytest.approx(1, rel=1e-9)  # bias included
    ours, theirs = scaled.parametrizations.weight, model[0].parametrizations.weight
    assert torch.equal(ours.original1, theirs.original1)  # v
    ratio = ours.original0 / theirs.original0  # of the gains g
    assert torch.allclose(ratio, ratio[0])
    assert torch.allclose(scaled.bias, ratio[0] * model[0].bias)
    for ours, theirs in ((other, model[1]), (chain, model[2])):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


class Mapped(nn.Module):
    """Its layers run within vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.vmap(self.only)(x)
        return out


def test_lsuv_within_vmap_blames_vmap_not_the_batch() -> None:
    assert REMEDIES["lsuv"](Mapped(), torch.randn(5, 3)) == (
        "lsuv: layer only runs within vmap or another transform, which hides its output"
    )


class NormThatActivates(nn.BatchNorm2d):
    """A norm that calls its activation, as timm's BatchNormAct2d does."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


def test_a_convolution_before_a_norm_that_activates_gets_no_second_norm() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), NormThatActivates(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )
    found = REMEDIES["norm"](model, IMAGES)
    assert found.what == "BatchNorm2d after 1 layer, the last left as it was"
