"""The loss as a watch sees it: its values, the data and modes around it, and a training that is as it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.watch import backward
from gradscape.measure.watch.loss_values import CHUNK, LossValues
from gradscape.measure.watch.summaries import summarize
from gradscape.records.loss import LossHistory


def made() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def batch(step: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
    return x, x[:, :3].argmax(1)


def seen(
    loop: Callable[[nn.Module, torch.optim.Optimizer], list[float]], **options: Any
) -> tuple[LossHistory, list[float]]:
    """What a watch says of the loss, beside what the loop says of it itself."""
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, **options) as flow:
        told = loop(model, optimizer)
    loss = flow.history().loss
    assert loss is not None
    assert not [note for note in flow.notes if "loss" in note]
    return loss, told


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for step in range(12):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for step in range(6):
        optimizer.zero_grad()
        losses = [cross_entropy(model(x), y) for x, y in (batch(2 * step), batch(2 * step + 1))]
        for loss in losses:
            (loss / 2).backward()
        optimizer.step()
        found.append(sum(loss.item() for loss in losses) / 2)
    return found


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    found = []
    for step in range(6):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("loop", [plain, accumulated, scaled])
def test_the_loss_of_every_step_is_the_loop_s(loop: Callable[..., list[float]]) -> None:
    loss, told = seen(loop)
    assert loss.steps.tolist() == list(range(len(told)))
    assert loss.values.tolist() == pytest.approx(told, rel=1e-6)


def test_the_samples_behind_a_loss_that_is_not_finite() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        x, y = batch()
        x[[2, 11], 3] = torch.tensor([float("nan"), float("inf")])
        cross_entropy(model(x), y).backward()
        optimizer.step()
        return []

    loss, _ = seen(loop)
    inputs = loss.readings[0].inputs
    assert inputs is not None
    assert inputs.broken == (2, 11)
    healthy, _ = seen(plain)
    assert all(each.inputs is not None and each.inputs.broken == () for each in healthy.readings)


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (torch.zeros(3, 2), ()),
        (torch.full((20, 2), float("nan")), tuple(range(8))),
        (torch.tensor([[1.0], [float("-inf")], [0.0]]), (1,)),
        (torch.tensor([0.0, float("nan")], dtype=torch.float16), (1,)),
        (torch.full((4, 4), 6e4, dtype=torch.float16), ()),
        (torch.tensor([1j, complex("nan")]), (1,)),
        (torch.arange(4), ()),
        (torch.tensor(float("nan")), ()),
    ],
)
def test_rows_that_are_not_finite(values: Tensor, rows: tuple[int, ...]) -> None:
    assert summarize(values).read().broken == rows


def test_a_step_without_a_loss_has_none() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        x, y = batch()
        for step in range(3):
            optimizer.zero_grad()
            if step != 1:
                cross_entropy(model(x), y).backward()
            else:
                model(x).backward(torch.ones(16, 3))
            optimizer.step()
        return []

    loss, _ = seen(loop)
    assert loss.steps.tolist() == [0, 2]


def test_another_model_s_loss_is_not_ours() -> None:
    other = nn.Linear(6, 3)

    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        x, y = batch()
        mse_loss(other(x), torch.zeros(16, 3)).backward()
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return [loss.item()]

    loss, told = seen(loop)
    assert loss.values.tolist() == pytest.approx(told)


def test_chunks_are_joined_in_order() -> None:
    values = LossValues()
    for step in range(2 * CHUNK + 7):
        values.add_pass(torch.tensor(float(step)))
        values.end_step(step)
        if step == CHUNK:
            assert values.read()[1].tolist() == list(range(CHUNK + 1))
    steps, read = values.read()
    assert steps.tolist() == read.tolist() == list(range(2 * CHUNK + 7))


def test_inputs_and_modes_are_read() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        model.eval()
        x, y = batch()
        x = torch.cat([200 + 50 * x[:8]] * 2)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        return []

    loss, _ = seen(loop)
    (reading,) = loss.readings
    x = torch.cat([200 + 50 * batch()[0][:8]] * 2)
    assert reading.inputs is not None
    assert (reading.inputs.low, reading.inputs.high) == pytest.approx((x.min().item(), x.max().item()))
    assert reading.inputs.mean == pytest.approx(x.mean().item(), rel=1e-5)
    assert reading.inputs.std == pytest.approx(x.std(correction=0).item(), rel=1e-5)
    spread = x.std(dim=0, correction=0)
    assert reading.input_features == pytest.approx((spread.min().item(), spread.max().item()), rel=1e-5)
    assert reading.equal_samples == 1
    assert reading.evaluating == ("1", "3")
    assert (reading.calls, reading.silent_calls) == (1, 0)


def test_calls_without_a_gradient_are_counted() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        for step in range(3):
            x, _ = batch(step)
            optimizer.zero_grad()
            mse_loss(model(x), model(x + 1).detach()).backward()
            optimizer.step()
            with torch.no_grad():
                model(x)
        return []

    loss, _ = seen(loop)
    assert [(each.calls, each.silent_calls) for each in loss.readings] == [(2, 1), (3, 2), (3, 2)]


@dataclass
class Losses:
    """What some libraries return."""

    loss: Tensor
    logits: Tensor


class Odd(nn.Module):
    """A model whose output and arguments are of a form of their own."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.inner = form, nn.Linear(6, 3)

    def forward(self, x: Any, y: Any = None) -> Any:
        out = self.inner(x["x"] if isinstance(x, dict) else x)
        if self.form == "complex":
            return torch.complex(out, out)
        if self.form == "integers":
            return out.argmax(1), out
        return {"record": Losses(cross_entropy(out, batch()[1]), out), "dict": {"a": out}}.get(self.form, out)


