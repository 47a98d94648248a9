"""What a loss is a function of: every kind of parameter and batch, and nobody hears of its passes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, TensorDataset

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.core.objective import Objective
from gradscape.measure.signal.signal import signal


def test_public_names_stay_functions_when_their_records_are_imported() -> None:
    for name in gs.__all__:
        assert not inspect.ismodule(getattr(gs, name))
    gs.noise(nn.Linear(3, 2), cross_entropy, [(torch.randn(4, 3), torch.arange(4) % 2) for _ in range(6)])
    assert all(callable(getattr(gs, name)) for name in ("curvature", "noise", "smoothness"))


def tokens() -> tuple[Tensor, Tensor]:
    return torch.arange(12).reshape(4, 3) % 5, torch.arange(4) % 2


def test_sparse_gradients_are_as_dense_ones() -> None:
    def gradient(sparse: bool) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 2))
        return Objective(model, cross_entropy, tokens()).gradient()[1]

    assert torch.equal(gradient(True), gradient(False))


class Mixed(nn.Module):
    """Its second layer computes in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).double())
        return out


class HalfNarrow(nn.Module):
    """Its second layer is of bfloat16, to which its forward casts."""

    def __init__(self, to_weight: bool) -> None:
        super().__init__()
        self.first, self.second, self.to_weight = nn.Linear(3, 4), nn.Linear(4, 2).bfloat16(), to_weight

    def forward(self, x: Tensor) -> Tensor:
        dtype = self.second.weight.dtype if self.to_weight else torch.bfloat16
        out: Tensor = self.second(self.first(x).to(dtype))
        return out


def test_a_cast_to_the_type_that_is_widened_here_names_the_widening_and_the_cure() -> None:
    batch = (torch.randn(5, 3), torch.arange(5) % 2)
    with pytest.raises(ConfigError) as refused:
        gs.curvature(HalfNarrow(False), cross_entropy, batch, k=1)
    assert str(refused.value).startswith(
        "model: its bfloat16 parameters are computed in float32 here, and its forward casts to another type: "
        "cast to the layer's own, x.to(layer.weight.dtype) (batch: layer second (Linear) was given bfloat16"
    )
    assert Objective(HalfNarrow(True), cross_entropy, batch).gradient()[1].dtype == torch.float32


def test_parameters_of_several_precisions_keep_theirs() -> None:
    model, batch = Mixed(), (torch.randn(5, 3), torch.arange(5) % 2)
    objective = Objective(model, cross_entropy, batch)
    _, gradient = objective.gradient()
    assert gradient.dtype == torch.float64
    moved = objective.moved(gradient, -0.1)
    assert [p.dtype for p in moved] == [p.dtype for p in model.parameters()]
    assert objective.gradient(moved)[0] < objective.gradient()[0]
    found = gs.curvature(model, cross_entropy, batch, k=1)
    assert found.ends is not None
    assert found.ends.converged


def test_autocast_around_a_measurement_is_no_part_of_it() -> None:
    def measured() -> tuple[Any, ...]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
        batch = torch.randn(8, 3, 5, 5), torch.arange(8) % 2
        smooth = gs.smoothness(model, cross_entropy, batch, lr=0.1).along_gradient.changes
        slices = [
            gs.landscape(model, cross_entropy, batch, dims=1, points=3, bn=bn)  # type: ignore[arg-type]
            for bn in ("running", "batch", "recalibrated")
        ]
        return (*smooth[0], *(float(v) for s in slices for v in (*s.loss[0], *s.middle)))

    plain = measured()
    with torch.autocast("cpu", torch.bfloat16):
        within = measured()
        assert torch.is_autocast_enabled("cpu")
    assert within == plain


def test_targets_of_half_precision_are_widened_as_outputs_are() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()).bfloat16(), torch.randn(5, 3).bfloat16()
    target = torch.rand(5, 2).bfloat16()
    loss = nn.functional.binary_cross_entropy
    found = Objective(model, loss, (x, target)).gradient()[0]
    assert found == pytest.approx(loss(model.float()(x.float()), target.float()).item(), rel=1e-6)


