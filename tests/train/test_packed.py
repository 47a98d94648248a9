"""Runs trained as one network: each has the weights of its own training, whichever runs are beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cases import TINY, digits, tiny
from gradscape.config.network import NetConfig
from gradscape.config.run import OptimConfig, RunConfig
from gradscape.data import STATISTICS
from gradscape.data.device_batches import DeviceImages, epoch_draw
from gradscape.errors import StoreError
from gradscape.records.run import RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.train.loop import train_run, train_together
from gradscape.train.packed import Rows, packable
from gradscape.train.packed_step import PackedStep
from gradscape.train.state import TrainState
from products import each_once

CPU = torch.device("cpu")
NET = NetConfig(depth=8, filters=8, norm="batch", norm_where="everywhere")
BASE = tiny(net=NET, data=replace(TINY.data, size=8, crop_pad=0))
# A bias before a norm has a gradient of rounding errors alone, which Adam divides by their size plus epsilon.
ADAM = tuple(OptimConfig(lr=lr, eps=1e-4) for lr in (0.01, 0.003, 0.03))
DECAYED = tuple(replace(optim, weight_decay=0.01, decayed="weights") for optim in ADAM)
SGD = tuple(OptimConfig(name="sgd", lr=lr, weight_decay=1e-2) for lr in (0.1, 0.01, 0.03))
PLAIN_SGD = tuple(replace(optim, momentum=0.0) for optim in SGD)
Ends = dict[str, RunRecord | Exception | None]


def three(base: RunConfig = BASE, optims: Sequence[OptimConfig] = ADAM) -> list[RunConfig]:
    return [replace(base, seed=seed, optim=optim) for seed, optim in enumerate(optims)]


def folders(place: Path, configs: Sequence[RunConfig]) -> list[tuple[RunConfig, RunFolder]]:
    return [(config, RunFolder(place / config.identity)) for config in configs]


def together(place: Path, configs: Sequence[RunConfig], report: Any = lambda told: None) -> Ends:
    """Train runs together; how each ended, in that order."""
    ends: Ends = {}
    train_together(folders(place, configs), digits(), report, ends.__setitem__)
    return ends


def results(place: Path, config: RunConfig) -> tuple[Any, ...]:
    """All that a run found, without the times that it took."""
    folder = RunFolder(place / config.identity)
    checkpoint, flow = folder.load(), folder.flow()
    assert checkpoint is not None
    assert flow is not None
    epochs = [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in folder.epochs()]
    gradients = {name: table.tobytes() for name, table in vars(flow).items() if isinstance(table, np.ndarray)}
    weights = {name: array.tobytes() for name, array in checkpoint.arrays.items()}
    return epochs, folder.status().get("test"), gradients, weights


def states_of(configs: Sequence[RunConfig]) -> list[TrainState]:
    states = [TrainState(config, CPU) for config in configs]
    for state in states:
        state.model.double()
    return states


def batches_of(count: int, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mini-batches of 6 images of noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 6, 3, size, size, generator=generator, dtype=torch.float64)
    return list(zip(images, torch.randint(0, 10, (count, 6), generator=generator), strict=True))


NETS = {
    "norms everywhere": NET,
    "norms in blocks": NetConfig(depth=14, filters=8, norm="batch"),
    "none": NetConfig(depth=14, filters=8, norm="none"),
    "skips": NetConfig(depth=14, filters=8, norm="batch", skip=True),
    "flat": NetConfig(depth=8, filters=8, norm="batch", norm_where="everywhere", head="flatten"),
    "gelu": replace(NET, activation="gelu", entry_norm=True, conv_bias="unnormalized"),
}


OPTIMS = {"adam": ADAM, "decayed": DECAYED, "sgd": SGD, "plain": PLAIN_SGD}


@each_once("net, optims", NETS, OPTIMS)
def test_gradients_and_weights_are_those_of_each_network_alone(
    net: NetConfig, optims: tuple[OptimConfig, ...]
) -> None:
    """In float64, over four steps: gradients, weights, BatchNorm's statistics, and the optimizer's state."""
    configs = three(replace(BASE, net=net), optims)
    alone, packed = states_of(configs), states_of(configs)
    rows = Rows(packed)
    batches = batches_of(3)
    for _ in range(4):
        rows.clear_gradients()
        logits = rows(torch.cat([x for x, _ in batches], dim=1))
        torch.autograd.backward([cross_entropy(own, y) for own, (_, y) in zip(logits, batches, strict=True)])
        for state, (x, y) in zip(alone, batches, strict=True):
            state.optimizer.zero_grad()
            cross_entropy(state.model(x), y).backward()
        for own, theirs in zip(packed, alone, strict=True):
            for parameter, expected in zip(own.model.parameters(), theirs.model.parameters(), strict=True):
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-9, atol=1e-12)
        for optimizer in (*rows.optimizers, *(state.optimizer for state in alone)):
            optimizer.step()
    for run, (own, theirs) in enumerate(zip(packed, alone, strict=True)):
        rows.hand_back(run)
        expected_tensors = theirs.model.state_dict()
        for name, value in own.model.state_dict().items():
            torch.testing.assert_close(value, expected_tensors[name], rtol=1e-9, atol=1e-10)
        mine, others = own.checkpoint().arrays, theirs.checkpoint().arrays
        assert set(mine) == set(others)
        for name in mine:
            np.testing.assert_allclose(mine[name], others[name], rtol=1e-8, atol=1e-10)


def test_each_networks_own_tensors_are_views_whatever_happens_to_them() -> None:
    states = states_of(three())
    rows = Rows(states)
    (x, y), *_ = batches_of(1)

    def places() -> list[int]:
        tensors = [each for state in states for each in state.model.state_dict(keep_vars=True).values()]
        gradients = [p.grad for state in states for p in state.model.parameters()]
        return [each.data_ptr() for each in (*tensors, *gradients) if each is not None]

    before = places()
    cross_entropy(rows(torch.cat([x] * 3, dim=1))[1], y).backward()
    for optimizer in rows.optimizers:
        optimizer.step()
    states[0].model.load_state_dict(states[1].model.state_dict())
    assert places() == before
    for parameter, copied in zip(states[0].model.parameters(), states[1].model.parameters(), strict=True):
        assert torch.equal(parameter, copied)
    assert torch.equal(rows.values[0], rows.values[1])
    logits = rows(torch.cat([x] * 3, dim=1))
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[2], states[2].model(x))


def bits_after(configs: Sequence[RunConfig], size: int) -> dict[str, tuple[bytes, ...]]:
    """All that depends on a run's arithmetic, per run, after three steps, of which the last is smaller."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3 * size, 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (3 * size,), generator=generator)
    pool = DeviceImages.make(images.numpy(), labels.numpy(), 0)
    states = [TrainState(config, CPU) for config in configs]
    step = PackedStep(states, pool, *STATISTICS["digits"])
    draws = [epoch_draw(len(pool), config.seed, 0, 0, False) for config in configs]
    step.begin(draws, [config.optim.lr for config in configs])
    for count in (size, size, size // 2):
        step(count)
    step.finish()
    found = {}
    for run, (config, state) in enumerate(zip(configs, states, strict=True)):
        gradients = [parameter.grad for parameter in state.model.parameters()]
        tensors = [each.detach().numpy() for each in gradients if each is not None]
        tables = vars(step.flow(run, 1)).values()
        arrays = [*tensors, *state.checkpoint().arrays.values(), *step.tallies[run].means()]
        arrays += [table for table in tables if isinstance(table, np.ndarray)]
        found[config.identity] = tuple(np.asarray(each).tobytes() for each in arrays)
    return found


SHAPES = ((8, 7), (16, 20), (8, 25), (24, 7), (32, 10))  # filters and images of a mini-batch


@each_once("net, shape", NETS, SHAPES)
def test_a_runs_bits_do_not_depend_on_the_runs_beside_it(net: NetConfig, shape: tuple[int, int]) -> None:
    """Weights, optimizer, gradients, losses and the flow of every layer, in packs of one to six."""
    filters, size = shape
    base = replace(BASE, net=replace(net, filters=filters))
    configs = [replace(base, seed=seed, optim=OptimConfig(lr=0.01 / (1 + seed))) for seed in range(6)]
    expected = bits_after(configs, size)
    for some in (configs[:1], configs[1:3], configs[2:5], configs[::-1][:4], configs[:5]):
        for name, bits in bits_after(some, size).items():
            assert bits == expected[name]


def test_a_pack_trains_as_each_run_alone(tmp_path: Path) -> None:
    """In float32 they round otherwise, which a few epochs do not make much of; tanh has no kinks."""
    base = replace(BASE, net=replace(NET, activation="tanh"), smoothness_every=4)
    configs = three(base, [replace(SGD[0], lr=lr) for lr in (0.01, 0.003, 0.001)])
    ends = together(tmp_path / "pack", configs)
    for config in configs:
        record, alone = ends[config.identity], train_run(config, tmp_path / config.identity, digits())
        assert isinstance(record, RunRecord)
        assert record.state == "done"
        assert record.status["packed"] is True
        assert "packed" not in alone.status
        for name in ("lr", "train_loss", "train_accuracy", "valid_loss"):
            assert record.curve(name) == pytest.approx(alone.curve(name), rel=1e-3)
        assert record.flow is not None
        assert alone.flow is not None
        assert record.flow.layers == alone.flow.layers
        assert record.flow.mean_abs == pytest.approx(alone.flow.mean_abs, rel=1e-2, abs=1e-7)
        assert record.flow.relative_update == pytest.approx(alone.flow.relative_update, rel=1e-2, abs=1e-7)
        measures = [[m for epoch in r.epochs for m in epoch.smoothness] for r in (record, alone)]
        assert [m.step for m in measures[0]] == [m.step for m in measures[1]] == [0, 4, 8]
        for mine, expected in zip(*measures, strict=True):
            assert mine.along == expected.along
            assert mine.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-2)
            assert mine.line.loss == pytest.approx(expected.line.loss, rel=1e-2)