ODD: dict[str, Callable[[Any], Tensor]] = {
    "complex": lambda out: out.abs().square().mean(),
    "integers": lambda out: out[1].square().mean(),
    "record": lambda out: out.loss,
    "dict": lambda out: out["a"].square().mean(),
    "kept": lambda out: out.square().mean(),
    "sum of two": lambda out: out.square().mean() + out.abs().mean(),
}


@pytest.mark.parametrize("form", ODD)
def test_outputs_of_any_form_are_no_error(form: str) -> None:
    model = Odd(form)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for step in range(3):
            optimizer.zero_grad()
            loss = ODD[form](model({"x": batch(step)[0]}))
            loss.backward(retain_graph=form == "kept")
            if form == "kept":
                loss.backward()
            optimizer.step()
    assert not flow.notes
    history = flow.history().loss
    assert history is not None
    assert len(history.values) == 3


def test_second_derivatives_functorch_and_lists_of_losses_are_no_error() -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()
    with gs.watch(model, optimizer) as flow:
        for _ in range(2):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
            penalty = sum(gradient.square().sum() for gradient in gradients)
            torch.autograd.backward([loss, 0.1 * penalty])
            torch.func.vmap(lambda row: model(row))(x)
            optimizer.step()
    assert not flow.notes
    assert gs.diagnose(flow).grade != "fail"


def test_weights_are_those_of_a_training_that_nobody_watches() -> None:
    watched = made()
    alone = copy.deepcopy(watched)
    for model, watch in ((watched, True), (alone, False)):
        torch.manual_seed(1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        flow = gs.watch(model, optimizer) if watch else None
        plain(model, optimizer)
        if flow is not None:
            flow.close()
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(watched.buffers(), alone.buffers(), strict=True))


