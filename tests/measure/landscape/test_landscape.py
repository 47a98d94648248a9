"""Landscapes: exact on quadratics and lines, bitwise where the model is, honest about what is not known."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape._codec import decode
from gradscape.errors import ConfigError, StoreError
from gradscape.measure.core.preserve import random_positions
from gradscape.measure.curvature.curvature import Clock, curvature
from gradscape.measure.landscape.landscape import landscape
from gradscape.nets import Layers, vgg
from gradscape.records.landscape import LandscapeRecord

torch.manual_seed(0)
X, Y = torch.randn(60, 3, 16, 16), torch.arange(60) % 10


def network(norm: str = "batch") -> nn.Module:
    """VGG14 whose running statistics have seen the images, and whose logits are not all but alike."""
    model = vgg(blocks=1, classes=10, image_size=16, seed=0, layers=Layers(norm=norm), filters=4)
    with torch.no_grad():
        for _ in range(5):
            model(X)
        next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)).weight.mul_(30)
    return model.eval()


class Bowl(nn.Module):
    """½ θᵀAθ of two parameters, whatever the batch."""

    def __init__(self, eigenvalues: tuple[float, ...]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, len(eigenvalues), dtype=torch.float64))
        self.register_buffer("curvature", torch.tensor(eigenvalues, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.curvature * self.theta.square()).sum() + 0 * x.sum()


class Point(nn.Module):
    """One number w, whatever the batch."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full((1, 1), w, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.theta.expand(len(x), 1)


ONE = torch.ones(1, 1, dtype=torch.float64)


def itself(output: Tensor) -> Tensor:
    return output


def test_a_quadratic_is_exact_along_its_eigenvectors() -> None:
    model = Bowl((5.0, 2.0, -1.0))
    found = landscape(model, itself, ONE, "hessian", points=5, span=(-2, 2))
    a, b = np.meshgrid(*found.axes, indexing="ij")
    assert found.loss[0] == pytest.approx(0.5 * (5 * a**2 + 2 * b**2), abs=1e-12)
    assert found.lengths[0] == pytest.approx([1, 1])
    line = landscape(model, itself, ONE, "hessian", dims=1, points=5)
    assert line.loss[0] == pytest.approx(2.5 * line.axes[0] ** 2, abs=1e-12)
    assert line.directions == ("eigenvector of 5",)


def test_the_basin_of_a_bowl_is_that_of_its_ellipse() -> None:
    found = landscape(Bowl((4.0, 1.0)), itself, ONE, "hessian", points=41, span=(-2, 2))
    basin = found.basin(0.5)  # semi-axes 1/2 and 1
    assert basin.width[0] == pytest.approx(math.sqrt(0.5), rel=0.01)
    assert basin.whole[0]
    assert (
        not landscape(Bowl((4.0, 1.0)), itself, ONE, "hessian", points=9, span=(-0.5, 0.5)).basin().whole[0]
    )
    assert found.roughness[0] == pytest.approx(0, abs=1e-12)


def test_the_width_of_a_basin_counts_points_by_the_distance_between_them() -> None:
    line = landscape(
        Point(0.0), lambda o: o.square().mean(), ONE, through=Point(1.0), dims=1, points=8, span=(-0.91, 1.37)
    )
    assert len(line.axes[0]) == 11  # both models and their middle are between the others
    assert line.basin(0.25).width[0] == pytest.approx(0.5, rel=0.03)


def test_a_basin_that_ends_where_time_did_is_at_least_as_wide() -> None:
    found = landscape(Bowl((4.0, 1.0)), itself, ONE, "hessian", points=9, span=(-2, 2))
    known = np.ones_like(found.measured)
    known[:, 5:] = False
    ended = replace(found, loss=np.where(known, found.loss, np.nan), measured=known, complete=False)
    assert found.basin().whole.all()
    assert not ended.basin().whole.any()
    assert "basin of half a unit of loss: width at least " in str(ended)
    walled = replace(found, loss=np.where(known, found.loss, np.nan))
    assert walled.basin().whole.all(), "a loss that is not a number is no basin's"


def test_the_middle_is_direct_evaluation_bitwise() -> None:
    model = network("none")
    found = landscape(model, cross_entropy, (X[:50], Y[:50]), dims=1, points=3)
    with torch.no_grad():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        x = X[:50].contiguous(memory_format=torch.channels_last)
        direct = copy.deepcopy(model).to(memory_format=torch.channels_last)(x)
        torch.set_num_threads(threads)
    assert found.loss[0, 1] == found.middle[0] == cross_entropy(direct, Y[:50]).item()
    assert found.metrics["accuracy"][0, 1] == (direct.argmax(1) == Y[:50]).float().mean().item()


