"""A step repeated: a bad batch is blamed, the state where any batch does it, and nothing is changed."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.records.replay import Effect, ReplayRecord

Batches = list[tuple[Tensor, Tensor]]


def trained(seed: int = 0, dropout: float = 0.0) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
    """A small classifier after 120 steps of AdamW, with BatchNorm, and nine batches to come."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(16, 4, generator=generator)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 4)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def draw() -> tuple[Tensor, Tensor]:
        x = torch.randn(32, 16, generator=generator)
        return x, (x @ teacher).argmax(1)

    for _ in range(120):
        x, y = draw()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, optimizer, [draw() for _ in range(9)]


def spoiled(batches: Batches, fault: str, place: int = 4) -> Batches:
    x, y = batches[place]
    bad = (1_000 * x, y) if fault == "inputs" else (x, y.roll(1))
    return [*batches[:place], bad, *batches[place + 1 :]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", ["inputs", "labels"])
def test_a_bad_batch_is_the_cause(fault: str, seed: int) -> None:
    model, optimizer, batches = trained(seed)
    if fault == "inputs":  # BatchNorm takes the scale out
        model[1] = nn.Identity()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    record = gs.replay(model, optimizer, spoiled(batches, fault), cross_entropy, suspect=4)
    assert record.verdict == "batch"
    assert str(record).startswith("the batch was the cause (its own loss is ")
    assert record.own_loss.suspect > 2
    assert record.own_loss.n == 8


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_is_too_large_is_the_state(seed: int) -> None:
    model, optimizer, batches = trained(seed)
    optimizer.param_groups[0]["lr"] *= 100
    record = gs.replay(model, optimizer, batches, cross_entropy, suspect=4)
    assert record.verdict == "state"
    assert "a step with any other batch makes the loss" in record.reason
    assert record.rise.low > 1.05


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_step_is_not_decided(seed: int) -> None:
    model, optimizer, batches = trained(seed)
    record = gs.replay(model, optimizer, batches, cross_entropy, suspect=4)
    assert record.verdict == "not decided"
    assert "nothing" not in record.reason
    assert "stands out" in record.reason


def test_a_state_that_is_harmed_before_the_step_is_known_by_the_usual_loss() -> None:
    model, optimizer, batches = trained()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    plain = gs.replay(model, optimizer, batches, cross_entropy, suspect=0)
    assert plain.verdict == "not decided"
    record = gs.replay(model, optimizer, batches, cross_entropy, suspect=0, usual=0.3)
    assert record.verdict == "state"
    assert "before the step the loss of any batch is" in record.reason


def test_both_together() -> None:
    model, optimizer, batches = trained()
    optimizer.param_groups[0]["lr"] *= 100
    record = gs.replay(model, optimizer, spoiled(batches, "labels"), cross_entropy, suspect=4)
    assert record.verdict == "both"


def test_the_step_is_the_training_s_own() -> None:
    """Losses, norms and clipping against the step made by hand, with Adam's state and the generator's."""
    model, optimizer, batches = trained(dropout=0.3)
    torch.manual_seed(5)
    record = gs.replay(model, optimizer, batches, cross_entropy, suspect=0, clip=0.1)
    x, y = batches[0]
    value = cross_entropy(model(x), y)
    optimizer.zero_grad()
    value.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    start = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    steps = [p.detach() - s for p, s in zip(model.parameters(), start, strict=True)]
    moved = math.hypot(*(float(each.norm()) for each in steps))
    assert record.own[0] == float(value.detach())
    assert record.gradient[0] == pytest.approx(float(norm), rel=1e-5)
    assert record.update[0] == pytest.approx(moved, rel=1e-5)
    torch.manual_seed(5)
    with torch.no_grad():
        assert record.after[0, 0] == pytest.approx(float(cross_entropy(model(batches[1][0]), batches[1][1])))
    assert record.judged.tolist() == list(range(1, 9))


def test_everything_is_left_as_found_and_two_replays_are_equal() -> None:
    model, optimizer, batches = trained(dropout=0.3)
    cross_entropy(model(batches[0][0]), batches[0][1]).backward()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()]))
    torch.manual_seed(3)
    first = gs.replay(model, optimizer, spoiled(batches, "labels"), cross_entropy, suspect=4)
    draw = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(draw, torch.rand(2))
    torch.manual_seed(3)
    assert gs.replay(model, optimizer, spoiled(batches, "labels"), cross_entropy, suspect=4) == first
    after = (model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()])
    assert all(map(torch.equal, before[0].values(), after[0].values()))
    assert all(map(torch.equal, before[2], after[2]))
    for key, entries in before[1]["state"].items():
        assert all(torch.equal(value, after[1]["state"][key][name]) for name, value in entries.items())
    assert model.training


