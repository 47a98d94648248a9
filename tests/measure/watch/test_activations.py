"""Outputs read while training against direct arithmetic, in every kind of training, and their verdicts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import gradscape as gs
from gradscape.measure.watch.watch import Watch
from gradscape.records.activations import ActivationHistory
from gradscape.records.gradients import FlowHistory

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def net(act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), act(), nn.Linear(8, 8), act(), nn.Linear(8, 3))


def run(
    model: nn.Module,
    steps: int = 3,
    forward: Callable[[nn.Module, Tensor], Tensor] = lambda model, x: model(x),
    lr: float = 0.1,
    every: int | None = None,
    x: Tensor = X,
) -> Watch:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    flow = gs.watch(model, optimizer, every=every, activations=True)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(forward(model, x), Y[: len(x)]).backward()
        optimizer.step()
    return flow


def outputs(flow: Watch) -> ActivationHistory:
    found = flow.history().activations
    assert found is not None
    return found


def square(values: Tensor) -> float:
    return float(values.detach().double().square().mean())


def cosine(values: Tensor) -> float:
    """Mean over pairs, the textbook's way."""
    h = values.detach().double().flatten(1)
    pairs = F.cosine_similarity(h[:, None], h[None], dim=2)
    n = len(h)
    return float((pairs.sum() - n) / (n * (n - 1)))


def test_every_number_equals_direct_arithmetic_on_the_weights_of_that_step() -> None:
    model, twin = net(), net()
    seen = outputs(run(model, steps=2))
    assert seen.layers == ("input", "0", "1", "2", "3", "4")
    assert seen.kinds == ("input", "linear", "activation", "linear", "activation", "linear")
    assert seen.widths == (6, 8, 8, 8, 8, 3)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for t in range(2):
        values = [X]
        for layer in twin:
            values.append(layer(values[-1]))
        for column, h in enumerate(values):
            assert seen.second_moment[t, column] == pytest.approx(square(h), rel=1e-6)
        for column in (0, 1, 3, 5):
            assert seen.correlation[t, column] == pytest.approx(cosine(values[column]), abs=1e-6)
        for column in (2, 4):
            assert seen.dead[t, column] == float((values[column] <= 0).all(0).double().mean())
        assert np.isnan(seen.dead[t, [0, 1, 3, 5]]).all()
        optimizer.zero_grad()
        cross_entropy(values[-1], Y).backward()
        optimizer.step()


def test_saturated_shares_are_of_values_where_the_slope_is_below_a_hundredth() -> None:
    model = net(nn.Sigmoid)
    with torch.no_grad():
        model[0].weight *= 40
        hidden = model[0](X).double()
    slope = torch.sigmoid(hidden) * (1 - torch.sigmoid(hidden)) * 4
    seen = outputs(run(model, steps=1))
    assert seen.saturated[0, 2] == pytest.approx(float((slope < 0.01).double().mean()))
    assert np.isnan(seen.saturated[0, 1])


