"""What is found is told while it trains, and ends it where wanted; else the training is as without."""

from __future__ import annotations

import copy
import gc
import logging
import random
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError, TrainingStopped
from gradscape.measure.watch import alert_delivery, moments
from gradscape.measure.watch.alert_delivery import Delivery
from gradscape.measure.watch.watch import Watch
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Finding

ALERT = Alert(Finding("exploding", "0.weight", "a cause", "a remedy", ()), 120, 0.0, "run 7")


@pytest.fixture(autouse=True)
def enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine does, each moment is diagnosed."""
    monkeypatch.setattr(moments, "ALLOWANCE", 1_000.0)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))


def adam(model: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=lr)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 110, broken: int | None = None
) -> None:
    """A task that is learnt; of step `broken` the loss is not a number."""
    generator = torch.Generator().manual_seed(1)
    for number in range(steps):
        x = torch.randn(10, 6, generator=generator)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), x[:, :3].argmax(1))
        (loss * float("nan") if number == broken else loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def watched(lr: float = 0.0, broken: int | None = None, **settings: Any) -> tuple[list[Alert], Watch]:
    model, told = net(), list[Alert]()
    optimizer = adam(model, lr)
    flow = gs.watch(model, optimizer, on_finding=told.append, **settings)
    train(model, optimizer, broken=broken)
    flow.close()
    return told, flow


def test_a_finding_is_told_once_when_it_stands() -> None:
    told, flow = watched(run="run 7")
    (alert,) = told
    assert (alert.verdict, alert.step, alert.grade, alert.run) == ("learning rate is 0", 50, "fail", "run 7")
    assert flow.alerts == (alert,)
    assert abs(alert.time - time.time()) < 600
    assert str(alert).startswith("fail at step 50 of run 7: learning rate is 0\ncause: the learning rate")
    assert alert.to_dict()["heading"] == "learning rate is 0"


def test_nothing_is_told_of_a_training_that_works() -> None:
    told, flow = watched(lr=0.01)
    assert not told
    assert gs.diagnose(flow).grade != "fail"


def test_a_loss_that_is_not_finite_is_told_after_that_step() -> None:
    told, _ = watched(lr=0.01, broken=37)
    assert [(alert.step, alert.verdict) for alert in told] == [(38, "non-finite")]


def test_the_device_is_asked_at_the_moments_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read, own = list[int](), Watch.history

    def history(self: Watch, since: int = 0) -> Any:
        read.append(self.steps)
        return own(self, since)

    monkeypatch.setattr(Watch, "history", history)
    watched(lr=0.01)
    assert read == [20, 50, 100]


def states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("lr", [0.01, 0.0])
def test_the_training_is_bit_for_bit_as_without_even_if_a_receiver_draws(lr: float) -> None:
    def draws(_: Alert) -> None:
        random.random(), np.random.rand(), torch.rand(3)

    found = []
    for receivers in ([], [draws]):
        random.seed(0)
        np.random.seed(0)
        model = net()
        optimizer = adam(model, lr)
        with gs.watch(model, optimizer, on_finding=receivers, stop_on=None) as flow:
            train(model, optimizer)
        assert bool(flow.alerts) == (bool(receivers) and lr == 0)
        found.append((model.state_dict(), states()))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(a, b) for a, b in zip(found[0][0].values(), found[1][0].values(), strict=True))


def test_a_watch_that_nobody_holds_tells_all_the_same() -> None:
    model, told = net(), list[Alert]()
    optimizer = adam(model, 0.0)
    gs.watch(model, optimizer, on_finding=told.append)
    gc.collect()
    train(model, optimizer)
    assert len(told) == 1


# The end of a training ----------------------------------------------------------------------------------


def test_stop_on_ends_the_training_and_leaves_all_as_after_any_step() -> None:
    model, alone = net(), net()
    optimizer, optimizer_alone = adam(model, 0.01), adam(alone, 0.01)
    train(alone, optimizer_alone, steps=37)
    state = torch.get_rng_state()
    model = net()
    optimizer = adam(model, 0.01)
    flow = gs.watch(model, optimizer, stop_on="fail")
    beside = gs.watch(nn.Sequential(model), optimizer)
    with pytest.raises(TrainingStopped) as stopped:
        train(model, optimizer, broken=36)
    message = str(stopped.value)
    assert message.startswith("stopped at step 37: non-finite; cause: at step 36 the loss is not finite")
    assert "; what would help: " in message
    assert "\n" not in message
    assert torch.equal(torch.get_rng_state(), state)
    assert [each["step"].item() for each in optimizer.state.values()] == [37.0] * 4
    assert len(flow.history().steps) == len(beside.history().steps) == 37
    assert gs.diagnose(flow).verdict == "non-finite"
    assert not flow.error
    train(model, optimizer, steps=3)  # the user's to decide; the same is not told again
    assert flow.steps == beside.steps == 40


def test_parameters_and_optimizer_are_those_of_a_training_of_as_many_steps() -> None:
    model, alone = net(), net()
    optimizer, optimizer_alone = adam(model, 0.0), adam(alone, 0.0)
    with pytest.raises(TrainingStopped), gs.watch(model, optimizer, stop_on="warn"):
        train(model, optimizer)
    alone = net()
    optimizer_alone = adam(alone, 0.0)
    train(alone, optimizer_alone, steps=50)
    assert all(map(torch.equal, model.state_dict().values(), alone.state_dict().values()))
    for ours, theirs in zip(optimizer.state.values(), optimizer_alone.state.values(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_ends_a_training_whose_optimizers_step_within_the_backward_pass() -> None:
    model = net()
    optimizers = {p: torch.optim.SGD([p], lr=0.0) for p in model.parameters()}

    def step(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    flow = gs.watch(model, list(optimizers.values()), stop_on="fail")

    def train_within_backward() -> None:
        for _ in range(110):
            model(torch.randn(4, 6)).square().sum().backward()

    with flow, pytest.raises(TrainingStopped, match="stopped at step 50: learning rate is 0"):
        train_within_backward()  # its hooks hold the parameters, and so the watch, for good
    assert flow.steps == 50


@pytest.mark.slow
def test_a_warning_stops_only_where_asked_to() -> None:
    def spiking(stop_on: Any) -> Watch:
        model = net()
        optimizer = adam(model, 0.01)
        flow = gs.watch(model, optimizer, stop_on=stop_on)
        flow._alerts.diagnose = lambda _: warning  # type: ignore[union-attr]
        train(model, optimizer)
        return flow

    finding = Finding("loss spikes", "", "a cause", "a remedy", ())
    warning = gs.diagnose(watched(lr=0.01)[1])
    warning = type(warning)((finding,), "", ())
    assert spiking("fail").alerts == ()
    with pytest.raises(TrainingStopped, match="loss spikes"):
        spiking("warn")


def test_a_step_that_is_stopped_can_be_pickled_as_an_error() -> None:
    error = TrainingStopped("stopped at step 1: exploding")
    assert str(copy.deepcopy(error)) == str(error)
    assert error.exit_code == 1


# Receivers ----------------------------------------------------------------------------------------------


def test_a_receiver_that_raises_is_said_once_and_the_others_are_told(caplog: Any) -> None:
    def broken(_: Alert) -> None:
        raise OSError("the line\nis dead")

    told = list[Alert]()
    delivery = Delivery([broken, told.append])
    for _ in range(3):
        delivery.send(ALERT)
    assert len(told) == 3
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gradscape"]
    assert line.endswith(".broken: an alert was not delivered: OSError: the line")
    assert line.startswith("on_finding ")


def test_even_one_that_ends_its_thread_is_told_the_next_time() -> None:
    seen = []

    def leaves(alert: Alert) -> None:
        seen.append(alert)
        raise SystemExit(3)

    delivery = Delivery([leaves])
    delivery.send(ALERT)
    delivery.send(ALERT)
    assert len(seen) == 2


def test_one_that_hangs_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alert_delivery, "PATIENCE", 0.05)
    free = threading.Event()
    delivery, told = Delivery([lambda _: free.wait(60)]), list[Alert]()
    delivery.add(told.append)
    start = time.perf_counter()
    for _ in range(1_000):
        delivery.send(ALERT)
    assert time.perf_counter() - start < 10
    assert len(told) == 1_000
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "it took more than 0.05 s, and is not waited for any more" in lines[0]
    assert "16 alerts are waiting for it, later ones are left out" in lines[1]
    assert not delivery.finish(0.01)
    free.set()
    assert delivery.finish(30)


def test_a_slow_one_is_not_waited_for_at_all() -> None:
    class Slow:
        is_slow = True

        def __init__(self) -> None:
            self.free, self.told = threading.Event(), list[Alert]()

        def __call__(self, alert: Alert) -> None:
            self.free.wait(60)
            self.told.append(alert)

    slow = Slow()
    delivery = Delivery([slow])
    delivery.send(ALERT)
    assert slow.told == []
    slow.free.set()
    assert delivery.finish(30)
    assert slow.told == [ALERT]


def test_a_training_goes_on_whatever_receivers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_delivery, "PATIENCE", 0.05)

    def raises(_: Alert) -> None:
        raise TrainingStopped("no receiver ends a training")

    model, free = net(), threading.Event()
    optimizer = adam(model, 0.0)
    with gs.watch(model, optimizer, on_finding=[raises, lambda _: free.wait(60)]) as flow:
        train(model, optimizer)
    free.set()
    assert flow.steps == 110
    assert not flow.error


def test_an_error_of_ours_ends_the_alerts_and_neither_watch_nor_training(caplog: Any) -> None:
    model = net()
    optimizer = adam(model, 0.0)

    def broken(_: Any) -> Any:
        raise ZeroDivisionError("in a rule")

    with caplog.at_level(logging.WARNING), gs.watch(model, optimizer, on_finding=print) as flow:
        flow._alerts.diagnose = broken  # type: ignore[union-attr]
        train(model, optimizer)
    assert [r.getMessage() for r in caplog.records] == ["alerts end at step 20: ZeroDivisionError: in a rule"]
    assert (flow.steps, flow.error, flow.notes) == (110, "", [])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_finding": "https://x"}, r"on_finding: expected .*; got 'https://x'"),
    ({"on_finding": [print, 3]}, r"on_finding: expected a function of an alert, or several; got 3; type on"),
    ({"stop_on": "fial"}, r"stop_on: expected fail or warn; got 'fial'; did you mean 'fail'\?"),
    ({"alert_on": "info"}, r"alert_on: expected fail or warn; got 'info'"),
    ({"cool_down": -1.0}, r"cool_down: expected a number of seconds, 0 or more; got -1"),
    ({"cool_down": float("nan")}, r"cool_down: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_arguments_are_refused_before_an_open_watch_ends(
    settings: dict[str, Any], message: str
) -> None:
    model = net()
    optimizer = adam(model, 0.1)
    flow = gs.watch(model, optimizer)
    with pytest.raises(ConfigError, match=message):
        gs.watch(model, optimizer, **settings)
    assert not flow.closed


def test_a_receiver_may_come_later() -> None:
    model, told = net(), list[Alert]()
    optimizer = adam(model, 0.0)
    with gs.watch(model, optimizer) as flow:
        train(model, optimizer, steps=30)
        flow.on_finding(told.append)
        flow.first = 1_000
        train(model, optimizer)
    assert [alert.step for alert in told] == [1_050]