def test_a_watch_does_not_notice() -> None:
    model, optimizer, batches = trained()
    flow = gs.watch(model, optimizer)
    gs.replay(model, optimizer, batches, cross_entropy, suspect=4)
    assert (flow.steps, flow.rows, flow.notes) == (0, 0, [])


def test_held_out_batches_judge() -> None:
    model, optimizer, batches = trained()
    record = gs.replay(
        model, optimizer, batches[:5], cross_entropy, suspect=1, held_out=batches[5:], usual=0.5
    )
    assert record.judged.tolist() == [-1] * 4
    assert record.after.shape == (5, 4)


def test_two_other_batches_do_not_decide() -> None:
    model, optimizer, batches = trained()
    record = gs.replay(model, optimizer, spoiled(batches, "labels")[3:6], cross_entropy, suspect=1)
    assert record.verdict == "not decided"
    assert "2 other batches: give 3 at least" in str(record)
    one = gs.replay(model, optimizer, batches[:2], cross_entropy, suspect=1)
    assert one.verdict == "not decided"


def test_an_effect_has_the_intervals_of_student_s_t() -> None:
    others = np.log([1.0, 1.1, 0.9, 1.05])
    effect = Effect.of(math.log(3), others)
    half = 7.453319 * others.std(ddof=1)  # t of 3 degrees at 99.5 %
    assert math.log(effect.high) == pytest.approx(others.mean() + half / 2)
    assert math.log(effect.most) == pytest.approx(others.mean() + half * math.sqrt(1.25))
    assert effect.stands_out(1.5)
    assert not effect.all_rise(1.05)


def test_losses_that_are_not_finite_are_blamed_too() -> None:
    model, optimizer, batches = trained()
    x, y = batches[4]
    broken = [*batches[:4], (x.clone().fill_(math.nan), y), *batches[5:]]
    record = gs.replay(model, optimizer, broken, cross_entropy, suspect=4)
    assert record.verdict == "batch"
    assert record.to_dict()["own"][4] == "NaN"


def test_a_loss_that_is_0_by_rounding_is_no_error() -> None:
    model, optimizer, batches = trained()
    zero = [*batches[:4], (torch.zeros(32, 16), torch.full((32,), -100)), *batches[5:]]
    summed = nn.CrossEntropyLoss(reduction="sum")
    record = gs.replay(model, optimizer, zero, summed, suspect=4)
    assert record.own[4] == 0
    assert record.verdict == "not decided"
    assert math.isfinite(record.own_loss.suspect)


def wrong(**changes: Any) -> ReplayRecord:
    model, optimizer, batches = trained()
    given = {"model": model, "optimizer": optimizer, "batches": batches, "loss": cross_entropy, "suspect": 4}
    given |= changes
    return gs.replay(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suspect": 9}, r"suspect: expected a place in batches, 0 to 8; got 9"),
        ({"suspect": -1}, r"suspect: expected .*; got -1"),
        ({"suspect": "4"}, r"suspect: .*got '4'"),
        ({"batches": [(torch.randn(8, 16), torch.arange(8) % 4)], "suspect": 0}, "got one alone"),
        ({"loss": lambda out, y: out}, r"loss: returned a tensor of shape \(32, 4\)"),
        ({"loss": lambda out, y: mse_loss(out, out.detach()) - 1}, "loss: expected numbers of 0 or more"),
        ({"optimizer": torch.optim.SGD}, "optimizer: expected Optimizer or a list"),
        ({"optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1)}, "trains no parameter of"),
        ({"clip": 0}, "clip: expected a number above 0; got 0"),
        ({"usual": math.nan}, "usual: expected a number above 0; got nan"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        wrong(**changes)
    assert "\n" not in str(caught.value)
