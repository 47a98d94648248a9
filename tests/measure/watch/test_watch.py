"""What a watch reads against plain float64 arithmetic, in every kind of training; the training as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import gradscape as gs
from gradscape.errors import ConfigError

CLOSE = {"rtol": 1e-6, "atol": 1e-30}


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def batches(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(10, 6, generator=generator), torch.randint(0, 3, (10,), generator=generator))
        for _ in range(count)
    ]


def gradients(model: nn.Module) -> list[np.ndarray]:
    return [p.grad.detach().double().numpy().copy() for p in model.parameters()]


def weights(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().double().numpy().copy() for p in model.parameters()]


def test_every_statistic_equals_direct_arithmetic() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    flow = gs.watch(model, optimizer)
    seen = []
    for x, y in batches():
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        before, found = weights(model), gradients(model)
        optimizer.step()
        seen.append((before, found, weights(model)))
    history = flow.history()
    assert history.layers == tuple(name for name, _ in model.named_parameters())
    assert history.kinds == ("linear", "bias") * 3
    assert history.shapes == tuple(tuple(parameter.shape) for parameter in model.parameters())
    assert history.modules == ("Sequential", "Linear", "Tanh")
    assert history.steps.tolist() == [0, 1, 2, 3]
    assert not history.skipped.any()
    for t, (before, found, after) in enumerate(seen):
        for i, (w, g, v) in enumerate(zip(before, found, after, strict=True)):
            assert np.allclose(history.mean_abs[t, i], np.abs(g).mean(), **CLOSE)
            assert np.allclose(history.max_abs[t, i], np.abs(g).max(), **CLOSE)
            assert np.allclose(history.rms[t, i], np.sqrt((g**2).mean()), **CLOSE)
            assert history.zeros[t, i] == (g == 0).mean()
            assert history.nonfinite[t, i] == 0
            assert np.allclose(history.weight[t, i], np.linalg.norm(w), **CLOSE)
            assert np.allclose(history.update[t, i], np.linalg.norm(v - w), rtol=1e-4)
            if t:
                last = seen[t - 1][1][i]
                cosine = (g * last).sum() / np.linalg.norm(g) / np.linalg.norm(last)
                assert np.allclose(history.agreement[t, i], cosine, atol=1e-6)
    assert np.isnan(history.agreement[0]).all()


def test_gradients_too_small_to_square_are_measured() -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    flow = gs.watch(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        (1e-30 * model(torch.ones(1, 4)).sum()).backward()
        optimizer.step()
    history = flow.history()
    assert np.allclose(history.rms, 1e-30, rtol=1e-6, atol=0)
    assert np.allclose(history.agreement[1], 1, rtol=1e-6)


TRAININGS: dict[str, Callable[[nn.Module, torch.optim.Optimizer, list[tuple[Tensor, Tensor]]], None]] = {}


def training(
    act: Callable[[nn.Module, torch.optim.Optimizer, list[tuple[Tensor, Tensor]]], None],
) -> Callable[..., None]:
    TRAININGS[act.__name__] = act
    return act


@training
def plain(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]) -> None:
    for x, y in data:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


@training
def clipped(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]) -> None:
    for x, y in data:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()


@training
def accumulated(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:
        optimizer.zero_grad()
        for part in range(2):
            (cross_entropy(model(x[part::2]), y[part::2]) / 2).backward()
        optimizer.step()


@training
def zeroed_in_place(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:
        optimizer.zero_grad(set_to_none=False)
        cross_entropy(model(x), y).backward()
        optimizer.step()


@training
def with_closure(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)


@training
def checkpointed(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:
        optimizer.zero_grad()
        hidden = checkpoint(model[:2], x, use_reentrant=False)
        cross_entropy(model[2:](hidden), y).backward()
        optimizer.step()


@training
def checkpointed_reentrant(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:
        optimizer.zero_grad()
        hidden = checkpoint(model[:2], x.requires_grad_(), use_reentrant=True)
        cross_entropy(model[2:](hidden), y).backward()
        optimizer.step()


@training
def scaled(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for x, y in data:
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


@training
def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]) -> None:
    for x, y in data:
        found = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_each_kind_of_training_shows_its_gradients_and_is_not_changed(name: str, kind: str) -> None:
    watched, alone = mlp(), mlp()
    optimizer = OPTIMIZERS[kind](watched.parameters())
    flow = gs.watch(watched, optimizer)
    TRAININGS[name](watched, optimizer, batches())
    TRAININGS[name](alone, OPTIMIZERS[kind](alone.parameters()), batches())
    for ours, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, other)
    history = flow.history()
    assert len(history.steps) == 4
    assert not history.skipped.any()
    first = [np.abs(g).mean() for g in direct(mlp(), *batches()[0])]
    assert np.allclose(history.mean_abs[0], first, rtol=1e-5)
    assert (history.update > 0).all()
    late = name in ("scaled", "by_hand")
    assert history.seen.startswith("when the step" if late else "after the backward")


def direct(model: nn.Module, x: Tensor, y: Tensor) -> list[np.ndarray]:
    cross_entropy(model(x), y).backward()
    return gradients(model)


def test_lbfgs_gives_a_row_for_each_step() -> None:
    watched, alone = mlp(), mlp()
    optimizer = OPTIMIZERS["lbfgs"](watched.parameters())
    flow = gs.watch(watched, optimizer)
    with_closure(watched, optimizer, batches())
    with_closure(alone, OPTIMIZERS["lbfgs"](alone.parameters()), batches())
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    history = flow.history()
    assert len(history.steps) == 4
    assert np.isfinite(history.mean_abs).all()
    assert (history.update > 0).all()


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_are_marked(fused: bool) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    flow = gs.watch(model, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, (x, y) in enumerate(batches(5)):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        scaler.scale(loss * (math.inf if number == 2 else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
    history = flow.history()
    assert history.skipped.tolist() == [False, False, True, False, False]
    good = history.mean_abs[~history.skipped]
    assert np.isfinite(good).all()
    assert (good < 1).all()  # unscaled


def test_gradients_thrown_away_are_marked_as_skipped() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for number, (x, y) in enumerate(batches()):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        if number != 1:
            optimizer.step()
    assert flow.history().skipped.tolist() == [False, True, False, False]


def test_clipping_is_not_seen() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    flow = gs.watch(model, optimizer)
    clipped(model, optimizer, batches())
    total = np.sqrt((flow.history().rms[0] ** 2 * np.array(flow.history().sizes)).sum())
    assert total > 0.1


def test_shared_frozen_unused_sparse_and_complex_parameters() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 4, sparse=True)
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.frozen = nn.Linear(4, 4).requires_grad_(False)
            self.unused = nn.Linear(4, 4)
            self.turn = nn.Parameter(torch.randn(4, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            x = self.frozen(self.second(self.first(self.embedding(x))))
            return (x * self.turn).abs()

    torch.manual_seed(0)
    model, twin = Odd(), None
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    x = torch.randint(0, 20, (3, 5))
    for _ in range(3):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    twin(x).sum().backward()
    history = flow.history()
    assert "second.weight" not in history.layers
    assert "frozen.weight" not in history.layers
    assert any("frozen.weight" in note for note in history.notes)
    assert history.kinds[history.layers.index("embedding.weight")] == "embedding"
    by_name = {name: p.grad for name, p in twin.named_parameters()}
    for name in ("embedding.weight", "first.weight", "second.bias", "turn"):
        column = history.layers.index(name)
        dense = by_name[name].to_dense() if by_name[name].is_sparse else by_name[name]
        assert np.allclose(history.mean_abs[0, column], dense.abs().double().mean(), rtol=1e-6)
        assert np.allclose(history.rms[0, column], dense.abs().double().square().mean().sqrt(), rtol=1e-6)
        assert np.allclose(history.zeros[0, column], (dense == 0).double().mean())
    assert np.isnan(history.mean_abs[:, history.layers.index("unused.weight")]).all()
    assert np.isnan(history.agreement[:, history.layers.index("embedding.weight")]).all()


def test_the_steps_of_several_optimizers_share_a_row() -> None:
    model = mlp()
    pair = [
        torch.optim.SGD(model[:3].parameters(), lr=0.1),
        torch.optim.Adam(model[4].parameters(), lr=0.01),
    ]
    flow = gs.watch(model, pair, every=2)
    found = []
    for x, y in batches(4):
        for optimizer in pair:
            optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        found.append([np.abs(g).mean() for g in gradients(model)])
        for optimizer in pair:
            optimizer.step()
    history = flow.history()
    assert history.steps.tolist() == [0, 2]
    assert flow.steps == 4
    assert np.allclose(history.mean_abs, found[::2], rtol=1e-6)
    assert (history.update > 0).all()
    assert [facts.name for facts in history.optimizers] == ["SGD", "Adam"]
    assert [facts.members for facts in history.optimizers] == [(0, 1, 2, 3), (4, 5)]
    assert history.optimizers[1].eps == 1e-8


def test_non_finite_gradients_are_seen() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    (model(batches()[0][0]).sum() * math.nan).backward()
    optimizer.step()
    assert (flow.history().nonfinite == 1).all()


def test_the_ring_keeps_the_last_rows() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, capacity=3)
    plain(model, optimizer, batches(5))
    assert flow.history().steps.tolist() == [2, 3, 4]
    assert np.isfinite(flow.history().mean_abs).all()


def test_a_large_model_is_read_as_often_as_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscape.measure.watch.schedule.SMALL", 10)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    plain(model, optimizer, batches(50))
    assert 1 <= len(flow.history().steps) < 40
    flow._recorder.reader.spent = 0.0  # as if reading had cost nothing
    flow._recorder.sampled = flow._recorder._is_due(flow.steps)
    assert flow._recorder.sampled


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it first compiles
def test_a_compiled_model_is_watched_under_its_own_names() -> None:
    model, alone = mlp(), mlp()
    compiled = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    flow = gs.watch(compiled, optimizer)
    plain(compiled, optimizer, batches())
    twin = torch.compile(alone)
    plain(twin, torch.optim.SGD(alone.parameters(), lr=0.1, momentum=0.9), batches())
    history = flow.history()
    assert history.layers[0] == "0.weight"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert np.allclose(
        history.mean_abs[0], [np.abs(g).mean() for g in direct(mlp(), *batches()[0])], rtol=1e-5
    )


@pytest.fixture
def pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_watch_shows_what_a_user_needs_and_nothing_else(
    pair: tuple[nn.Module, torch.optim.Optimizer],
) -> None:
    flow = gs.watch(*pair)
    assert [name for name in dir(flow) if not name.startswith("_")] == [
        "alerts", "batch", "capacity", "close", "closed", "error", "failure", "first", "histograms",
        "history", "is_mid_row", "live",
        "loss", "model_name", "moment", "notes", "on_close", "on_finding", "on_step", "plot",
        "read_gradients", "rows", "save_html", "steps", "to_dict", "wait_for_alerts",
    ]  # fmt: skip


def test_what_cannot_be_watched_is_refused(pair: tuple[nn.Module, torch.optim.Optimizer]) -> None:
    model, optimizer = pair
    with pytest.raises(ConfigError, match="Tanh has no parameters: there is nothing to watch"):
        gs.watch(nn.Tanh(), optimizer)
    with pytest.raises(ConfigError, match="SGD trains none of the parameters of Linear"):
        gs.watch(nn.Linear(2, 2), optimizer)
    with pytest.raises(ConfigError, match="optimizer: none is given"):
        gs.watch(model, [])
    with pytest.raises(ConfigError, match="every: expected a number of steps, 1 or more; got 0"):
        gs.watch(model, optimizer, every=0)
    with pytest.raises(ConfigError, match="capacity: expected a number of rows, 2 or more; got 1"):
        gs.watch(model, optimizer, capacity=1)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ConfigError, match="every parameter of Sequential is frozen"):
        gs.watch(model, optimizer)


def test_a_closed_watch_leaves_nothing_behind(pair: tuple[nn.Module, torch.optim.Optimizer]) -> None:
    model, optimizer = pair
    with gs.watch(model, optimizer) as flow:
        plain(model, optimizer, batches(2))
    plain(model, optimizer, batches(2))
    assert flow.history().steps.tolist() == [0, 1]
    assert not any(p._backward_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_error_within_a_backward_pass_does_not_end_the_watch() -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    x, y = batches()[0]
    with pytest.raises(RuntimeError, match="broken"):
        cross_entropy(model[2:](Breaks.apply(model[:2](x))), y).backward()
    plain(model, optimizer, batches())
    assert len(flow.history().steps) >= 4
    assert np.isfinite(flow.history().mean_abs[-1]).all()


def test_an_error_of_ours_ends_the_watch_and_not_the_training(
    pair: tuple[nn.Module, torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = pair
    flow = gs.watch(model, optimizer)
    plain(model, optimizer, batches(2))

    def fails(*_: object) -> None:
        raise RuntimeError("out of memory\nwith a long story")

    monkeypatch.setattr("gradscape.measure.watch.readings.read_gradients", fails)
    with pytest.warns(UserWarning, match="the watch ended at step 2: RuntimeError: out of memory$"):
        plain(model, optimizer, batches(2))
    alone = mlp()
    plain(alone, torch.optim.SGD(alone.parameters(), lr=0.1), [*batches(2), *batches(2)])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert flow.history().steps.tolist() == [0, 1]
    assert "ended at step 2" in flow.history().notes[-1]


def test_history_is_drawn_printed_and_written_out() -> None:
    import matplotlib.pyplot as plt

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    assert "no step has been read yet" in str(flow.history())
    plain(model, optimizer, batches())
    history = flow.history()
    assert "over 4 rows, steps 0 to 3" in str(history)
    assert history.plot().get_ylabel().startswith("layer")
    plt.close("all")
    assert history.to_dict()["layers"] == list(history.layers)


def test_gradients_are_read_when_told_and_rows_from_where_they_were_left() -> None:
    model, alone = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for x, y in batches():
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(x), y)).backward()
        scaler.unscale_(optimizer)
        flow.read_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        scaler.step(optimizer)
        scaler.update()
    first = [np.abs(g).mean() for g in direct(alone, *batches()[0])]
    assert np.allclose(flow.history().mean_abs[0], first, rtol=1e-5)
    assert (
        flow.history().seen
        == "when the training loop called for it, reduced and unscaled, before any clipping"
    )
    assert flow.history(since=3).steps.tolist() == [3]
    assert np.array_equal(flow.history(since=3).rms, flow.history().rms[3:])
    assert "no step has been read yet" in str(flow.history(since=4))


def test_arguments_in_the_wrong_order_are_told() -> None:
    model = mlp()
    with pytest.raises(ConfigError, match=r"expected Module; got SGD .*; type: gs.watch\(model, optimizer\)"):
        gs.watch(torch.optim.SGD(model.parameters(), lr=0.1), model)