def test_a_norm_that_is_folded_changes_nothing_but_roundings() -> None:
    model = network()
    found = landscape(model, cross_entropy, (X, Y), points=3, span=(-0.3, 0.3))
    own = dict(model.named_parameters())
    from gradscape.measure.core.objective import Objective
    from gradscape.measure.landscape.directions import random_plane

    plane = random_plane(
        Objective(model, cross_entropy, (X, Y)), "filter", 2, torch.Generator().manual_seed(0), False
    )
    for i, a in enumerate(found.axes[0]):
        for j, b in enumerate(found.axes[1]):
            moved = {
                n: p + float(a) * d + float(b) * e
                for (n, p), d, e in zip(own.items(), *plane.directions, strict=True)
            }
            with torch.no_grad():
                expected = cross_entropy(torch.func.functional_call(model, moved, (X,)), Y)
            assert found.loss[0, i, j] == pytest.approx(expected.item(), rel=1e-4)


def test_a_convolution_called_by_the_names_of_its_arguments_is_folded_too() -> None:
    class ByNames(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return torch.conv2d(input=input, weight=self.weight, bias=self.bias)

    def losses(kind: type[nn.Conv2d]) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(kind(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(10))
        model(X)
        return landscape(model, cross_entropy, (X, Y), dims=1, points=3).loss

    assert np.array_equal(losses(ByNames), losses(nn.Conv2d))


def outputs_of(name: str, weight: Tensor) -> Tensor:
    """A row of weights for each output: a transposed convolution's are (inputs, outputs of a group, …)."""
    if name == "5.weight":
        return torch.cat([half.movedim(1, 0).flatten(1) for half in weight.chunk(2)])
    return weight.movedim(1 if name == "2.weight" else 0, 0).flatten(1)


@pytest.mark.parametrize("kind", ["filter", "layer"])
def test_directions_have_the_weights_length(kind: str) -> None:
    from gradscape.measure.core.objective import Objective
    from gradscape.measure.landscape.directions import random_plane

    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 5, 2), nn.Flatten(), nn.Linear(5, 2),
        nn.ConvTranspose1d(6, 8, 3, groups=2),
    )  # fmt: skip
    objective = Objective(model, None, X)
    plane = random_plane(objective, kind, 1, torch.Generator().manual_seed(1), False)
    for name, w, d in zip(objective.names, objective.start, plane.directions[0], strict=True):
        if w.dim() == 1:
            assert not d.any(), name
            continue
        rows = (outputs_of(name, t) if kind == "filter" else t.reshape(1, -1) for t in (w, d))
        lengths = [row.norm(dim=1) for row in rows]
        if kind == "filter":
            assert len(lengths[0]) == {"0": 4, "2": 5, "4": 2, "5": 8}[name[0]]
        torch.testing.assert_close(lengths[0], lengths[1])