def test_a_watch_hears_nothing_of_a_measurement() -> None:
    torch.manual_seed(0)
    model, x, y = (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        torch.randn(6, 3),
        torch.arange(6) % 2,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    heard: list[Any] = []
    model[0].register_forward_hook(lambda *each: heard.append(each))
    with gs.watch(model, optimizer, activations=True) as flow:
        for step in range(4):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            if step % 2:
                gs.smoothness(model, cross_entropy, (5 * x, y), optimizer=optimizer)
                gs.curvature(model, cross_entropy, (5 * x, y), k=1)
            optimizer.step()
    moments = flow.history().activations
    assert moments is not None
    assert moments.second_moment[:, 0] == pytest.approx(4 * [x.square().mean().item()])
    assert len(heard) > 4  # hooks of the user's own may make the weights


class Drawn(Sampler[int]):
    """Order of a generator of numpy's of its own."""

    def __init__(self, count: int) -> None:
        self.count, self.generator = count, np.random.default_rng(0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(self.count).tolist())


@pytest.mark.parametrize(
    "sampler", [lambda: RandomSampler(range(12), generator=torch.Generator()), lambda: Drawn(12)]
)
@pytest.mark.parametrize("batched", [True, False])
def test_the_next_draws_of_a_loader_s_samplers_are_unchanged(sampler: Any, batched: bool) -> None:
    def loader() -> DataLoader[Any]:
        data = TensorDataset(torch.arange(36.0).view(12, 3), torch.arange(12) % 2)
        if batched:
            return DataLoader(data, batch_sampler=BatchSampler(sampler(), 4, drop_last=False))
        return DataLoader(data, batch_size=4, sampler=sampler())

    one, other = loader(), loader()
    notes = Objective(nn.Linear(3, 2), cross_entropy, one).notes
    assert notes == ["3 batches of one pass of the loader, in the order it drew then"]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_each_batch_alone_shares_the_parameters() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(110, 3), torch.arange(110) % 2
    objective = Objective(nn.Linear(3, 2), cross_entropy, [(x[:100], y[:100]), (x[100:], y[100:])], "running")
    assert [b.size for b in objective.batches] == [50, 50, 10]
    first, second = objective.each()
    assert [b.size for b in first.batches] == [50, 50]
    assert (first.samples, second.samples) == (100, 10)
    assert first.start[0] is objective.start[0]
    losses = first.gradient()[0], second.gradient()[0]
    assert objective.gradient()[0] == pytest.approx((100 * losses[0] + 10 * losses[1]) / 110)


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, batch: gs.curvature(model, cross_entropy, batch, k=1, probes=2, steps=5, layers=True),
        lambda model, batch: gs.smoothness(model, cross_entropy, batch, lr=0.1),
        lambda model, batch: gs.noise(model, cross_entropy, [batch, batch]),
        lambda model, batch: gs.landscape(model, cross_entropy, batch, points=3, convexity=1),
        lambda model, batch: gs.landscape(model, lambda o, y: cross_entropy(o, y) ** 2, batch, points=3),
        lambda model, batch: gs.lr_range(model, batch, cross_entropy, steps=10, seeds=1),
        lambda model, batch: signal(model, batch, cross_entropy, jacobian_samples=70),
    ],
)
def test_a_default_device_is_not_where_numbers_of_a_measurement_lie(measure: Any) -> None:
    torch.manual_seed(0)
    model, batch = nn.Linear(3, 2), (torch.randn(80, 3), torch.arange(80) % 2)
    plain = measure(model, batch)
    with torch.device("meta"):  # without values, so that any number that lay there would be missed
        within = measure(model, batch)
    assert within.notes == plain.notes


