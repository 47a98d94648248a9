"""Normalisations against their papers' equations, written out in float64, and measured without a trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

import gradscape as gs
from gradscape.config.run import DataConfig, NetConfig, RunConfig
from gradscape.measure.core.layer_trace import layer_kind
from gradscape.measure.core.objective import Objective
from gradscape.measure.core.parameters import named
from gradscape.measure.landscape.directions import random_plane
from gradscape.measure.watch.epoch_recorder import FlowRecorder
from gradscape.nets import Layers, densenet, vgg
from gradscape.nets.normalization import NORMS, PAPER_STEPS, BatchRenorm2d, _per_channel
from gradscape.train.state import TrainState
from products import each_once

EPS = 1e-5
# Axes of (N, groups, channels of each, H, W) over which mean and variance are taken, and how many groups.
OVER = {"group": ((2, 3, 4), 3), "layer": ((2, 3, 4), 1), "instance": ((2, 3, 4), 6), "batch": ((0, 3, 4), 1)}


def drawn(module: nn.Module) -> nn.Module:
    """In float64, with parameters that are not those of the beginning."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    return module


def small(norm: str, family: str = "vgg", **options: Any) -> nn.Module:
    layers = Layers(norm=norm, groups=2, activation="tanh")
    if family == "vgg":
        return vgg(
            blocks=1, stages=2, filters=4, classes=3, image_size=8, seed=0, layers=layers,
            norm_where="everywhere", conv_bias="unnormalized", **options,
        )  # fmt: skip
    return densenet(
        blocks=1, stages=2, growth=2, filters=4, bottleneck=True, classes=3, seed=0, layers=layers, **options
    )


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 8, 8, generator=generator)
    return x, torch.randint(0, 3, (6,), generator=generator)