class Opaque(torch.autograd.Function):
    """A loss whose graph tells nothing, as that of compiled code."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(out - y)
        return (out - y).square().mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (difference,) = ctx.saved_tensors
        return 2 * difference / difference.numel() * gradients[0], None


def test_a_loss_may_be_told() -> None:
    criterion = nn.MSELoss()
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, loss=criterion) as flow:
        for step in range(2):
            x, _ = batch(step)
            optimizer.zero_grad()
            criterion(model(x), x[:, :3]).backward()
            optimizer.step()
    with gs.watch(model, optimizer) as told:
        x, _ = batch()
        optimizer.zero_grad()
        out = model(x)
        value = Opaque.apply(out, x[:, :3])  # type: ignore[no-untyped-call]
        told.loss(value, out, x[:, :3], "mse_loss")
        value.backward()
        optimizer.step()
    for each in (flow, told):
        history = each.history().loss
        assert history is not None
        term = history.readings[-1].terms[0]
        assert term.name == "mse_loss"
        assert term.target is not None
        assert term.target.shape == (16, 3)


def trained_on_opaque(tell: Callable[..., None]) -> tuple[Any, bool]:
    """A watch of a loss whose graph tells nothing; whether the weights are those of an unwatched training."""
    trained = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        flow = gs.watch(model, optimizer) if watched else None
        for step in range(3):
            x, _ = batch(step)
            optimizer.zero_grad()
            out = model(x)
            value = Opaque.apply(out, x[:, :3])  # type: ignore[no-untyped-call]
            if flow is not None:
                tell(flow, value, out, x[:, :3])
            value.backward()
            optimizer.step()
        trained.append(model.weight.detach().clone())
    assert flow is not None
    flow.close()
    return flow, torch.equal(*trained)


@pytest.mark.parametrize(
    ("tell", "says"),
    [
        (lambda flow, value, out, y: flow.loss(value.item(), out, y), "a tensor of one number; got float"),
        (lambda flow, value, out, y: flow.loss(None, out, y), "a tensor of one number; got NoneType"),
        (lambda flow, value, out, y: flow.loss(out, y, value), r"one number; got float32 \(16, 3\); type"),
        (lambda flow, value, out, y: flow.loss(value + 0j, out, y), r"got complex64 \(\)"),
        (lambda flow, value, out, y: flow.loss(value, (out, out), y), "output: .*got tuple"),
        (lambda flow, value, out, y: flow.loss(value, out, y.numpy()), "target: .* got ndarray"),
        (lambda flow, value, out, y: flow.loss(value, out, y, "mseloss"), "did you mean 'mse_loss'"),
        (lambda flow, value, out, y: flow.loss(value, out, y, mse_loss), "name: expected the name of"),
    ],
)
def test_a_loss_told_amiss_is_one_note(tell: Callable[..., None], says: str) -> None:
    with pytest.warns(UserWarning, match=says):
        flow, same = trained_on_opaque(tell)
    (note,) = flow.notes
    assert re.search(says, note)
    assert same
    assert not flow.error
    assert flow.history().steps.tolist() == [0, 1, 2]
    assert flow.history().steps.tolist() == [0, 1, 2]


@pytest.mark.parametrize("change", [lambda y: y.to_sparse(), lambda y: y.to("meta")], ids=["sparse", "meta"])
def test_a_told_tensor_that_cannot_be_read_is_its_shape(change: Callable[[Tensor], Tensor]) -> None:
    flow, same = trained_on_opaque(
        lambda flow, value, out, y: flow.loss(value, change(out), change(y), "cross_entropy")
    )
    assert same
    assert not flow.notes
    (term, *_) = flow.history().loss.readings[0].terms
    assert term.name == "cross_entropy"
    assert term.target.shape == (16, 3)
    assert term.predicted_counts == ()


def test_a_criterion_may_be_called_by_keywords() -> None:
    class Hidden(nn.MSELoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return Opaque.apply(input, target)  # type: ignore[no-untyped-call]

    Hidden.__name__ = "MSELoss"
    criterion = Hidden()
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, loss=criterion) as flow:
        x, _ = batch()
        criterion(target=x[:, :2], input=model(x)[:, :2]).backward()
        optimizer.step()
    (term,) = flow.history().loss.readings[0].terms  # type: ignore[union-attr]
    assert (term.name, term.shapes) == ("mse_loss", ((16, 2), (16, 2)))
    assert term.target is not None
    assert term.target.low == x[:, :2].min()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_scripted_criterion_is_a_note() -> None:
    criterion = torch.jit.script(nn.MSELoss())  # type: ignore[no-untyped-call]
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, loss=criterion) as flow:
        x, _ = batch()
        criterion(model(x), x[:, :3]).backward()
        optimizer.step()
    assert flow.notes == ["the loss given is scripted, which takes no hooks: its graph alone is read"]
    assert len(flow.history().loss.values) == 1  # type: ignore[union-attr]
    assert not model._forward_hooks


@pytest.mark.parametrize("begin", ["generator", "edge"])
def test_a_backward_pass_may_begin_with_no_tensor(begin: str) -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        found = []
        for step in range(3):
            x, y = batch(step)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            if step != 1:
                loss.backward()
                found.append(loss.item())
            elif begin == "generator":
                torch.autograd.backward(each for each in (loss,))  # type: ignore[arg-type]
            else:
                edge = torch.autograd.graph.get_gradient_edge(loss)
                torch.autograd.backward(edge, grad_tensors=torch.ones(()))  # type: ignore[arg-type]
            optimizer.step()
        return found

    loss, values = seen(loop)
    assert loss.steps.tolist() == [0, 2]
    assert loss.values.tolist() == pytest.approx(values)


def test_a_function_as_the_loss_is_refused_in_a_line() -> None:
    model = nn.Linear(6, 3)
    with pytest.raises(
        ConfigError, match=r"loss: expected a module .* type flow.loss\(value, output, target\)"
    ):
        gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), loss=mse_loss)


def test_torch_s_own_function_is_put_back_when_the_last_watch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_listeners", WeakSet())  # without watches that other tests have left open
    monkeypatch.setattr(torch.autograd, "backward", backward._torchs_own)
    model = nn.Linear(6, 3)
    optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()]
    first, second = gs.watch(model, optimizers), gs.watch(nn.Sequential(model), optimizers)
    assert torch.autograd.backward is not backward._torchs_own
    first.close()
    assert torch.autograd.backward is not backward._torchs_own
    second.close()
    assert torch.autograd.backward is backward._torchs_own


def test_a_library_that_wraps_the_same_function_later_keeps_its_wrapper() -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = torch.autograd.backward
    flow = gs.watch(model, optimizer)
    ours = torch.autograd.backward

    def theirs(*arguments: Any, **named: Any) -> None:
        ours(*arguments, **named)

    torch.autograd.backward = theirs
    flow.close()
    try:
        assert torch.autograd.backward is theirs
        model(batch()[0]).sum().backward()
    finally:
        torch.autograd.backward = before


def test_a_history_with_a_loss_is_written_and_read() -> None:
    loss, _ = seen(plain)
    assert loss.plot().lines[0].get_ydata().tolist() == loss.values.tolist()  # type: ignore[union-attr]
    assert str(loss).startswith("loss of 12 steps: ")
    assert np.isfinite(loss.to_dict()["values"]).all()
    assert loss.to_dict()["readings"][0]["inputs"]["shape"] == [16, 6]


def test_another_model_s_passes_cost_an_open_watch_nothing() -> None:
    model, other = nn.Linear(6, 3), nn.Linear(6, 3)
    flow = gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = flow._recorder.loss.spent
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for _ in range(3):
        mse_loss(other(batch()[0]), torch.zeros(16, 3)).backward()
        optimizer.step()
    assert flow._recorder.loss.spent == before
    assert not flow.history().loss.readings  # type: ignore[union-attr]