class Zoo(nn.Module):
    """Layers that are no convolution; none is called."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.wide = nn.Embedding(11, 6, padding_idx=0), nn.Conv1d(6, 8, 3)
        self.lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True)
        self.gru, self.attention = nn.GRU(10, 6), nn.MultiheadAttention(6, 2)
        self.bilinear, self.separate = nn.Bilinear(6, 6, 3), nn.Conv2d(4, 4, 3, groups=4)
        self.norm, self.slope, self.token = nn.LayerNorm(4), nn.PReLU(4), nn.Parameter(torch.randn(6))
        self.zero = nn.Linear(6, 3)
        nn.init.zeros_(self.zero.weight)


def test_filters_of_every_kind_of_layer_have_their_weights_length() -> None:
    from gradscape.measure.core.objective import Objective
    from gradscape.measure.landscape.directions import random_plane

    torch.manual_seed(0)
    objective = Objective(Zoo(), None, X)
    (plane,) = random_plane(objective, "filter", 1, torch.Generator().manual_seed(1), False).directions
    moved = set()
    for name, w, d in zip(objective.names, objective.start, plane, strict=True):
        if w.dim() > 1:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
            moved.add(name.partition(".")[0])
        else:
            assert not d.any(), name
    assert moved >= {"words", "wide", "lstm", "gru", "attention", "bilinear", "separate"}


def test_a_weight_of_no_elements_does_not_move() -> None:
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.empty = nn.Linear(3, 2), nn.Parameter(torch.zeros(5, 0))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x) + self.empty.sum()
            return out

    found = landscape(Empty(), cross_entropy, (torch.randn(4, 3), torch.arange(4) % 2), points=3, dims=1)
    assert np.isfinite(found.loss).all()


def test_orthogonal_directions_are() -> None:
    from gradscape.measure.core.objective import Objective
    from gradscape.measure.curvature.hvp import flat
    from gradscape.measure.landscape.directions import random_plane

    for model in (network(), nn.Sequential(nn.Flatten(), nn.Linear(768, 1, bias=False))):
        for kind in ("filter", "gaussian"):
            objective = Objective(model, None, X)
            random = torch.Generator().manual_seed(0)
            plane = random_plane(objective, kind, 2, random, True)
            first, second = map(flat, plane.directions)
            assert abs(float(first.double() @ second.double())) <= 1e-4 * float(first.norm() ** 2)
            free = random_plane(objective, kind, 2, torch.Generator().manual_seed(0), False)
            assert plane.lengths == pytest.approx(free.lengths, rel=1e-5)
    two = landscape(Bowl((1.0, 4.0)), itself, ONE, "gaussian", points=3, orthogonal=True)
    assert two.lengths == pytest.approx(np.ones((1, 2)))


def state(model: nn.Module) -> list[Any]:
    return [
        *((p.detach().clone(), p.grad) for p in model.parameters()),
        *(b.clone() for b in model.buffers()),
        [m.training for m in model.modules()],
        torch.get_rng_state(),
        torch.get_num_threads(),
    ]


@pytest.mark.parametrize("bn", ["running", "batch", "recalibrated"])
def test_the_model_is_left_as_found(bn: Any) -> None:
    model = network().train()
    before = state(model)
    landscape(model, cross_entropy, [(X[:20], Y[:20]), (X[20:], Y[20:])], points=2, bn=bn, checks=0)
    after = state(model)
    assert str(before) == str(after)
    for one, other in zip(model.parameters(), before, strict=False):
        assert torch.equal(one, other[0])


def test_each_kind_of_statistics_is_what_it_says() -> None:
    model = network()
    halves = [(X[:30], Y[:30]), (5 * X[30:] + 3, Y[30:])]
    found = {
        bn: landscape(model, cross_entropy, halves, dims=1, points=3, bn=bn)  # type: ignore[arg-type]
        for bn in ("running", "batch", "recalibrated")
    }
    with torch.no_grad():
        running = sum(cross_entropy(model(x), y) for x, y in halves) / 2
        twin = copy.deepcopy(model).train()
        batch = sum(cross_entropy(twin(x), y) for x, y in halves) / 2
        again = copy.deepcopy(model).train()
        for module in again.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        for x, _ in halves:
            again(x)
        recalibrated = sum(cross_entropy(again.eval()(x), y) for x, y in halves) / 2
    expected = {"running": running, "batch": batch, "recalibrated": recalibrated}
    for bn, value in expected.items():
        assert found[bn].middle[0] == pytest.approx(float(value), rel=1e-5), bn
    assert len({round(float(v), 5) for v in expected.values()}) == 3


def test_the_line_between_models_has_both_at_its_ends_and_a_barrier() -> None:
    first, second = Bowl((1.0, 1.0)), Bowl((1.0, 1.0))
    with torch.no_grad():
        first.theta.copy_(torch.tensor([[1.0, 0.0]]))
        second.theta.copy_(torch.tensor([[-1.0, 0.0]]))

    def two_valleys(output: Tensor) -> Tensor:
        return (1 - 2 * output).square()  # of θ² = 2 output: zero at ±1, one between

    found = landscape(first, two_valleys, ONE, through=second, points=31, span=(0, 1))
    assert found.loss[0, [0, -1]] == pytest.approx([0, 0], abs=1e-12)
    assert found.barrier == found.barrier_over_line == pytest.approx([1], abs=1e-6)
    several = landscape(first, two_valleys, ONE, through=[second, second], dims=1, points=31, span=(0, 1))
    assert several.loss.shape == (2, 31)
    assert several.barrier == pytest.approx([1, 1], abs=1e-6)
    assert "barrier 1 (1 … 1) above the mean of the models' losses" in str(several)
    with pytest.raises(ConfigError, match="barrier: of lines between models; give"):
        _ = landscape(first, two_valleys, ONE, "gaussian", points=2).barrier


def test_buffers_move_along_the_line_between_models() -> None:
    first, second = network(), network()
    with torch.no_grad():
        for p in second.parameters():
            p.mul_(1.1)
        second.train()(3 * X)
    second.eval()
    found = landscape(first, cross_entropy, (X, Y), through=second.state_dict(), points=3, span=(0, 1))
    with torch.no_grad():
        ends = [cross_entropy(model(X), Y).item() for model in (first, second)]
    assert found.loss[0, [0, 2]] == pytest.approx(ends, rel=1e-4)


def test_a_line_between_models_says_what_is_at_both_and_what_interpolated_statistics_do() -> None:
    first, second = network(), network()
    with torch.no_grad():
        for p in second.parameters():
            p.mul_(1.1)
        for name, buffer in second.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(9)
    said = str(landscape(first, cross_entropy, (X, Y), through=second, dims=1, points=7))
    with torch.no_grad():
        ends = [cross_entropy(model(X), Y).item() for model in (first, second)]
    assert f"at the model {ends[0]:.4g}; from" in said
    assert f"at the other model {ends[1]:.3g}; barrier " in said
    assert "basin" not in said, "a valley's width is no answer to whether there is a wall between two"
    assert "running statistics are interpolated" in said
    assert "fall below 0" in said
    inside = str(landscape(first, cross_entropy, (X, Y), through=second, dims=1, points=3, span=(0, 1)))
    assert "running statistics are interpolated" in inside
    assert "fall below 0" not in inside
    measured = landscape(first, cross_entropy, (X, Y), through=second, dims=1, points=3, bn="recalibrated")
    assert "interpolated" not in str(measured)


def test_roughness_that_no_whole_line_has_is_said_in_words() -> None:
    found = landscape(Point(0.5), lambda w: torch.log(w).mean(), ONE, dims=1, points=5, span=(-3, 3))
    assert np.isnan(found.roughness).all()
    assert "roughness not known: no line is finite throughout" in str(found)


def test_a_drawn_line_names_the_models_on_it() -> None:
    between = landscape(Point(-1.0), torch.mean, ONE, through=Point(1.0), dims=1, points=5)
    alone = landscape(Point(-1.0), torch.mean, ONE, dims=1, points=5)
    names = [[text.get_text() for text in record.plot().texts] for record in (between, alone)]
    assert names == [["model", "other model"], ["model"]]


def test_frozen_weights_that_are_others_in_the_other_model_move_to_it_too() -> None:
    def model(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        made[0].requires_grad_(False)
        return made

    models, x, y = [model(seed) for seed in range(3)], torch.randn(20, 3).double(), torch.arange(20) % 2
    given = (models[0], cross_entropy, (x, y))
    losses = [float(cross_entropy(each(x), y).detach()) for each in models]
    line = landscape(*given, through=models[1], points=3, span=(0, 1), convexity=2)
    assert line.loss[0, [0, -1]] == pytest.approx(losses[:2])
    assert "of these, others in another model, so moved to it: 0.weight, 0.bias" in line.notes
    assert line.convexity is not None
    ends = curvature(models[1], cross_entropy, (x, y), k=1, trace_products=0).ends
    assert ends is not None
    assert line.convexity.largest[-1] == pytest.approx(ends.largest[0], rel=1e-3)

    path = landscape(*given, path=models, points=3).path
    assert path is not None
    assert path.loss == pytest.approx(losses)
    with torch.no_grad():
        models[1][0].load_state_dict(models[0][0].state_dict())
    assert len(landscape(*given, through=models[1], points=3).notes) == 1


def test_a_plane_through_three_models_has_them_at_its_corners() -> None:
    models = [network() for _ in range(3)]
    with torch.no_grad():
        for place, model in enumerate(models):
            torch.manual_seed(place)
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        losses = [cross_entropy(model(X), Y).item() for model in models]
    found = landscape(models[0], cross_entropy, (X, Y), through=models[1:], points=2, span=(0, 1))
    corners = [found.loss[0, 0, 0], found.loss[0, 1, 0], found.loss[0, 0, 1]]
    assert corners == pytest.approx(losses, rel=1e-4)


def path_of(*places: tuple[float, ...]) -> list[nn.Module]:
    found = []
    for place in places:
        model = Bowl((1.0,) * len(place))
        with torch.no_grad():
            model.theta.copy_(torch.tensor([place]))
        found.append(model)
    return found


def test_a_path_in_a_plane_is_found_again() -> None:
    checkpoints = path_of((3.0, 0.0, 1.0), (2.0, 1.0, 1.0), (1.0, 0.5, 1.0), (0.0, 0.0, 1.0))
    found = landscape(checkpoints[-1], itself, ONE, path=checkpoints, points=5)
    assert found.path is not None
    assert found.path.residual == pytest.approx(np.zeros(4), abs=1e-6)
    assert sum(found.path.explained) == pytest.approx(1)
    assert found.path.loss == pytest.approx([5.0, 3.0, 1.125, 0.5])
    assert found.path.on_plane == pytest.approx(found.path.loss)
    distances = np.linalg.norm(found.path.coordinates, axis=1)
    assert distances == pytest.approx([3, math.sqrt(5), math.sqrt(1.25), 0])
    for axis, column in zip(found.axes, found.path.coordinates.T, strict=True):
        assert axis[0] < column.min() < column.max() < axis[-1]


def test_what_lies_off_the_plane_is_told() -> None:
    checkpoints = path_of((3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    found = landscape(checkpoints[-1], itself, ONE, path=checkpoints, points=3)
    assert found.path is not None
    assert found.path.residual == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert found.path.explained == pytest.approx([9 / 14, 4 / 14])
    assert found.path.on_plane[2] == pytest.approx(0)
    assert found.path.loss[2] == pytest.approx(0.5)


@pytest.mark.slow
def test_a_refined_grid_is_as_accurate_as_asked_for_far_fewer_points() -> None:
    def rippled(output: Tensor) -> Tensor:
        return 1 + output + 0.2 * torch.exp(-200 * (output - 0.3).square())

    model = Bowl((1.0, 1.0))
    whole = landscape(model, rippled, ONE, "hessian", points=65, span=(-2, 2))
    found = landscape(model, rippled, ONE, "hessian", points=65, span=(-2, 2), accuracy=0.01)
    assert found.evaluations < 0.5 * whole.evaluations
    assert np.abs(found.loss / whole.loss - 1).max() < 0.02
    assert found.loss[found.measured] == pytest.approx(whole.loss[found.measured], rel=1e-12)


def test_points_that_are_not_finite_stay_so_and_are_counted() -> None:
    def torn(output: Tensor) -> Tensor:
        return torch.where(output > 1.1, torch.full_like(output, math.inf), output)

    found = landscape(Bowl((1.0, 1.0)), torn, ONE, "hessian", points=9, span=(-2, 2))
    a, b = np.meshgrid(*found.axes, indexing="ij")
    assert np.array_equal(np.isinf(found.loss[0]), a**2 + b**2 > 2.2)
    assert found.nonfinite == int((a**2 + b**2 > 2.2).sum())
    assert "not finite" in str(found)


def test_interpolation_is_checked_off_the_grid() -> None:
    smooth = landscape(Bowl((1.0, 1.0)), lambda o: 1 + o, ONE, "hessian", points=9, checks=10)
    assert smooth.check is not None
    assert smooth.check.worst < 1e-3
    rough = landscape(Bowl((1.0, 1.0)), lambda o: 2 + torch.sin(40 * o), ONE, "hessian", points=9, checks=10)
    assert rough.check is not None
    assert rough.check.worst > 0.1


def test_interpolation_between_uneven_points_is_by_the_cubic_through_them() -> None:
    def cubic(output: Tensor) -> Tensor:
        return (2 + output.pow(3)).exp().mean()  # whose logarithm is a cubic

    line = landscape(
        Point(0.0), cubic, ONE, through=Point(1.0), dims=1, points=6, span=(-0.31, 1.27), checks=20
    )
    assert len(set(np.diff(line.axes[0]).round(6))) > 1
    assert line.check is not None
    assert line.check.worst < 1e-12


def test_convexity_over_a_plane_is_the_hessians() -> None:
    found = landscape(Bowl((5.0, 2.0, -1.0)), itself, ONE, "hessian", points=3, convexity=2)
    assert found.convexity is not None
    assert found.convexity.ratio == pytest.approx(np.full(4, 0.2), rel=1e-6)
    assert found.convexity.coordinates.tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_where_a_second_derivative_is_not_finite_the_convexity_is_not_known() -> None:
    def steep(output: Tensor) -> Tensor:
        return output.abs().pow(1.5).mean()  # its second derivative is infinite at 0

    found = landscape(Point(1.0), steep, ONE, "gaussian", dims=1, points=3, convexity=3)
    assert found.convexity is not None
    assert np.isfinite(found.loss).all()
    assert sorted(np.isnan(found.convexity.largest)) == [False, False, True]
    nowhere = landscape(
        Point(0.0), steep, ONE, "gaussian", dims=1, points=2, span=(0, 1), convexity=1
    ).convexity
    assert str(nowhere) == "|λmin / λmax| not known at any of 1 point"


@pytest.mark.parametrize("bn", ["running", "recalibrated"])
def test_the_convexity_is_of_the_loss_with_the_statistics_of_each_point(bn: Any) -> None:
    def model(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
        made(5 * torch.randn(30, 3).double() + seed)
        return made.eval()

    models, x, y = [model(seed) for seed in range(3)], torch.randn(40, 3).double(), torch.arange(40) % 2
    given = (models[0], cross_entropy, (x, y))
    line = landscape(*given, through=models[2], dims=1, points=3, span=(0, 1), convexity=2, bn=bn).convexity
    plane = landscape(*given, path=models, points=3, span=(-1, 1), convexity=3, bn=bn).convexity
    if bn == "recalibrated":
        for each in models:
            each[1].reset_running_stats()  # type: ignore[operator]
            each[1].momentum = None  # type: ignore[assignment]
            each.train()(x)
            each.eval()
    ends = [curvature(each, cross_entropy, (x, y), k=1, trace_products=0).ends for each in models]
    first, _, last = (end.largest[0] for end in ends if end is not None)
    assert line is not None
    assert plane is not None
    assert line.largest == pytest.approx([first, last], rel=1e-3)
    assert plane.largest[4] == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize("change", ["frozen weight", "other model's statistics"])
def test_points_of_other_frozen_weights_or_statistics_are_not_taken_for_these(
    tmp_path: Path, change: str
) -> None:
    def batchnorms() -> tuple[nn.Sequential, nn.Sequential]:
        torch.manual_seed(0)
        both = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval() for _ in range(2)]
        both[0][0].requires_grad_(False)
        return both[0], both[1]

    model, other = batchnorms()
    batch, file = (torch.randn(8, 3), torch.arange(8) % 2), tmp_path / "points.jsonl"
    landscape(model, cross_entropy, batch, through=other, points=3, keep=file)
    landscape(*batchnorms()[:1], cross_entropy, batch, through=batchnorms()[1], points=3, keep=file)
    with torch.no_grad():
        moved: Any = model[0].weight if change == "frozen weight" else other[1].running_var
        moved.mul_(2)
    with pytest.raises(StoreError, match="contains another landscape"):
        landscape(model, cross_entropy, batch, through=other, points=3, keep=file)


def test_a_killed_landscape_goes_on_where_it_was(tmp_path: Path) -> None:
    model, file = network(), tmp_path / "points.jsonl"
    whole = landscape(model, cross_entropy, (X, Y), points=3, pairs=2, keep=file)
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 18
    file.write_text("".join(lines[:8]) + lines[8][:20])  # torn in the middle of a line
    asked = []

    def counting(output: Tensor, y: Tensor) -> Tensor:
        asked.append(1)
        return cross_entropy(output, y)

    again = landscape(model, counting, (X, Y), points=3, pairs=2, keep=file)
    assert np.array_equal(again.loss, whole.loss)
    parts, first, middles = 2, 2 + 3 + 3, 2  # the loss whole, of its parts, and taken apart; the middle once
    assert len(asked) <= first + (parts + 1) * (11 + middles + 1)
    with pytest.raises(StoreError, match="contains another landscape; give another file, or delete it"):
        landscape(model, cross_entropy, (X, Y), points=4, keep=file)
    file.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(StoreError, match="line 2 is damaged; delete the file"):
        landscape(model, cross_entropy, (X, Y), points=3, pairs=2, keep=file)


def test_losses_too_large_to_square_are_told() -> None:
    found = landscape(Bowl((1.0, 1.0)), lambda o: 1e200 * o, [ONE] * 6, "hessian", points=3)
    assert found.loss[0, 0, 0] == pytest.approx(1e200)
    assert np.isfinite(found.error[0, 1, 1])


@pytest.mark.gpu
@pytest.mark.parametrize("bn", ["running", "batch", "recalibrated"])
def test_a_gpu_finds_what_a_processor_does(bn: Any) -> None:
    model, given = network(), [(X[:30], Y[:30]), (X[30:], Y[30:])]
    there = [(x.cuda(), y.cuda()) for x, y in given]
    plain, graphed = (
        landscape(m, cross_entropy, b, points=5, span=(-0.3, 0.3), bn=bn)
        for m, b in ((model, given), (copy.deepcopy(model).cuda(), there))
    )
    assert graphed.loss == pytest.approx(plain.loss, rel=1e-3)
    assert graphed.metrics["accuracy"] == pytest.approx(plain.metrics["accuracy"], abs=0.05)


@pytest.mark.gpu
def test_a_loss_that_cannot_be_captured_is_evaluated_as_it_stands() -> None:
    def asks(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output, y) * float(output.isfinite().all())  # which waits for the device

    model = network().cuda()
    found = landscape(model, asks, (X.cuda(), Y.cuda()), points=3)
    assert found.loss == pytest.approx(landscape(model, cross_entropy, (X.cuda(), Y.cuda()), points=3).loss)


def test_the_same_numbers_whatever_the_workers() -> None:
    model = network()
    one, two = (landscape(model, cross_entropy, (X, Y), points=3, workers=count).loss for count in (1, 2))
    assert np.array_equal(one, two)


def test_a_generator_that_a_model_holds_draws_the_same_at_every_point() -> None:
    class Held(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.draws = np.random.default_rng(0)

        def forward(self, input: Tensor) -> Tensor:
            noise = torch.from_numpy(self.draws.standard_normal((len(input), 2))).float()
            return super().forward(input) + noise

    model, batch = Held(), (torch.randn(20, 3), torch.arange(20) % 2)
    found = landscape(model, cross_entropy, batch, dims=1, points=3, workers=2)
    assert found.loss[0, 1] == found.middle[0]
    with torch.no_grad():
        assert found.middle[0] == pytest.approx(cross_entropy(model(batch[0]), batch[1]).item(), rel=1e-6)


class Noisy(nn.Module):
    """Adds noise to its output in eval mode too, as a variational autoencoder does."""

    def __init__(self, noise: Any) -> None:
        super().__init__()
        self.layer, self.noise = nn.Linear(3, 2), noise

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.as_tensor(self.noise((len(x), 2)), dtype=torch.float32)


@pytest.mark.parametrize("noise", [torch.randn, lambda shape: np.random.standard_normal(shape)])
def test_random_numbers_of_a_model_are_the_same_at_every_point_and_left_as_found(noise: Any) -> None:
    torch.manual_seed(0)
    models, x, y = [Noisy(noise) for _ in range(4)], torch.randn(20, 3), torch.arange(20) % 2
    before = random_positions()
    line = landscape(models[0], cross_entropy, (x, y), through=models[1], points=5, workers=3)
    plane = landscape(models[0], cross_entropy, (x, y), path=models[1:], points=3)
    assert random_positions() == before

    assert line.loss[0, line.axes[0] == 0] == line.middle[0]
    assert line.loss[0, line.axes[0] == 1] == pytest.approx(
        landscape(models[1], cross_entropy, (x, y), points=2).middle[0], rel=1e-6
    )
    assert plane.path is not None
    assert plane.path.loss[-1] == plane.path.on_plane[-1] == plane.middle[0]


def test_a_time_limit_yields_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a hundredth of a second at each look, however busy the machine is."""
    looks = itertools.count()
    monkeypatch.setattr(Clock, "spent", property(lambda _: next(looks) / 100))
    found = landscape(network(), cross_entropy, (X, Y), points=41, time_limit=0.5)
    assert not found.complete
    assert 0 < found.evaluations < 41**2
    assert np.isnan(found.loss).any()
    assert "the time limit ended it" in str(found)