@pytest.mark.parametrize("norm", [*OVER, "algorithm1", "renorm"])
def test_a_norm_is_its_papers_equation(norm: str) -> None:
    """(x − μ)/√(σ² + ε), each over its own axes, times a gain and plus a bias of each channel."""
    torch.manual_seed(0)
    axes, groups = OVER.get(norm, OVER["batch"])
    made = drawn(NORMS[norm](6, 3, PAPER_STEPS))
    gain, bias = (made.get_parameter(name) for name in ("weight", "bias"))
    x = torch.randn(4, 6, 3, 5, dtype=torch.float64) * 3 + 2
    apart = x.reshape(4, groups, 6 // groups, 3, 5)
    mean = apart.mean(axes, keepdim=True)
    variance = (apart - mean).square().mean(axes, keepdim=True)
    expected = ((apart - mean) / (variance + EPS).sqrt()).reshape(x.shape)
    torch.testing.assert_close(made(x), _per_channel(gain) * expected + _per_channel(bias))


def test_group_normalisation_takes_its_groups_from_the_layers() -> None:
    made = Layers(norm="group", groups=4).after_conv(12)
    assert isinstance(made, nn.GroupNorm)
    assert (made.num_groups, made.num_channels) == (4, 12)


def test_batch_renormalisation_is_algorithm_1_line_by_line() -> None:
    """Ioffe (2017): r and d are constants to the gradient, which autograd takes here through other lines."""
    torch.manual_seed(0)
    made = drawn(BatchRenorm2d(3, steps=100, momentum=0.01))
    made.num_batches_tracked.fill_(16)  # of 100: step 20,800 of the paper's
    made.running_mean.copy_(torch.tensor([0.0, 2.0, -9.0]))
    made.running_deviation.copy_(torch.tensor([1.1, 9.0, 0.3]))
    r_max, d_max = 1 + 2 * 15_800 / 35_000, 5 * 15_800 / 20_000
    mu, sigma, count, alpha = made.running_mean.clone(), made.running_deviation.clone(), 16, 1 / 17
    for _ in range(2):
        x = (torch.randn(4, 3, 2, 3, dtype=torch.float64) + 1).requires_grad_()
        twin = x.detach().clone().requires_grad_()
        gamma, beta = (p.detach().clone().requires_grad_() for p in (made.weight, made.bias))
        columns = twin.transpose(0, 1).reshape(3, -1)  # a row of activations for each channel
        mu_b = columns.sum(1) / 24
        sigma_b = (EPS + ((columns - mu_b[:, None]) ** 2).sum(1) / 24) ** 0.5
        with torch.no_grad():
            r = torch.clip(sigma_b / sigma, 1 / r_max, r_max)
            d = torch.clip((mu_b - mu) / sigma, -d_max, d_max)
        normalized = (columns - mu_b[:, None]) / sigma_b[:, None] * r[:, None] + d[:, None]
        rows = gamma[:, None] * normalized + beta[:, None]
        expected = rows.reshape(3, 4, 2, 3).transpose(0, 1)
        seed = torch.randn_like(x)
        made.zero_grad()
        out = made(x)
        torch.testing.assert_close(out, expected)
        out.backward(seed)
        expected.backward(seed)
        for ours, theirs in ((x, twin), (made.weight, gamma), (made.bias, beta)):
            torch.testing.assert_close(ours.grad, theirs.grad)
        with torch.no_grad():
            mu, sigma = mu + alpha * (mu_b - mu), sigma + alpha * (sigma_b - sigma)
        torch.testing.assert_close(made.running_mean, mu)
        torch.testing.assert_close(made.running_deviation, sigma)
        count, alpha = count + 1, 1 / 18
        r_max, d_max = 1 + 2 * 17_100 / 35_000, 5 * 17_100 / 20_000
        assert int(made.num_batches_tracked) == count


def test_both_bounds_of_batch_renormalisation_clip() -> None:
    made = BatchRenorm2d(4, steps=PAPER_STEPS)
    made.num_batches_tracked.fill_(PAPER_STEPS)
    made.running_deviation.copy_(torch.tensor([1.0, 1.0, 10.0, 0.1]))
    r, d = made._corrections(torch.tensor([0.5, -9.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(r, torch.tensor([2.0, 1.0, 1 / 3, 3.0]))
    torch.testing.assert_close(d, torch.tensor([0.5, -5.0, 0.1, 5.0]))


@pytest.mark.parametrize(("steps", "alpha"), [(PAPER_STEPS, 0.01), (26_000, 0.05), (300, 0.1)])
def test_a_short_run_s_moving_averages_are_as_short_up_to_batchnorm_s(steps: int, alpha: float) -> None:
    assert BatchRenorm2d(3, steps=steps).momentum == pytest.approx(alpha)


def test_batch_renormalisation_begins_as_batchnorm() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchRenorm2d(3).double(), nn.BatchNorm2d(3).double()
    for _ in range(3):
        x = torch.randn(5, 3, 4, 4, dtype=torch.float64) * 2 + 1
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        seed = torch.randn_like(x)
        one, other = ours(a), theirs(b)
        one.backward(seed)
        other.backward(seed)
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(a.grad, b.grad)
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(ours, name).grad, getattr(theirs, name).grad)


def test_batch_renormalisation_evaluates_with_its_moving_averages() -> None:
    """At first plain means over all mini-batches, then with α = 0.01."""
    torch.manual_seed(0)
    made = drawn(BatchRenorm2d(2))
    batches = [torch.randn(4, 2, 3, 3, dtype=torch.float64) + k for k in range(3)]
    for x in batches:
        made(x)
    mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    deviation = torch.stack([(x.var((0, 2, 3), correction=0) + EPS).sqrt() for x in batches]).mean(0)
    x = batches[0]
    expected = _per_channel(made.weight) * (x - _per_channel(mean)) / _per_channel(deviation)
    torch.testing.assert_close(made.eval()(x), expected + _per_channel(made.bias))
    assert int(made.num_batches_tracked) == 3
    made.num_batches_tracked.fill_(1_000)
    made.train()(x)
    torch.testing.assert_close(made.running_mean, 0.99 * mean + 0.01 * x.mean((0, 2, 3)))


@pytest.mark.parametrize("steps", [PAPER_STEPS, 2 * PAPER_STEPS, 1_300])
@pytest.mark.parametrize(
    ("paper_step", "r_max", "d_max"),
    [
        (0, 1, 0), (5_000, 1, 0), (15_000, 1 + 2 / 3.5, 2.5), (25_000, 1 + 4 / 3.5, 5), (40_000, 3, 5),
        (130_000, 3, 5), (200_000, 3, 5),
    ],
)  # fmt: skip
def test_the_schedule_at_its_corners(steps: int, paper_step: int, r_max: float, d_max: float) -> None:
    made = BatchRenorm2d(1, steps)
    made.num_batches_tracked.fill_(round(paper_step * steps / PAPER_STEPS))
    found = made._bounds()
    assert [float(value) for value in found] == pytest.approx([r_max, d_max], rel=1e-6)


def test_in_mixed_precision_the_statistics_stay_float32() -> None:
    torch.manual_seed(0)
    low, high = BatchRenorm2d(3), BatchRenorm2d(3)
    x = (torch.randn(8, 3, 4, 4) + 5).bfloat16()
    out = low(x)
    assert out.dtype == torch.bfloat16
    high(x.float())
    assert low.running_mean.dtype == torch.float32
    assert torch.equal(low.running_mean, high.running_mean)
    assert torch.equal(low.running_deviation, high.running_deviation)


def test_weight_normalisation_is_equation_2_and_its_gradients_equation_3() -> None:
    """Salimans & Kingma (2016): ∇_g L = ∇_w L·v/‖v‖, ∇_v L = g/‖v‖ ∇_w L − g ∇_g L/‖v‖² v, of each filter."""
    torch.manual_seed(0)
    conv = Layers(norm="weight").conv(3, 4, bias=True)
    drawn(conv)
    parameters = dict(conv.named_parameters())
    g, v = (parameters[f"parametrizations.weight.original{k}"] for k in (0, 1))
    lengths = v.detach().flatten(1).norm(dim=1)[:, None, None, None]
    w = (g.detach() * v.detach() / lengths).requires_grad_()
    torch.testing.assert_close(conv.weight, w)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    conv(x).sin().sum().backward()
    conv2d(x, w, conv.bias.detach(), padding=1).sin().sum().backward()
    by_g = (w.grad * v / lengths).sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(g.grad, by_g)
    torch.testing.assert_close(v.grad, g / lengths * w.grad - g * by_g / lengths**2 * v)


@pytest.mark.parametrize("init", ["he", "glorot"])
def test_weight_normalized_layers_start_with_the_weights_of_their_initialization(init: str) -> None:
    drawn_plain, drawn_normed = small("none", init=init), small("weight", init=init)
    for one, other in zip(drawn_plain.modules(), own_modules(drawn_normed), strict=True):
        if isinstance(one, nn.Conv2d):
            torch.testing.assert_close(other.weight, one.weight)


def own_modules(model: nn.Module) -> list[nn.Module]:
    """The modules without those that parametrize added."""
    return [m for name, m in model.named_modules() if "parametrizations" not in name]


def test_in_a_vgg_weight_normalisation_is_of_the_blocks_that_have_it() -> None:
    model = vgg(blocks=1, classes=3, image_size=8, seed=0, filters=4, layers=Layers(norm="weight"))
    normed = {n.split(".parametrizations")[0] for n, _ in model.named_parameters() if n.endswith("original0")}
    assert normed == {f"stage{s}.0.conv{c}" for s in (1, 2, 3) for c in (1, 2)}


@pytest.mark.parametrize("norm", list(NORMS))
def test_copies_checkpoints_layouts_and_float64_work(norm: str, tmp_path: Path) -> None:
    x, y = batch()
    model = small(norm).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = small(norm)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    expected = model.eval()(x)
    for same in (copy.deepcopy(model), other.eval()):
        torch.testing.assert_close(same(x), expected)
    wide = copy.deepcopy(model).double()(x.double())
    torch.testing.assert_close(wide.float(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["renorm", "weight"])
def test_a_run_that_was_restored_goes_on_bit_for_bit(norm: Any) -> None:
    net = NetConfig(family="densenet_bc", depth=10, growth=2, stages=3, norm=norm)
    config = RunConfig(net=net, data=DataConfig(train=12), epochs=2, batch_size=6)
    state = TrainState(config, torch.device("cpu"))
    x, y = batch()

    def step(of: TrainState) -> None:
        of.optimizer.zero_grad()
        cross_entropy(of.model(x), y).backward()
        of.optimizer.step()

    step(state)
    kept, restored = state.checkpoint(), TrainState(config, torch.device("cpu"))
    restored.restore(kept)
    for each in (state, restored):
        step(each)
    for name, value in state.weights().items():
        assert np.array_equal(value, restored.weights()[name]), name


@each_once("norm, family", list(NORMS), ["vgg", "densenet"])
def test_second_derivatives_are_measured_and_leave_no_trace(norm: str, family: str) -> None:
    torch.manual_seed(0)
    model = small(norm, family)
    for _ in range(2):
        model(batch()[0])  # running statistics that are not those of the beginning
    before = {name: value.clone() for name, value in model.state_dict().items()}
    curved = gs.curvature(model, cross_entropy, batch(), k=1, bn="batch", trace_products=6, tolerance=0.5)
    assert curved.ends is not None
    assert curved.trace is not None
    assert np.isfinite([*curved.ends.largest, *curved.ends.smallest, curved.trace.value]).all()
    smooth = gs.smoothness(model, cross_entropy, batch(), lr=0.1)
    assert np.isfinite(smooth.along_gradient.beta).all()
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("norm", ["renorm", "weight", "instance", "group"])
def test_a_landscape_leaves_norms_alone_and_recalibrates(norm: str) -> None:
    model = small(norm)
    for bn in ("batch", "recalibrated"):
        record = gs.landscape(model, cross_entropy, batch(), dims=1, points=3, bn=bn)
        assert np.isfinite(record.loss).all()
    objective = Objective(model, cross_entropy, batch())
    plane = random_plane(objective, "filter", 1, torch.Generator().manual_seed(0), False)
    kinds = {name: kind for name, kind, _ in named(model)}
    moved = {n for n, d in zip(objective.names, plane.directions[0], strict=True) if d.any()}
    assert moved == {name for name, kind in kinds.items() if kind in ("conv", "linear")}


def test_recalibrated_batch_renormalisation_has_the_statistics_of_the_batches() -> None:
    """Over one batch evaluation is then as BatchNorm's in training on it: 3 steps of 130,000 are that."""
    model = small("renorm")
    model(batch()[0] * 7 + 3)
    losses = [
        gs.landscape(model, cross_entropy, batch(), dims=1, points=3, bn=bn).loss
        for bn in ("recalibrated", "batch")
    ]
    fresh = small("renorm")
    expected = gs.landscape(fresh, cross_entropy, batch(), dims=1, points=3, bn="batch").loss
    np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
    np.testing.assert_allclose(losses[1], expected, rtol=1e-5)


@pytest.mark.parametrize("family", ["vgg", "densenet"])
def test_kinds_of_weight_normalized_parameters_and_their_order(family: str) -> None:
    model, order = small("weight", family), []
    for name, module in convolutions(model):
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        assert layer_kind(module) == "conv", type(module).__name__
    model(batch()[0])
    recorder = FlowRecorder(model)
    kinds = list(zip(recorder.names, recorder.kinds, strict=True))
    assert [(n, k) for n, k, _ in named(model)] == kinds
    assert recorder.names == [name for name, _ in model.named_parameters()]
    of_kind = {k: [name for name, kind in kinds if kind == k] for k in KINDS}
    assert of_kind["conv"] == [f"{name}.parametrizations.weight.original1" for name in order]
    assert of_kind["norm"] == [f"{name}.parametrizations.weight.original0" for name in order]
    assert of_kind["bias"] == [*(f"{name}.bias" for name in order), "linear.bias"]
    assert of_kind["linear"] == ["linear.weight"]


KINDS = ("conv", "norm", "bias", "linear")


def convolutions(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]


def test_parameters_behind_other_parametrizations_are_of_their_owners_kind() -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2), name="bias", dim=0),
    )
    kinds = {name: kind for name, kind, _ in named(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))}
    assert kinds == {
        "bias": "bias",
        "parametrizations.weight.original0": "norm",
        "parametrizations.weight.original1": "linear",
    }
    kinds = {name: kind for name, kind, _ in named(model)}
    assert kinds["0.parametrizations.weight.original"] == "linear"
    assert kinds["1.parametrizations.bias.original1"] == "bias"


@pytest.mark.parametrize("norm", ["batch", "algorithm1", "renorm", "group", "layer", "instance"])
def test_a_norms_parameters_are_of_kind_norm(norm: str) -> None:
    kinds = {name: kind for name, kind, _ in named(small(norm))}
    assert {k for n, k in kinds.items() if "norm" in n} == {"norm"}
    assert layer_kind(NORMS[norm](4, 2, 100)) == "norm"
