"""Spikes of a watched training: the step, the batch and the layers are those that a fault was put into."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape._codec import decode, encode, finite_or_not
from gradscape.measure.watch.batch_recorder import fingerprint
from gradscape.records.gradients import slice_rows
from gradscape.records.loss import LossHistory
from gradscape.report.interactive.document import watch_document

AT, STEPS, SIZE = 70, 105, 32


@cache
def train(
    fault: str = "", seed: int = 0, steps: int = STEPS, told: Any = None, watched: bool = True, **options: Any
) -> tuple[nn.Module, Any, list[Tensor]]:
    """A small classifier on fresh samples; at step `AT` inputs, labels or the rate are made wrong."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(16, 4, generator=generator)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    flow = gs.watch(model, optimizer, **options) if watched else None
    inputs = []
    for step in range(steps):
        x = torch.randn(SIZE, 16, generator=generator)
        y = (x @ teacher).argmax(1)
        if step == AT:
            x = 1_000 * x if fault == "inputs" else x
            y = y.roll(1) if fault == "labels" else y
        optimizer.param_groups[0]["lr"] = 0.3 if fault == "rate" and step == AT else 3e-3
        if flow is not None and told is not None:
            flow.batch(told(step))
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        inputs.append(x)
    if flow is not None:
        flow.close()  # what is cached does not listen to other tests' steps
    return model, flow, inputs


def indices(step: int) -> list[int]:
    return list(range(step * SIZE, (step + 1) * SIZE))


@pytest.mark.parametrize("fault", ["inputs", "labels"])
def test_a_bad_batch_is_named(fault: str) -> None:
    _, flow, inputs = train(fault, told=indices)
    (spike,) = flow.history().spikes
    assert (spike.first, spike.peak, spike.back) == (AT, AT, 1)
    assert spike.batch.ids == tuple(indices(AT))
    assert spike.batch.inputs == (fingerprint(inputs[AT]),)
    assert all(move.ahead == 0 and move.quantity == "gradient" for move in spike.moves[:1])
    found = next(each for each in gs.diagnose(flow).findings if each.verdict == "loss spikes")
    assert f"at step {AT}," in found.cause
    assert f"batch: ids {AT * SIZE}, {AT * SIZE + 1}" in found.cause
    assert found.grade == "warn"


def test_a_rate_that_jumps_moves_the_updates_before_the_loss() -> None:
    _, flow, _ = train("rate")
    (spike,) = flow.history().spikes
    assert AT < spike.first <= AT + 2
    assert spike.moves[0].quantity == "update"
    assert spike.moves[0].step == AT
    assert spike.moves[0].ahead == spike.first - AT
    assert spike.moves[0].factor > 20
    assert spike.update_before > 20
    assert "lower β₂" in next(e for e in gs.diagnose(flow).findings if e.verdict == "loss spikes").remedy


def test_the_window_has_the_rows_around() -> None:
    _, flow, _ = train("inputs")
    history = flow.history()
    window = history.spikes[0].window
    assert window.steps.tolist() == list(range(AT - 20, AT + 10))
    rows = slice(AT - 20, AT + 10)
    np.testing.assert_array_equal(window.losses, history.loss.values[rows])
    norms = history.rms * np.sqrt(history.sizes)
    np.testing.assert_allclose(window.gradient, np.linalg.norm(norms[rows], axis=1))
    np.testing.assert_allclose(window.update, np.linalg.norm(history.update[rows], axis=1))
    columns = [history.layers.index(name) for name in window.layers]
    np.testing.assert_array_equal(window.updates, history.update[rows][:, columns])
    assert "0.weight" in window.layers


def test_rows_of_a_spike_outlive_the_rows_in_memory() -> None:
    whole = train("inputs", steps=260, told=indices)[1].history().spikes
    flow = train("inputs", steps=260, told=indices, capacity=100)[1]
    history = flow.history()
    assert history.steps[0] > AT + 80
    assert len(history.spikes) == 1
    assert history.spikes[0].window == whole[0].window
    assert history.spikes[0].batch == whole[0].batch
    assert history.spikes[0].back == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_training_has_none(seed: int) -> None:
    _, flow, _ = train(seed=seed)
    assert flow.history().spikes == ()
    assert "loss spikes" not in {each.verdict for each in gs.diagnose(flow).findings}