@pytest.mark.parametrize("limit", [0.001, 0.5])
def test_a_time_limit_leaves_unknown_what_a_refined_grid_has_not_come_to(
    monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(Clock, "spent", property(lambda _: next(looks) / 100))
    found = landscape(network(), cross_entropy, (X, Y), points=17, pairs=2, accuracy=0.01, time_limit=limit)
    assert not found.complete
    assert np.isnan(found.loss).any()
    assert np.array_equal(np.isnan(found.metrics["accuracy"]), np.isnan(found.loss))


@pytest.mark.parametrize("count", [4, 50, 400])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    "loss", [cross_entropy, nn.CrossEntropyLoss(), lambda output, y: cross_entropy(output, y)]
)
def test_the_sampling_error_is_that_of_the_samples_in_any_order(count: int, ordered: bool, loss: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 5))
    x, y = torch.randn(count, 3), torch.randint(0, 5, (count,))
    order = y.argsort() if ordered else torch.arange(count)
    found = landscape(model, loss, (x[order], y[order]), dims=1, points=3)
    if count < 5:
        assert np.isnan(found.error).all()
        assert "sampling error not known: of fewer than 5 samples or parts" in str(found)
        return
    with torch.no_grad():
        each = cross_entropy(model(x), y, reduction="none").double()
    assert found.error[0, 1] == pytest.approx(float(each.std() / count**0.5), rel=1e-4)
    assert found.error_n == count
    assert f"over {count} samples" in str(found)