@pytest.fixture(scope="module")
def unbroken(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Where `three()` were trained together."""
    return once("packed", lambda folder: together(folder, three()))


class Kill(BaseException):
    """Ends a pack as a kill does: no handler of the loop's sees it."""


@pytest.mark.parametrize("optims", [ADAM, pytest.param(SGD, marks=pytest.mark.slow)], ids=["adam", "sgd"])
@pytest.mark.parametrize("when", ["in an epoch", "between two runs' checkpoints"])
def test_killed_and_resumed_it_is_bit_identical(
    tmp_path: Path,
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    optims: tuple[OptimConfig, ...],
) -> None:
    """After the second kind of kill the runs are at different epochs; they go on together all the same."""
    configs, whole = three(optims=optims), unbroken
    if optims != ADAM:
        together(whole := tmp_path / "whole", configs)
    owner, name, call = (PackedStep, "__call__", 5) if when == "in an epoch" else (RunFolder, "save", 5)
    original, calls = getattr(owner, name), 0

    def fatal(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Kill
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fatal)
        with pytest.raises(Kill):
            together(tmp_path / "cut", configs)
    counts = [len(RunFolder(tmp_path / "cut" / config.identity).epochs()) for config in configs]
    assert counts == ([1, 1, 1] if when == "in an epoch" else [2, 2, 1])
    together(tmp_path / "cut", configs)
    for config in configs:
        assert results(tmp_path / "cut", config) == results(whole, config)
        assert RunFolder(tmp_path / "cut" / config.identity).status()["attempts"] == 2


@pytest.mark.slow
def test_a_packed_run_goes_on_packed_though_alone_and_one_begun_alone_goes_on_alone(
    tmp_path: Path, unbroken: Path
) -> None:
    configs = three()
    first = configs[0]
    expected = {"whole": unbroken, "alone": tmp_path / "alone"}
    train_run(first, expected["alone"] / first.identity, digits())
    assert results(expected["alone"], first) != results(unbroken, first)

    def interrupt(told: Any) -> None:
        (progress,) = told.values() if isinstance(told, Mapping) else (told,)
        if not isinstance(progress, str) and progress.epoch == 2:
            raise KeyboardInterrupt

    for name, begin, go_on in (
        ("whole", lambda place: together(place, [first], interrupt), lambda place: single(place)),
        ("alone", lambda place: single(place, interrupt), lambda place: together(place, configs)),
    ):

        def single(place: Path, report: Any = lambda told: None) -> None:
            train_run(first, place / first.identity, digits(), report=report)

        place = tmp_path / f"{name} cut"
        with pytest.raises(KeyboardInterrupt):
            begin(place)
        assert RunFolder(place / first.identity).status()["state"] == "interrupted"
        go_on(place)
        assert results(place, first) == results(expected[name], first)


def test_a_run_that_diverges_is_stopped_or_fails_leaves_the_others_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [replace(BASE, seed=seed) for seed in range(4)]
    healthy, diverging, stopped, failing = configs
    together(tmp_path / "whole", configs)
    original, calls = PackedStep.__call__, 0

    def poisoned(step: PackedStep, size: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            next(step.states[1].model.parameters()).data.fill_(float("nan"))
        return original(step, size)

    save = RunFolder.save

    def fails(folder: RunFolder, checkpoint: Any) -> Any:
        if folder.path.name == failing.identity and checkpoint.epoch == 2:
            raise StoreError("no room")
        return save(folder, checkpoint)

    def stop(told: Mapping[str, Any]) -> None:
        RunFolder(tmp_path / "pack" / stopped.identity).ask_stop("it is behind")

    monkeypatch.setattr(PackedStep, "__call__", poisoned)
    monkeypatch.setattr(RunFolder, "save", fails)
    ends = together(tmp_path / "pack", configs, stop)
    assert list(ends) == [diverging.identity, stopped.identity, failing.identity, healthy.identity]
    states = {name: RunFolder(tmp_path / "pack" / name).status() for name in ends}
    assert [status["state"] for status in states.values()] == ["diverged", "stopped", "failed", "done"]
    assert (states[diverging.identity]["epoch"], states[diverging.identity]["step"]) == (1, 2)
    assert states[stopped.identity]["reason"] == "it is behind"
    assert "no room" in states[failing.identity]["error"]
    assert isinstance(ends[failing.identity], StoreError)
    assert results(tmp_path / "pack", healthy) == results(tmp_path / "whole", healthy)
    monkeypatch.undo()
    together(tmp_path / "pack", configs)
    for config in (stopped, failing):
        assert results(tmp_path / "pack", config) == results(tmp_path / "whole", config)


def test_a_run_that_diverges_and_cannot_say_so_is_told_once_and_trains_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, diverging, last = configs = three()
    original, write = PackedStep.__call__, RunFolder.set_status
    ends: list[tuple[str, type]] = []

    def poisoned(step: PackedStep, size: int) -> Any:
        if len(step.states) == len(configs):
            next(step.states[1].model.parameters()).data.fill_(float("nan"))
        return original(step, size)

    def full(folder: RunFolder, state: str, **details: Any) -> None:
        if state == "diverged":
            raise StoreError("no room")
        write(folder, state, **details)

    monkeypatch.setattr(PackedStep, "__call__", poisoned)
    monkeypatch.setattr(RunFolder, "set_status", full)
    runs = folders(tmp_path, configs)
    train_together(runs, digits(), lambda told: None, lambda name, end: ends.append((name, type(end))))
    assert ends == [(diverging.identity, StoreError), (first.identity, RunRecord), (last.identity, RunRecord)]


def test_an_error_of_the_common_step_is_every_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedStep, "__call__", lambda step, size: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        together(tmp_path, three())
    for config in three():
        status = RunFolder(tmp_path / config.identity).status()
        assert status["state"] == "failed"
        assert "ZeroDivisionError" in status["error"]


def test_ctrl_c_leaves_those_that_have_not_ended_interrupted(tmp_path: Path) -> None:
    configs = three()
    configs[0] = replace(configs[0], epochs=1)

    def interrupt(told: Mapping[str, Any]) -> None:
        if any(not isinstance(each, str) and each.epoch == 2 for each in told.values()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(tmp_path, configs, interrupt)
    states = [RunFolder(tmp_path / config.identity).status()["state"] for config in configs]
    assert states == ["done", "interrupted", "interrupted"]


def test_a_run_that_is_held_or_cannot_be_opened_is_told_and_the_others_are_trained(tmp_path: Path) -> None:
    configs = three()
    held, broken, free = folders(tmp_path, configs)
    held[1].create(held[0])
    broken[1].path.parent.mkdir(exist_ok=True)
    broken[1].path.write_text("a file where a folder must be")
    with held[1].locked():
        ends = together(tmp_path, configs)
    assert ends[held[0].identity] is None
    assert isinstance(ends[broken[0].identity], StoreError)
    assert free[1].status()["state"] == "done"
    assert held[1].status()["state"] == "pending"


@pytest.mark.slow
def test_what_was_measured_before_and_after_is_each_runs_own(tmp_path: Path) -> None:
    base = replace(BASE, curvature_images=20, noise_batches=2, keep_every=2, epochs=2)
    configs = three(base)[:2]
    together(tmp_path, configs)
    for config in configs:
        folder = RunFolder(tmp_path / config.identity)
        record, checkpoint = folder.record(), folder.load()
        assert checkpoint is not None
        assert list(record.curvature) == ["start", "end"]
        assert record.start is not None
        assert record.noise is not None
        for name, weight in folder.kept_weights()[2].items():
            assert np.array_equal(weight, checkpoint.arrays[f"model.{name}"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"norm": "none", "norm_where": "blocks"}, True),
        ({"norm": "group"}, False),
        ({"norm": "algorithm1"}, False),
        ({"norm": "weight"}, False),
        ({"dropout": 0.1}, False),
        ({"filters": 12}, False),
        ({"depth": 14, "skip": True}, True),
        ({"depth": 14, "skip": True, "stochastic_depth": 0.5}, False),
        ({"depth": 14, "skip": True, "norm": "none", "norm_where": "blocks", "init": "fixup"}, False),
    ],
)
def test_what_can_be_packed(changes: dict[str, Any], expected: bool) -> None:
    assert packable(replace(BASE, net=replace(NET, **changes))) is expected


def test_other_families_and_precisions_are_not_packed() -> None:
    assert not packable(replace(BASE, precision="bf16"))
    assert not packable(replace(BASE, net=NetConfig(family="resnet", depth=8, filters=8)))