@pytest.mark.parametrize("remedies", [True, False])
def test_a_check_within_no_grad_is_as_without(remedies: bool) -> None:
    torch.manual_seed(0)
    model, batch = nn.Linear(3, 2), (torch.randn(20, 3), torch.arange(20) % 2)
    plain = gs.check(model, batch, cross_entropy, remedies=remedies, fit=0)
    with torch.no_grad():
        within = gs.check(model, batch, cross_entropy, remedies=remedies, fit=0)
        assert not torch.is_grad_enabled()
    assert within.as_is.losses == plain.as_is.losses
    assert [each.losses for each in within.remedies] == [each.losses for each in plain.remedies]


class Centered(nn.Module):
    """Keeps a mean of the outputs that it has seen, as losses of self-distillation do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(2))
        self.calls = 0

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            self.center.lerp_(output.mean(0), 0.1)
        return cross_entropy(output - self.center, y)


def widened_by(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, batch, loss: gs.curvature(model, loss, batch, k=1, trace_products=0),
        lambda model, batch, loss: gs.smoothness(model, loss, batch, lr=0.1),
        lambda model, batch, loss: gs.noise(model, loss, [batch, batch]),
        lambda model, batch, loss: gs.landscape(model, loss, batch, dims=1, points=3),
        lambda model, batch, loss: gs.lr_range(model, batch, loss, steps=10, seeds=1),
        lambda model, batch, loss: gs.coordinate_check(widened_by, [4, 8, 16], batch, loss, steps=1, seeds=2),
        lambda model, batch, loss: gs.check(model, batch, loss, remedies=False, fit=0),
        lambda model, batch, loss: signal(model, batch, loss),
        lambda model, batch, loss: gs.replay(
            model, torch.optim.SGD(model.parameters(), 0.1), [batch] * 4, loss, suspect=0
        ),
    ],
)
def test_a_loss_that_keeps_a_state_is_left_as_found(measure: Any) -> None:
    torch.manual_seed(0)
    model, batch, loss = nn.Linear(3, 2), (torch.randn(20, 3), torch.arange(20) % 2), Centered()
    center = loss.center
    measure(model, batch, loss)
    assert loss.calls == 0
    assert loss.center is center
    assert not center.any()


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, batch: gs.curvature(model, cross_entropy, batch),
        lambda model, batch: gs.landscape(model, cross_entropy, batch, points=3),
        lambda model, batch: gs.lr_range(model, batch, cross_entropy, steps=10),
        lambda model, batch: gs.check(model, batch, cross_entropy),
    ],
)
def test_inference_mode_is_told_as_such(measure: Any) -> None:
    model, batch = nn.Linear(3, 2), (torch.randn(4, 3), torch.arange(4) % 2)
    with torch.inference_mode(), pytest.raises(ConfigError, match=r"^torch.inference_mode\(\) is on"):
        measure(model, batch)


def test_parameters_that_can_have_no_gradient_are_named() -> None:
    with torch.inference_mode():
        model = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=r"weight was made in torch.inference_mode\(\)"):
        Objective(model, cross_entropy, (torch.randn(4, 3), torch.arange(4) % 2))
    with pytest.raises(ConfigError, match="weight is complex: only real parameters"):
        Objective(nn.Linear(3, 2, dtype=torch.complex64), cross_entropy, torch.randn(4, 3))
    with pytest.raises(
        ConfigError, match="weight of LazyLinear has no shape yet: call the model on a batch once"
    ):
        Objective(nn.LazyLinear(2), cross_entropy, torch.randn(4, 3))
    batches = tuple((torch.randn(4, 3), torch.arange(4) % 2) for _ in range(3))
    with pytest.raises(ConfigError, match=r"got 3 values; give .*, or several batches as a list"):
        Objective(nn.Linear(3, 2), cross_entropy, batches)


def test_a_loss_that_weights_its_samples_is_not_split_where_the_last_layer_begins_at_0() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    x, y = torch.randn(100, 3).double(), (torch.arange(100) >= 50).long()
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]).double())
    exact = torch.autograd.grad(weighted(model(x), y), list(model.parameters()))

    found = Objective(model, weighted, (x, y))
    assert found.gradient()[1] == pytest.approx(found.vector(exact), rel=1e-12)
    assert len(Objective(model, cross_entropy, (x, y)).batches) == 2