class Scaled(nn.Module):
    """Keeps the name of a reduction that the loss within was made with."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction, self.inner = reduction, nn.CrossEntropyLoss(reduction=reduction)

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return 2 * self.inner(output, y)  # type: ignore[no-any-return]


def of_tokens(output: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    return cross_entropy(output.flatten(0, 1), y.flatten(), reduction=reduction)


@pytest.mark.parametrize(("loss", "factor", "tokens"), [(Scaled(), 2, 1), (of_tokens, 1, 7)])
def test_a_reduction_that_does_not_give_a_loss_for_each_sample_is_not_taken_for_one(
    loss: Any, factor: float, tokens: int
) -> None:
    torch.manual_seed(0)
    shape = (20, tokens) if tokens > 1 else (20,)
    model, x, y = nn.Linear(3, 5), torch.randn(*shape, 3), torch.randint(0, 5, shape)
    found = landscape(model, loss, (x, y), dims=1, points=3)
    with torch.no_grad():
        each = cross_entropy(model(x).flatten(0, -2), y.flatten(), reduction="none").double()
    of_samples = factor * each.view(20, tokens).mean(1)
    assert found.error_n == 20
    assert found.error[0, 1] == pytest.approx(float(of_samples.std() / 20**0.5), rel=1e-4)


def test_of_a_loss_of_whole_batches_the_sampling_error_is_over_parts_in_random_order() -> None:
    """One with weights of classes is no mean of its samples' own; labels in order must not matter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 5))
    x, y = torch.randn(2_000, 3), torch.arange(2_000) // 400
    with torch.no_grad():
        model[1].bias.copy_(torch.arange(5.0))  # classes of losses far apart

    def unlike(output: Tensor, target: Tensor) -> Tensor:
        if len(output) == 1:
            raise ValueError("of batches only")
        return cross_entropy(output, target)

    found = landscape(model, unlike, (x, y), dims=1, points=3)
    with torch.no_grad():
        each = cross_entropy(model(x), y, reduction="none").double()
    wanted = float(each.std() / 2_000**0.5)
    assert found.error_n == 40
    assert "over 40 parts of the samples" in str(found)
    assert 0.6 * wanted < found.error[0, 1] < 1.5 * wanted  # of 40 parts, give or take a tenth
    few = landscape(model, unlike, (x[:200], y[:200]), dims=1, points=3)
    assert few.error_n == 0
    assert np.isnan(few.error).all()