class Convolutional(nn.Module):
    """Activations as functions, one module called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.act = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1), nn.ReLU(True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.b(self.act(self.a(x))))
        return self.head(F.relu(h).mean((2, 3)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions_in_either_layout_and_a_module_that_is_called_twice(layout: torch.memory_format) -> None:
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    model = Convolutional()
    a = model.a(x)
    b = model.b(torch.relu(a))
    seen = outputs(run(model.to(memory_format=layout), steps=1, x=x.to(memory_format=layout)))
    assert seen.layers == ("input", "a", "act", "b", "act (call 2)", "head")
    for column, h in {1: a, 2: torch.relu(a), 3: b, 4: torch.relu(b)}.items():
        assert seen.second_moment[0, column] == pytest.approx(square(h), rel=1e-5)
    for column, h in {1: a, 3: b}.items():
        assert seen.correlation[0, column] == pytest.approx(cosine(h), abs=1e-5)
    unused = (torch.relu(b).mean((2, 3)) == 0).all(0).double().mean()  # of what functions made for the head
    assert seen.dead[0, 5] == float(unused)
    assert seen.dead[0, 4] == float((b <= 0).all(0).all(-1).all(-1).double().mean())


def test_tiny_signals_have_a_square() -> None:
    model = net()
    seen = outputs(run(model, steps=1, x=1e-25 * X))
    assert seen.second_moment[0, 0] == pytest.approx(1e-50 * square(X), rel=1e-5)
    assert seen.correlation[0, 0] == pytest.approx(cosine(X), abs=1e-5)


def again(model: nn.Module, x: Tensor, reentrant: bool) -> Tensor:
    hidden = checkpoint(model[:2], x.clone().requires_grad_(), use_reentrant=reentrant)
    return model[2:](hidden)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_runs_again_is_read_once_and_in_the_forward_order(reentrant: bool) -> None:
    plain = outputs(run(net()))
    seen = outputs(run(net(), forward=lambda model, x: again(model, x, reentrant)))
    names = [name for name in seen.layers if name != "input"]
    assert names == ["0", "1", "2", "3", "4"]
    columns = [seen.layers.index(name) for name in names]
    assert np.allclose(seen.second_moment[:, columns], plain.second_moment[:, 1:], rtol=1e-6)
    assert np.allclose(seen.correlation[:, columns], plain.correlation[:, 1:], atol=1e-6, equal_nan=True)


def test_evaluations_between_steps_are_not_read() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(2):
        model.eval()
        with torch.no_grad():
            model(100 * X)
            model(100 * X)
        model.train()
        optimizer.zero_grad()
        cross_entropy(model(X), Y).backward()
        optimizer.step()
    plain = outputs(run(net(), steps=2))
    assert outputs(flow).layers == plain.layers
    assert np.array_equal(outputs(flow).second_moment, plain.second_moment)


def test_a_row_is_the_mean_over_the_micro_batches_of_its_step() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    halves = [(X[:6], Y[:6]), (X[6:], Y[6:])]
    for x, y in halves:
        cross_entropy(model(x), y).backward()
    optimizer.step()
    seen = outputs(flow)
    parts = [square(x) for x, _ in halves]
    assert seen.second_moment.shape == (1, 6)
    assert seen.second_moment[0, 0] == pytest.approx(np.mean(parts), rel=1e-6)
    assert seen.correlation[0, 0] == pytest.approx(np.mean([cosine(x) for x, _ in halves]), abs=1e-6)


def test_rows_are_of_the_steps_that_were_read_and_hooks_are_there_for_them_alone() -> None:
    model = net()
    flow = run(model, steps=5, every=3)
    assert outputs(flow).steps.tolist() == flow.history().steps.tolist() == [0, 3]
    assert np.isfinite(outputs(flow).second_moment).all()
    assert not any(module._forward_hooks for child in model.children() for module in child.modules())
    flow.close()
    assert not model._forward_hooks
    assert len(outputs(flow).to_dict()["second_moment"]) == 2
    assert flow.history(since=1).activations.steps.tolist() == [3]
    flow.close()


def test_gradients_thrown_away_have_the_outputs_of_their_own_pass() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    for scale in (1.0, 2.0):
        optimizer.zero_grad()
        cross_entropy(model(scale * X), Y).backward()
    optimizer.step()
    history = flow.history()
    assert history.skipped.tolist() == [True, False]
    moments = outputs(flow).second_moment[:, 0]
    assert moments[1] == pytest.approx(4 * moments[0], rel=1e-6)


def test_several_passes_before_one_backward_are_calls_of_their_own() -> None:
    model = net()
    seen = outputs(run(model, steps=2, forward=lambda model, x: model(x) + model(-x)))
    assert [name for name in seen.layers if "call 2" in name] == [f"{n} (call 2)" for n in range(5)]
    assert np.isfinite(seen.second_moment).all()


def test_autocast_changes_neither_numbers_nor_training() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x).float()

    model = net()
    seen = outputs(run(model, steps=1, forward=forward))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = net()[0](X)
    assert seen.correlation[0, 1] == pytest.approx(cosine(hidden), abs=1e-6)


def test_weights_random_numbers_and_hooks_are_as_without() -> None:
    def trained(activations: bool) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 3)
        )
        optimizer = torch.optim.Adam(model.parameters())
        with gs.watch(model, optimizer, activations=activations):
            for _ in range(4):
                optimizer.zero_grad()
                cross_entropy(model(X), Y).backward()
                optimizer.step()
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        return list(model.state_dict().values()), torch.rand(3)

    for with_, without in zip(*(trained(each) for each in (True, False)), strict=True):
        pairs = zip(with_, without, strict=True) if isinstance(with_, list) else [(with_, without)]
        assert all(torch.equal(a, b) for a, b in pairs)


def test_an_error_of_ours_ends_the_reading_of_outputs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such axis")

    monkeypatch.setattr("gradscape.measure.watch.activations.moments", fails)
    with pytest.warns(UserWarning, match="activations are not read, since step 0: .*no such axis"):
        flow = run(net())
    history = flow.history()
    assert history.activations is None
    assert history.steps.tolist() == [0, 1, 2]
    assert any("no such axis" in note for note in history.notes)


def test_an_error_of_the_users_leaves_later_passes_right() -> None:
    class Fails(nn.Module):
        fail = True

        def forward(self, x: Tensor) -> Tensor:
            if self.fail:
                raise RuntimeError("the user's")
            return x

    bad = Fails()
    model = nn.Sequential(net(), bad)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    with pytest.raises(RuntimeError, match="the user's"):
        model(X)
    bad.fail = False
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(X), Y).backward()
        optimizer.step()
    seen = outputs(flow)
    assert np.isfinite(seen.second_moment[1, [seen.layers.index(f"0.{n}") for n in range(5)]]).all()


# Verdicts -----------------------------------------------------------------------------------------------


def verdicts(history: FlowHistory) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.layer) for finding in gs.diagnose(history).findings]


def test_dead_units_are_found_where_they_begin() -> None:
    model = net()
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    flow = run(model)
    assert verdicts(flow.history())[0] == ("dead units", "3")


def test_dead_units_behind_a_function_are_found_at_the_layer_that_gets_them() -> None:
    model = Convolutional()
    model.act = nn.Identity()
    with torch.no_grad():
        model.b.bias.fill_(-100.0)
    flow = run(model, x=torch.randn(4, 2, 6, 6))
    assert verdicts(flow.history())[0] == ("dead units", "head")


def test_saturation_is_found() -> None:
    model = net(nn.Tanh)
    with torch.no_grad():
        model[0].weight *= 1_000
    assert ("saturated", "1") in verdicts(run(model, lr=1e-3).history())


def test_a_drowned_input_is_found() -> None:
    model = net(nn.Tanh)
    with torch.no_grad():
        model[2].weight *= 1e-6
    found = verdicts(run(model, lr=1e-4).history())
    assert ("no signal from the input", "2") in found


def test_outputs_of_one_number_are_no_lost_signal() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        model[2].bias.fill_(5.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(model(X).squeeze(1), 5 + X[:, 0]).backward()
        optimizer.step()
    assert "no signal from the input" not in [name for name, _ in verdicts(flow.history())]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_the_first_layer_with_a_non_finite_output_is_named(value: float) -> None:
    class Divides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + value

    model = nn.Sequential(*net()[:2], Divides(), *net()[2:])
    finding = gs.diagnose(run(model).history()).findings[0]
    assert (finding.verdict, finding.layer) == ("non-finite", "2")
    assert "step 0" in finding.cause


def test_a_broken_batch_is_named() -> None:
    x = X.clone()
    x[3, 2] = math.nan
    assert verdicts(run(net(), x=x).history())[0] == ("non-finite", "input")


def test_outputs_broken_by_a_broken_gradient_are_not_the_cause() -> None:
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient * math.nan

    flow = run(net(), forward=lambda model, x: model[2:](Root.apply(model[:2](x))))
    finding = gs.diagnose(flow.history()).findings[0]
    assert (finding.verdict, finding.layer) == ("non-finite", "0.weight")


def test_a_healthy_training_is_healthy() -> None:
    model = net()
    assert verdicts(run(model, steps=10).history()) == [("too early to tell", "")]


def test_dead_units_behind_a_function_and_dropout_are_found() -> None:
    class Feedforward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.drop, self.b = nn.Linear(6, 8), nn.Dropout(0.1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.drop(F.relu(self.a(x))))

    model = Feedforward()
    with torch.no_grad():
        model.a.bias.fill_(-100.0)
    assert verdicts(run(model).history())[0] == ("dead units", "b")


def test_a_layer_behind_dead_units_is_not_called_vanishing() -> None:
    model = net()
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    assert "vanishing" not in [name for name, _ in verdicts(run(model).history())]


@pytest.mark.parametrize("activations", [False, True])
def test_numbers_that_steps_blew_up_are_blamed_on_the_steps(activations: bool) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e4)
    flow = gs.watch(model, optimizer, activations=activations)
    for _ in range(12):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    finding = gs.diagnose(flow).findings[0]
    assert finding.verdict == "non-finite"
    assert finding.cause.startswith("steps had replaced the weights before")
    assert finding.remedy.startswith("a lower learning rate")
    assert finding.evidence[0].value > finding.evidence[0].limit


def test_a_model_under_watch_is_copied_and_saved_without_our_hooks(tmp_path: Path) -> None:
    model = net()
    flow = run(model, steps=1)
    before = flow.history().activations
    twin = copy.deepcopy(model)
    twin(100 * X)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(X), model(X))
    calls = flow._recorder.outputs.activations.counts
    assert calls.total() == len("01234")  # only the model's own pass was read
    assert len(flow.history().activations.steps) == len(before.steps)


# Passes of no step, calls that are many, and passes that cannot be read --------------------------------


def stepped(model: nn.Module, between: Callable[[nn.Module], object] = lambda _: None) -> Watch:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(3):
        between(model)
        optimizer.zero_grad()
        cross_entropy(model(X), Y).backward()
        optimizer.step()
    return flow


def evaluated(model: nn.Module) -> list[Tensor]:
    model.eval()
    found = [model(100 * X) for _ in range(20)]
    model.train()
    return found


def saliency(model: nn.Module) -> None:
    x = (100 * X).requires_grad_()
    torch.autograd.grad(model(x).sum(), x)


KEPT: list[Tensor] = []
BETWEEN: dict[str, Callable[[nn.Module], object]] = {
    "evaluation that forgets no_grad": evaluated,
    "evaluation whose outputs are kept": lambda model: KEPT.extend(evaluated(model)[:1]),
    "evaluation whose outputs are all kept": lambda model: KEPT.extend(evaluated(model)),
    "gradients by the input": saliency,
    "parts called by themselves": lambda model: model[:2](100 * X),
    "vmap": lambda model: torch.func.vmap(model)(100 * X),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_passes_that_no_step_uses_are_of_no_row(name: str) -> None:
    plain = outputs(stepped(net()))
    seen = outputs(flow := stepped(net(), BETWEEN[name]))
    KEPT.clear()
    assert seen.layers == plain.layers
    assert np.array_equal(seen.second_moment, plain.second_moment)
    vmapped = ("passes within torch.func (vmap, grad, …) are not read",) if name == "vmap" else ()
    assert flow.history().notes == vmapped


def test_a_loss_over_many_kept_passes_has_them_all() -> None:
    """As of a policy gradient: a rollout's log-probabilities are summed, then comes the backward pass."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    with torch.no_grad():
        expected = [square(model[0](scale * X)) for scale in range(1, 6)]
    sum(cross_entropy(model(scale * X), Y) for scale in range(1, 6)).backward()
    optimizer.step()
    seen = outputs(flow)
    labels = ["0", *(f"0 (call {call})" for call in range(2, 6))]
    assert np.allclose([seen.second_moment[0, seen.layers.index(label)] for label in labels], expected)