def test_the_training_is_as_unwatched_bit_for_bit() -> None:
    watched, flow, _ = train("inputs", told=indices, steps=90)
    flow.history()
    draw = torch.rand(3)
    plain, _, _ = train("inputs", steps=90, watched=False)
    assert torch.equal(draw, torch.rand(3))
    for a, b in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not any(module._forward_pre_hooks for module in watched.modules())


FORMS = {
    "texts": (lambda step: [f"{step}-{i}.png" for i in range(SIZE)], (f"{AT}-0.png", f"{AT}-1.png")),
    "tensor": (lambda step: torch.tensor(indices(step)), tuple(indices(AT)[:2])),
    "array": (lambda step: np.array(indices(step)), tuple(indices(AT)[:2])),
    "many": (lambda step: range(step, step + 5_000), (AT, AT + 1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_of_several_forms(form: str) -> None:
    told, first = FORMS[form]
    batch = train("inputs", told=told)[1].history().spikes[0].batch
    assert batch.ids[:2] == first
    assert batch.count == (5_000 if form == "many" else SIZE)
    assert len(batch.ids) == min(batch.count, 1_024)
    assert f"{first[0]}, {first[1]}" in str(batch)
    if form == "many":
        assert str(batch).endswith("and 4992 more")


@pytest.mark.parametrize(
    ("ids", "got"),
    [(7, "got 7"), ("abc", "got 'abc'"), ([1.5], "got 1.5 among"), (torch.zeros(2, 2), "of shape")],
)
def test_ids_that_cannot_be_used_are_left_out_with_a_note(ids: object, got: str) -> None:
    with pytest.warns(UserWarning, match=r"flow\.batch was given is left out"):
        _, flow, _ = train(told=lambda _: ids, steps=3)
    assert [got in note for note in flow.notes] == [True]


def test_without_ids_a_batch_is_known_by_what_the_model_was_given() -> None:
    _, flow, inputs = train("inputs")
    (spike,) = flow.history().spikes
    (seen,) = spike.batch.inputs
    assert (seen.shape, seen.dtype, seen.nonfinite) == ((SIZE, 16), "float32", 0)
    assert seen.std == pytest.approx(float(inputs[AT].std(correction=0)))
    assert seen.hash == fingerprint(inputs[AT]).hash != fingerprint(inputs[AT - 1]).hash
    assert f"hash {seen.hash}" in str(spike.batch)


def test_a_remainder_at_the_end_of_an_epoch_is_known_as_small_with_its_share() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for size in (8, 8, 8, 1, 8, 8, 8, 1, 8, 6):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(size, 4)), torch.arange(size) % 3).backward()
            optimizer.step()
        history = flow.history()
    assert history.loss is not None
    assert history.loss.small == ((3, 1 / 8), (7, 1 / 8))
    early = slice_rows(history, slice(5)).loss
    assert early is not None
    assert early.small == ((3, 1 / 8),)
    assert decode(LossHistory, encode(history.loss)).small == history.loss.small


def test_the_fingerprint_of_tokens_and_of_what_is_broken() -> None:
    tokens = fingerprint(torch.tensor([[3, 3, 3, 7]]))
    assert (tokens.low, tokens.high, tokens.commonest, tokens.zeros) == (3, 7, 0.75, 0)
    assert "3 to 7, 75 % of them alike" in str(tokens)
    broken = fingerprint(torch.tensor([0.0, 1.0, math.nan, math.inf]))
    assert (broken.mean, broken.zeros, broken.nonfinite) == (0.5, 0.25, 0.5)
    assert math.isnan(broken.commonest)
    large = torch.arange(100_000.0).reshape(100, 1_000)
    assert fingerprint(large).hash != fingerprint(large + 1).hash
    assert str(fingerprint(torch.zeros(2, 0))) == "float32 (2, 0)"


def test_spikes_are_written_and_read_again() -> None:
    loss = train("inputs", told=indices)[1].history().loss
    again = decode(LossHistory, finite_or_not(encode(loss)))
    assert again == loss
    assert again.spikes[0].window == loss.spikes[0].window


def test_the_page_marks_a_spike_and_names_its_batch() -> None:
    history = train("inputs", told=indices)[1].history()
    (curve,) = watch_document(history, None, ())["curves"]
    (event,) = curve["events"]
    assert event["step"] == AT
    assert event["text"].startswith("spike: loss ")
    assert f"batch: ids {AT * SIZE}, " in event["text"]
    assert "first moved the gradient of 0.weight" in event["text"]
