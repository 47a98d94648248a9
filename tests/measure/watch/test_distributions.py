"""Distributions that a watch reads, against sorted gradients, weights and outputs of plain autograd."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.core.sketch import RELATIVE_ERROR
from gradscape.measure.watch.activations import Activations
from gradscape.records.distributions import QUANTILES, DistributionHistory
from small_nets import batches, examples, mlp

TOLERANCE = {"rtol": RELATIVE_ERROR + 1e-6, "atol": 2.0**-129}


def exact(values: Tensor) -> np.ndarray:
    ordered = np.sort(values.detach().double().numpy(), axis=None)
    return ordered[[math.floor(q * (len(ordered) - 1)) for q in QUANTILES]]


def watched(model: nn.Module, optimizer: Any, steps: int = 3, **options: Any) -> DistributionHistory:
    with gs.watch(model, optimizer, distributions=True, **options) as flow:
        for (x, y), _ in zip(batches(), range(steps), strict=False):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    found = flow.history().distributions
    assert found is not None
    return found


def test_quantiles_are_those_of_plain_autograd() -> None:
    model = mlp()
    alone = deepcopy(model)
    found = watched(model, torch.optim.SGD(model.parameters(), lr=0.5), activations=True)
    plain = torch.optim.SGD(alone.parameters(), lr=0.5)
    outputs: dict[str, Tensor] = {}
    for name, layer in alone.named_children():
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    assert found.activations is not None
    assert found.activations.layers == ("0", "1", "2")
    for row, (x, y) in zip(range(3), batches(), strict=False):
        plain.zero_grad()
        cross_entropy(alone(x), y).backward()
        for place, parameter in enumerate(alone.parameters()):
            assert parameter.grad is not None
            assert np.allclose(found.gradients.values[row, place], exact(parameter.grad), **TOLERANCE)
            assert np.allclose(found.weights.values[row, place], exact(parameter), **TOLERANCE)
        for place, name in enumerate(found.activations.layers):
            assert np.allclose(found.activations.values[row, place], exact(outputs[name]), **TOLERANCE)
        plain.step()
    assert found.gradients.layers == found.weights.layers == ("0.weight", "0.bias", "2.weight", "2.bias")


def test_the_training_is_not_touched() -> None:
    def trained(**options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
        optimizer = torch.optim.Adam(model.parameters())
        flow = gs.watch(model, optimizer, **options) if options else None
        for x, y in batches():
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        if flow is not None:
            assert flow.history().distributions is not None
            assert flow.notes == []
            flow.close()
        state = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]
        return [*state, torch.get_rng_state()]

    plain, watched_too = trained(), trained(distributions=True, activations=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched_too, strict=True))


def test_an_accumulated_step_has_the_sum_of_gradients_and_all_outputs() -> None:
    model, (x, y) = mlp(), examples()
    alone = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, distributions=True, activations=True) as flow:
        for part, of in zip(x.split(8), y.split(8), strict=True):
            cross_entropy(model(part), of, reduction="sum").backward()
        optimizer.step()
    cross_entropy(alone(x), y, reduction="sum").backward()
    found = flow.history().distributions
    assert found is not None
    assert found.activations is not None
    for place, parameter in enumerate(alone.parameters()):
        assert parameter.grad is not None
        assert np.allclose(found.gradients.values[0, place], exact(parameter.grad), rtol=0.06, atol=1e-5)
    assert np.allclose(found.activations.values[0, 2], exact(alone(x)), rtol=0.06, atol=1e-6)
    histograms = flow.histograms()
    assert histograms is not None
    assert histograms.layers["activations"]["2"].counts.sum() == alone(x).numel()


def test_micro_batches_may_have_more_numbers_than_32_bits_count() -> None:
    sketches = Activations(1)
    for _ in range(3):
        sketches._add_sketch("layer", torch.full((4,), 2**30, dtype=torch.int32))
    assert sketches.take_sketches()["layer"].tolist() == [3 * 2**30] * 4


def test_gradients_are_those_of_the_step_clipped_and_of_a_closure() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = examples()
    with gs.watch(model, optimizer, distributions=True) as flow:
        cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    found = flow.history().distributions
    assert found is not None
    assert model[0].weight.grad is not None
    assert np.allclose(found.gradients.values[0, 0], exact(model[0].weight.grad), **TOLERANCE)

    model = mlp()
    second = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=1)

    def closure() -> Tensor:
        second.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    with gs.watch(model, second, distributions=True) as flow:
        second.step(closure)
    found = flow.history().distributions
    assert found is not None
    assert np.allclose(found.gradients.values[0, 0], exact(model[0].weight.grad), **TOLERANCE)


def test_what_is_not_finite_is_counted_apart() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, distributions=True) as flow:
        model(examples()[0]).sum().backward()
        assert model[0].weight.grad is not None
        model[0].weight.grad.view(-1)[:6] = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 1.0, 1e-30])
        rest = model[0].weight.grad.clone()
        optimizer.step()
    found = flow.history().distributions
    assert found is not None
    values = rest[rest.isfinite()]
    assert np.allclose(found.gradients.values[0, 0], exact(values), **TOLERANCE)
    shares = [float(getattr(found.gradients, name)[0, 0]) for name in ("zeros", "infinite", "nan")]
    assert np.allclose(shares, [(values == 0).sum() / 48, 2 / 48, 1 / 48])


@pytest.mark.parametrize(("every", "expected"), [(None, [0, 1, 2, 3, 4, 20]), (4, [0, 4, 8, 12, 16, 20])])
def test_cadence_of_a_small_model(every: int | None, expected: list[int]) -> None:
    model, (x, y) = mlp(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, every, distributions=True) as flow:
        for _ in range(22):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    found = flow.history().distributions
    assert found is not None
    assert found.steps.tolist() == expected


def test_a_large_model_is_read_as_often_as_its_part_of_the_time_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradscape.measure.watch.schedule.SMALL", 0)
    monkeypatch.setattr("gradscape.measure.watch.distribution_reader.BUDGET", 1e-9)
    model = mlp()
    assert watched(model, torch.optim.SGD(model.parameters(), lr=0.1), 8).steps.tolist() == [0, 1, 2, 3, 4]


def test_optimizers_that_take_turns_and_parameters_that_come_later() -> None:
    model, (x, y) = mlp(), examples()
    model[2].requires_grad_(False)
    first, second = (torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2))
    with gs.watch(model, [first, second], distributions=True, every=1) as flow:
        for step in range(3):
            if step == 1:
                model[2].requires_grad_(True)
            cross_entropy(model(x), y).backward()
            first.step()
            second.step()
    found = flow.history().distributions
    assert found is not None
    assert set(found.gradients.layers) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    late = found.gradients.values[:, found.gradients.layers.index("2.weight"), 3]
    assert np.isnan(late[0])
    assert np.isfinite(late[1:]).all()


def test_an_error_ends_the_distributions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Tensor:
        raise RuntimeError("no room")

    monkeypatch.setattr("gradscape.measure.watch.distribution_reader.sketch", broken)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, distributions=True, activations=True)
    with pytest.warns(UserWarning, match="distributions are not read, since step 0: RuntimeError: no room"):
        out = model(examples()[0])
    cross_entropy(out, examples()[1]).backward()
    optimizer.step()
    assert flow.history().distributions is None
    assert len(flow.history().steps) == 1
    assert flow.history().activations is not None
    assert flow.histograms() is None


def test_drawings_and_wrong_names() -> None:
    model = mlp()
    found = watched(model, torch.optim.SGD(model.parameters(), lr=0.1))
    axes = found.plot(layer="2.weight", quantity="weights")
    assert axes.get_ylabel() == "W of 2.weight"
    assert axes.get_yscale() == "symlog"
    with pytest.raises(ConfigError, match=r"quantity: expected one of gradients, weights; got 'gradient'"):
        found.plot(quantity="gradient")
    with pytest.raises(ConfigError, match=r"layer: expected one of the 4 layers in weights.layers; got '2'"):
        found.plot(layer="2", quantity="weights")
    assert DistributionHistory(**vars(found)) == found
    assert str(found) == "quantiles at 3 readings: 4 of gradients, 4 of weights"