class Loop(nn.Module):
    """A recurrent network, written as a loop."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.RNNCell(6, 8), nn.Linear(8, 3)

    def states(self, x: Tensor, steps: int = 100) -> list[Tensor]:
        h, found = x.new_zeros(len(x), 8), []
        for _ in range(steps):
            h = self.cell(x, h)
            found.append(h)
        return found

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.states(x)[-1])
        return out


@pytest.mark.parametrize("whole", [True, False])
def test_of_many_calls_of_a_module_some_are_read_and_said_to_be(whole: bool) -> None:
    model = Loop()
    with torch.no_grad():
        expected = [square(h) for h in model.states(X)]
    forward = (lambda model, x: model(x)) if whole else (lambda model, x: model.head(model.states(x)[-1]))
    flow = run(model, steps=1, forward=forward)
    seen = outputs(flow)
    calls = [*range(1, 9), 16, 32, 64]
    labels = ["cell", *(f"cell (call {call})" for call in calls[1:])]
    assert seen.layers == ("input", *labels, "head")
    assert np.allclose(seen.second_moment[0, 1:-1], [expected[call - 1] for call in calls], rtol=1e-6)
    assert flow.history().notes == (
        "of a module's calls in a pass after the 8th the 16th, 32nd, … alone are read",
    )


def test_layers_called_past_their_hooks_are_named() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net[1:](self.net[0].forward(x))

    assert run(Past()).history().notes == (
        "outputs of net.0 are not seen: nothing calls these modules as such, unless it is compiled code "
        "inside torch.func, torch.cond or the like",
    )


def test_an_input_of_one_number_is_not_drowned() -> None:
    """Without biases all that comes of positive numbers has one direction, and differs in length alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 3))
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(10):
        x = 5 + torch.rand(32, 1)
        optimizer.zero_grad()
        (model(x) - x).square().mean().backward()
        optimizer.step()
    assert "no signal from the input" not in [each.verdict for each in gs.diagnose(flow).findings]