@pytest.mark.parametrize("points", [3, 4, 8, 13, 24, 25])
@pytest.mark.parametrize("span", [None, (-0.4, 1.3), (0.0, 1.0)])
def test_a_line_between_models_has_both_and_their_middle_on_its_grid(points: int, span: Any) -> None:
    first, second = Bowl((1.0, 1.0)), Bowl((1.0, 1.0))
    with torch.no_grad():
        first.theta.copy_(torch.tensor([[1.0, 0.0]]))
        second.theta.copy_(torch.tensor([[-1.0, 0.0]]))
    found = landscape(
        first, lambda o: (1 - 2 * o).square(), ONE, through=second, dims=1, points=points, span=span
    )
    assert {0.0, 0.5, 1.0} <= set(found.axes[0].tolist())
    assert found.barrier == pytest.approx([1], abs=1e-6)


def test_the_barrier_is_over_the_mean_of_the_ends_or_over_the_line_between_them() -> None:
    """(w² − 1)² + 2(w + 1) from −1 to 1: 0 and 4 at the ends, and 3 midway."""

    def well(w: Tensor) -> Tensor:
        return ((w**2 - 1) ** 2 + 2 * (w + 1)).mean()

    found = landscape(Point(-1.0), well, ONE, through=Point(1.0), dims=1, points=25)
    c = np.linspace(0, 1, 17)
    w = 2 * c - 1
    losses = (w**2 - 1) ** 2 + 2 * (w + 1)
    assert found.barrier == pytest.approx([(losses - 2).max()])
    assert found.barrier == pytest.approx([2])
    assert found.barrier_over_line == pytest.approx([1])
    again = decode(LandscapeRecord, found.to_dict())
    assert again.barrier == found.to_dict()["barrier"]
    beside = landscape(Point(-1.0), well, ONE, through=Point(1.0), dims=1, points=5, span=(0.2, 0.9))
    with pytest.raises(ConfigError, match=r"barrier: .*and a span that holds 0 and 1"):
        _ = beside.barrier
    assert "barrier" not in str(beside)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"directions": "filters"},
            "directions: expected one of filter, .*; got 'filters'; did you mean 'filter'",
        ),
        ({"dims": 3}, "dims: expected 1 for a line or 2 for a plane; got 3"),
        ({"points": 1}, "points: expected 2 or more; got 1"),
        ({"span": (1, -1)}, r"span: expected two increasing numbers .*; got \(1, -1\)"),
        ({"span": (0, math.inf)}, "span: expected two increasing numbers"),
        ({"pairs": 0}, "pairs: expected 1 or more; got 0"),
        (
            {"directions": "hessian", "pairs": 2},
            "pairs: expected 1 for hessian directions, which are not random; got 2",
        ),
        ({"bn": "train"}, "bn: expected one of running, batch, recalibrated; got 'train'"),
        ({"accuracy": 0.1, "points": 20}, "points: expected 9, 17, 21, .* to refine; got 20"),
        ({"accuracy": 2.0}, "accuracy: expected a number between 0 and 1; got 2.0"),
        (
            {"through": nn.Linear(1, 2)},
            r"through\[0\]: expected theta as in the model; got none; give one of its kind",
        ),
        ({"through": [3]}, r"through\[0\]: expected a module or its state_dict\(\); got int"),
        ({"through": 3}, "through: expected Module or Mapping or a list or None; got 3"),
        ({"path": [Bowl((1.0, 2.0))]}, "path: expected 3 or more checkpoints; got 1"),
        ({"path": [Bowl((1.0, 2.0))] * 3}, "path: expected checkpoints that span a plane; got a line"),
        ({"path": [1], "through": [2]}, "through, path: expected one of them; got both"),
        ({"workers": 0}, "workers: expected 1 or more; got 0"),
        ({"time_limit": 0}, "time_limit: expected seconds above 0; got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        landscape(Bowl((1.0, 2.0)), itself, ONE, **asked)
    assert "\n" not in str(raised.value)


def test_another_shape_and_directions_of_no_length_are_named() -> None:
    with pytest.raises(
        ConfigError,
        match=r"through\[0\]: theta: expected float64 \(1, 2\) as in the model; got float64 \(1, 3\)",
    ):
        landscape(Bowl((1.0, 2.0)), itself, ONE, through=Bowl((1.0, 2.0, 3.0)))
    with pytest.raises(ConfigError, match="expected a norm above 0; got 0 for filter-normalized direction 1"):
        landscape(Bowl((1.0, 2.0)), itself, ONE)


def test_a_range_that_overflows_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="span: expected less; got 1e\\+39 times the direction, which overflows float32"
    ):
        landscape(network(), cross_entropy, (X, Y), span=(0, 1e39))


