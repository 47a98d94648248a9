"""Losses, batches and layers as other people have them: measured right, or refused in one line."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.check.remedies import REMEDIES, Applied
from gradscape.measure.core.as_found import standing_in
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.objective import Objective
from libraries import skip_without

X, Y = torch.randn(16, 8), torch.arange(16) % 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def test_a_penalty_of_the_weights_is_measured() -> None:
    model = net()

    def penalty() -> Any:
        return sum(p.square().sum() for p in model.parameters())

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output, y) + 0.1 * penalty()

    gradient = torch.autograd.grad(loss(model(X), Y), list(model.parameters()))
    true = math.sqrt(sum(float(g.square().sum()) for g in gradient))
    found = gs.smoothness(model, loss, (X, Y), lr=0.1, points=2)
    assert found.gradient_norm[0] == pytest.approx(true, rel=1e-5)
    curved = gs.curvature(model, lambda output, _: 0 * output.sum() + penalty(), (X, Y), k=1)
    assert curved.ends is not None
    assert curved.ends.largest[0] == pytest.approx(2, rel=1e-5)
    plane = gs.landscape(model, lambda output, _: 0 * output.sum() + penalty(), (X, Y), dims=1, points=3)
    values = plane.loss[0]
    squares = values[0] + values[2] - 2 * values[1]  # of w + c d: 2 ‖d‖²
    assert squares == pytest.approx(2 * float(plane.lengths[0][0]) ** 2, rel=1e-4)
    gs.check(model, (X, Y), loss, remedies=False)
    assert all(p.grad is None for p in model.parameters())


def test_a_loss_that_keeps_the_parameters_elsewhere_is_refused() -> None:
    model = net()
    held = list(model.parameters())

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output, y) + held[0].square().sum()

    message = "loss: reads 0.weight from elsewhere than the model"
    for measure in (
        lambda: gs.smoothness(model, loss, (X, Y), lr=0.1),
        lambda: gs.landscape(model, loss, (X, Y), points=3),
        lambda: gs.check(model, (X, Y), loss, remedies=False),
    ):
        with pytest.raises(ConfigError, match=message):
            measure()
    assert all(p.grad is None for p in held)


class Pooled(nn.Module):
    def __init__(self, take: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.net, self.take = net(), take

    def forward(self, given: Any) -> Tensor:
        return self.net(self.take(given))


def test_one_container_is_the_argument_where_the_signature_takes_one() -> None:
    plain = gs.smoothness(net(), cross_entropy, (X, Y), lr=0.1, points=2).gradient_norm
    for given, take in (
        ({"image": X}, lambda g: g["image"]),
        ([X, X], lambda g: g[0]),
        ((X, X), lambda g: g[1]),
    ):
        for x in (given, (given,)):
            found = gs.smoothness(Pooled(take), cross_entropy, (x, Y), lr=0.1, points=2)
            assert found.gradient_norm == pytest.approx(plain)


def test_three_values_are_the_models_as_far_as_its_signature_goes() -> None:
    bilinear, linear = nn.Bilinear(8, 8, 3), nn.Linear(8, 3)
    assert len(Batch.of([X, X, Y], bilinear).further) == 1
    assert len(Batch.of([X, Y, Y], linear).further) == 2

    class Either(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x

    with pytest.raises(
        ConfigError, match=r"got 3 values, and Either takes 1 or 2 of them; give \(\(x1, x2\), y\)"
    ):
        Batch.of([X, X, Y], Either())


def test_a_loss_of_model_and_batch_calls_the_model_itself() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    plain = gs.smoothness(net(), cross_entropy, (X, Y), lr=0.1, points=2)
    found = gs.smoothness(net(), loss, (X, Y), lr=0.1, points=2)
    assert found.gradient_norm == pytest.approx(plain.gradient_norm)
    surfaces = [gs.landscape(net(), each, (X, Y), dims=1, points=3).loss for each in (loss, cross_entropy)]
    assert surfaces[0] == pytest.approx(surfaces[1], rel=1e-5)


def test_a_batch_that_cannot_be_cut_is_evaluated_whole() -> None:
    def contrastive(output: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(output @ output.T, y)

    x, y = torch.randn(120, 8), torch.arange(120)
    objective = Objective(nn.Linear(8, 4), contrastive, (x, y), "running")
    assert [batch.size for batch in objective.batches] == [120]


def test_a_loaders_random_numbers_are_left() -> None:
    model, data = net(), torch.utils.data.TensorDataset(X, Y)
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(data, 4, shuffle=True, generator=generator)
    state, own = torch.get_rng_state(), generator.get_state()
    gs.noise(model, cross_entropy, loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(generator.get_state(), own)


def test_tensors_stand_in_until_the_block_ends_wherever_ctrl_c_falls() -> None:
    model = net()
    model.again = model[0]
    mine = dict(model.named_parameters(remove_duplicate=False))
    values = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    lines = 0

    def interrupted_at(wanted: int) -> bool:
        """Whether so many lines of the module were run until the block had ended."""
        nonlocal lines
        lines = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal lines
            if not frame.f_code.co_filename.endswith("as_found.py"):
                return None
            if event == "line":
                lines += 1
                if lines == wanted:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            with standing_in(model, values):
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    wanted = 1
    while interrupted_at(wanted):
        assert all(p is mine[name] for name, p in model.named_parameters(remove_duplicate=False)), wanted
        wanted += 7
    assert wanted > 50


def test_a_batch_of_another_precision_is_told_which_is_wanted() -> None:
    message = r"layer 0 \(Linear\) was given float32 \(16, 8\) and wants bfloat16 \(…, 8\)"
    with pytest.raises(ConfigError, match=message):
        gs.check(net().bfloat16(), (X, Y), cross_entropy, remedies=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_remedies_of_half_precision_are_drawn(dtype: torch.dtype) -> None:
    found = REMEDIES["orthogonal"](net().to(dtype), X.to(dtype))
    assert isinstance(found, Applied)
    weight = found.model[0].weight.float()
    assert torch.allclose(weight.T @ weight, torch.eye(8), atol=0.02)


@pytest.mark.parametrize("name", ["orthogonal", "lsuv"])
def test_remedies_of_channels_last_weights_are_drawn(name: str) -> None:
    """As networks of this package have them on a processor."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    found = REMEDIES[name](model.to(memory_format=torch.channels_last), torch.randn(8, 3, 8, 8))
    assert isinstance(found, Applied), found
    weight = found.model[2].weight.detach().flatten(1)
    alike = weight @ weight.T
    assert torch.allclose(alike, alike[0, 0] * torch.eye(4), atol=1e-5)
    assert found.model[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_remedies_reach_transformers_linear_layers() -> None:
    skip_without("transformers")
    from transformers import pytorch_utils

    model = nn.Sequential(pytorch_utils.Conv1D(16, 8), nn.Tanh(), pytorch_utils.Conv1D(3, 16))
    assert "2 layers" in str(REMEDIES["he"](model, X))
    assert "LayerNorm after 1 layer" in str(REMEDIES["norm"](model, X))