@pytest.mark.parametrize("metric", [lambda out, y: out.argmax(1) == y, lambda out, y: out.no_such(y)])
def test_a_metric_that_is_no_number_is_told_by_its_name(metric: Any) -> None:
    with pytest.raises(ConfigError, match=r"^metrics: right failed: .* returns one number$") as told:
        landscape(network(), cross_entropy, (X, Y), points=3, metrics={"right": metric})
    assert "\n" not in str(told.value)


def test_a_loss_that_wants_gradients_is_told_so() -> None:
    def penalised(output: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(output.sum(), model.theta, create_graph=True)
        return output + slope.square().sum()

    model = Bowl((1.0, 2.0))
    with pytest.raises(ConfigError, match="loss: expected one without gradients"):
        landscape(model, penalised, ONE, "gaussian", points=2)


def test_the_barrier_to_a_model_whose_loss_is_infinite_is_not_known() -> None:
    found = landscape(Point(-1.0), lambda w: (1 / (1 - w)).mean(), ONE, through=Point(1.0), dims=1, points=3)
    assert math.isinf(found.loss[0, -1])
    assert np.isnan([found.barrier, found.barrier_over_line]).all()
    assert found.to_dict()["barrier"] == ["NaN"]
    assert "barrier nan above the mean" in str(found)
