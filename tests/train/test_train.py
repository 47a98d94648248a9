"""The training loop: right sums, bit-identical after any interruption, honest about divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from cases import TINY, digits, tiny
from gradscape._machine import processor
from gradscape.config.network import NetConfig
from gradscape.config.run import OptimConfig, RunConfig
from gradscape.data import STATISTICS, split
from gradscape.data.device_batches import DeviceImages, TrainBatches, epoch_draw, eval_batches
from gradscape.errors import ConfigError, StoreError
from gradscape.records.run import Progress, RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.train import attempt
from gradscape.train import epoch as passes
from gradscape.train.loop import train_run
from gradscape.train.state import TrainState
from gradscape.train.step import TrainStep, cosine

SGD = OptimConfig(name="sgd", lr=0.1, weight_decay=1e-2)
PLAIN_SGD = replace(SGD, momentum=0.0)  # which has no state to keep
TIMES = ("seconds", "images_per_second")


def timeless(record: RunRecord) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.to_dict().items() if k not in TIMES} for e in record.epochs]


def final(folder: RunFolder) -> dict[str, bytes]:
    checkpoint = folder.load()
    assert checkpoint is not None
    return {name: array.tobytes() for name, array in checkpoint.arrays.items()}


@pytest.mark.parametrize("size", [None, 8])
def test_a_run_is_the_plain_loop_of_the_paper(tmp_path: Path, size: int | None) -> None:
    """The same run written out as a textbook loop gives the same numbers."""
    config = tiny(data=replace(TINY.data, size=size))
    record = train_run(config, RunFolder(tmp_path / "run"), digits())
    images, cpu = digits().averaged(size), torch.device("cpu")
    part = split(images.train_labels, 20, 0)
    kept, mean_std = part.train[:60], STATISTICS["digits"]
    pool = DeviceImages.make(images.train_images[kept], images.train_labels[kept], 1)
    batches = TrainBatches(pool, *mean_std)
    model = TrainState(config, cpu).model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    for epoch in range(3):
        lr = 2e-5 + (0.01 - 2e-5) * (1 + math.cos(math.pi * epoch / 3)) / 2
        optimizer.param_groups[0]["lr"] = lr
        loss_sum, correct, sizes = 0.0, 0, []
        model.train()
        draw = epoch_draw(60, config.seed, epoch, 1, False)
        batches.begin(draw)
        for x, y in map(batches.take, torch.arange(60).split(25)):
            optimizer.zero_grad()
            logits = model(x)
            loss = cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            correct += int((logits.argmax(1) == y).sum())
            sizes.append(len(y))
        assert sizes == [25, 25, 10]  # the last batch is smaller, never dropped
        model.eval()
        x, y = next(
            iter(
                eval_batches(images.train_images[part.valid], images.train_labels[part.valid], 20, *mean_std)
            )
        )
        with torch.no_grad():
            valid = model(x)
        found = record.epochs[epoch]
        assert found.lr == pytest.approx(lr)
        assert found.train_loss == pytest.approx(loss_sum / 60, rel=1e-6)
        assert found.train_accuracy == pytest.approx(correct / 60)
        assert found.valid_loss == pytest.approx(cross_entropy(valid, y).item(), rel=1e-6)
        assert found.valid_accuracy == pytest.approx((valid.argmax(1) == y).float().mean().item())
    assert record.state == "done"
    assert record.status["split"] == "numpy RandomState(0).choice, unstratified"
    assert record.status["attempts"] == 1


def test_sgd_is_written_out_momentum_and_decay(tmp_path: Path) -> None:
    """v ← μ v + ∂L/∂w + λ w, w ← w − lr v, from the run's own initial weights and mini-batches."""
    config = tiny(optim=SGD, epochs=2, keep_every=1)
    folder = RunFolder(tmp_path)
    train_run(config, folder, digits())
    images = digits()
    kept = split(images.train_labels, 20, 0).train[:60]
    pool = DeviceImages.make(images.train_images[kept], images.train_labels[kept], 1)
    batches, model = TrainBatches(pool, *STATISTICS["digits"]), TrainState(config, torch.device("cpu")).model
    moving = [torch.zeros_like(parameter) for parameter in model.parameters()]
    model.train()
    for epoch in range(2):
        lr = cosine(SGD.lr, SGD.min_lr, 2, epoch)
        batches.begin(epoch_draw(60, config.seed, epoch, 1, False))
        for x, y in map(batches.take, torch.arange(60).split(25)):
            gradients = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
            with torch.no_grad():
                for weight, v, g in zip(model.parameters(), moving, gradients, strict=True):
                    v.mul_(SGD.momentum).add_(g + SGD.weight_decay * weight)
                    weight -= lr * v
    for name, weight in model.named_parameters():
        assert folder.kept_weights()[2][name] == pytest.approx(weight.detach().numpy(), rel=1e-3, abs=1e-5)


def test_checkpoints_name_the_optimiser_and_old_ones_are_read(tmp_path: Path) -> None:
    """Adam's keys are those of checkpoints from before there was a choice."""
    for optim, keys in ((TINY.optim, {"exp_avg", "exp_avg_sq", "step"}), (SGD, {"momentum_buffer"})):
        folder = RunFolder(tmp_path / optim.name)
        train_run(tiny(optim=optim, epochs=1), folder, digits())
        checkpoint = folder.load()
        assert checkpoint is not None
        state = {name.split(".")[2] for name in checkpoint.arrays if name.startswith(f"{optim.name}.")}
        assert state == keys


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    record = train_run(tiny(epochs=6), RunFolder(tmp_path), digits())
    curve = record.curve("valid_accuracy")
    assert record.test["best"]["epoch"] == curve.index(max(curve)) + 1
    assert record.test["last"]["epoch"] == 6
    assert record.test["last"]["accuracy"] * 300 == pytest.approx(
        round(record.test["last"]["accuracy"] * 300)
    )


class Kill(BaseException):
    """Ends a run as a kill does: no handler of the loop's sees it."""


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunConfig], tuple[RunRecord, RunFolder]]:
    """Train a configuration undisturbed, once for all tests that compare with it."""
    place, records = tmp_path_factory.mktemp("whole"), dict[str, RunRecord]()

    def train(config: RunConfig) -> tuple[RunRecord, RunFolder]:
        folder = RunFolder(place / config.identity)
        if config.identity not in records:
            records[config.identity] = train_run(config, folder, digits())
        return records[config.identity], folder

    return train


@pytest.mark.parametrize("when", ["in an epoch", "before the checkpoint", "after the checkpoint"])
@pytest.mark.parametrize(
    ("norm", "optim"),
    [
        ("none", TINY.optim),
        ("batch", TINY.optim),
        pytest.param("batch", SGD, marks=pytest.mark.slow),
        pytest.param("batch", PLAIN_SGD, marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_and_resumed_it_is_bit_identical(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole_run: Callable[[RunConfig], tuple[RunRecord, RunFolder]],
    when: str,
    norm: Any,
    optim: OptimConfig,
) -> None:
    config = tiny(net=replace(TINY.net, norm=norm), optim=optim, epochs=4)
    whole, undisturbed = whole_run(config)
    folder = RunFolder(tmp_path / "cut")
    calls = 0

    def fatal(original: Any, fatal_call: int, after: bool) -> Any:
        def act(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal_call and not after:
                raise Kill
            result = original(*arguments, **options)
            if calls == fatal_call:
                raise Kill
            return result

        return act

    with monkeypatch.context() as patch:
        if when == "in an epoch":
            patch.setattr(TrainStep, "__call__", fatal(TrainStep.__call__, 8, True))  # epoch 3, step 2
        else:
            patch.setattr(RunFolder, "save", fatal(RunFolder.save, 3, when.startswith("after")))
        with pytest.raises(Kill):
            train_run(config, folder, digits())
    assert 2 <= len(folder.epochs()) <= 3
    resumed = train_run(config, folder, digits())
    assert timeless(resumed) == timeless(whole)
    assert resumed.test == whole.test
    assert final(folder) == final(undisturbed)
    assert resumed.status["attempts"] == 2


def test_a_damaged_last_checkpoint_costs_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_run(TINY, RunFolder(tmp_path / "whole"), digits())
    folder = RunFolder(tmp_path / "cut")
    monkeypatch.setattr(attempt, "_test", lambda *_: (_ for _ in ()).throw(Kill))
    with pytest.raises(Kill):
        train_run(TINY, folder, digits())
    monkeypatch.undo()
    newest = folder.checkpoint_files()[0]
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    assert timeless(train_run(TINY, folder, digits())) == timeless(whole)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = train_run(TINY, folder, digits())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"}
    assert train_run(TINY, folder, digits()) == first
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_divergence_is_recorded_with_epoch_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = TrainStep.__call__, 0

    def poisoned(step: TrainStep, size: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # epoch 2, step 2 of 3
            next(step.state.model.parameters()).data.fill_(float("nan"))
        original(step, size)

    monkeypatch.setattr(TrainStep, "__call__", poisoned)
    record = train_run(TINY, RunFolder(tmp_path), digits())
    assert (record.state, record.status["epoch"], record.status["step"]) == ("diverged", 2, 2)
    assert len(record.epochs) == 1
    monkeypatch.undo()
    assert train_run(TINY, RunFolder(tmp_path), digits()).state == "diverged"  # not tried again


def test_an_absurd_learning_rate_diverges_for_real(tmp_path: Path) -> None:
    config = RunConfig(
        net=NetConfig(depth=8, filters=4, norm="none"), data=TINY.data, optim=OptimConfig(lr=1e30),
        batch_size=20, epochs=2,
    )  # fmt: skip
    assert train_run(config, RunFolder(tmp_path), digits()).state == "diverged"


def test_a_failure_is_recorded_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_run(TINY, RunFolder(tmp_path), digits())
    record = RunFolder(tmp_path).record()
    assert record.state == "failed"
    assert "ZeroDivisionError" in record.status["error"]
    monkeypatch.undo()
    assert train_run(TINY, RunFolder(tmp_path), digits()).state == "done"


def results(folder: RunFolder) -> tuple[Any, ...]:
    """What a run found, without the times it took."""
    checkpoint = folder.load()
    assert checkpoint is not None
    epochs = [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in folder.epochs()]
    return epochs, {name: array.tobytes() for name, array in checkpoint.arrays.items()}


@pytest.mark.parametrize(
    ("line", "begun"), [(0, 0), (1, 0), (2, 2)], ids=["no checkpoint is so old", "nor here", "the one before"]
)
def test_what_stands_behind_a_damaged_line_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int, begun: int
) -> None:
    """Of three epochs the last two have checkpoints; the result is that of an undisturbed run."""
    folder = RunFolder(tmp_path)
    train_run(TINY, folder, digits())
    wanted = results(folder)
    folder.set_status("running")
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"train_loss", b"train_lass")
    folder.metrics.write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=f"line {line + 1} is damaged; delete the folder"):
        folder.record()
    restored: list[int] = []
    restore = TrainState.restore
    monkeypatch.setattr(TrainState, "restore", lambda self, c: (restored.append(c.epoch), restore(self, c)))
    assert train_run(TINY, folder, digits()).state == "done"
    assert restored == ([begun] if begun else [])
    assert results(folder) == wanted


def test_a_stopped_run_goes_on_when_it_is_asked_for_again(tmp_path: Path) -> None:
    straight, folder = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    train_run(TINY, straight, digits())

    def stop(progress: Any) -> None:
        folder.ask_stop("the third rung is not for it")

    record = train_run(TINY, folder, digits(), report=stop)
    assert (record.state, record.status["reason"]) == ("stopped", "the third rung is not for it")
    assert len(record.epochs) == 1
    assert train_run(TINY, folder, digits(), leave_stopped=True) == record
    assert train_run(TINY, folder, digits()).state == "done"
    assert results(folder) == results(straight)


def test_a_stop_in_the_last_epoch_comes_too_late(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    config = replace(TINY, epochs=1)
    assert train_run(config, folder, digits(), report=lambda _: folder.ask_stop("late")).state == "done"


def test_other_images_and_absent_devices_are_refused(tmp_path: Path) -> None:
    config = RunConfig(data=replace(RunConfig().data, name="cifar10", train=100, valid=10), batch_size=10)
    with pytest.raises(ConfigError, match="the run is on cifar10, the images are digits"):
        train_run(config, RunFolder(tmp_path), digits())
    with pytest.raises(ConfigError, match="device: expected auto, cpu or cuda; got 'tpu'"):
        train_run(TINY, RunFolder(tmp_path), digits(), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="there is no CUDA device; give --device cpu"):
            train_run(TINY, RunFolder(tmp_path), digits(), device="cuda")
    assert not list(tmp_path.iterdir())


def test_cosine_goes_from_lr_to_min_lr_and_stays() -> None:
    assert cosine(0.05, 2e-5, 100, 0) == 0.05
    assert cosine(0.05, 2e-5, 100, 50) == pytest.approx((0.05 + 2e-5) / 2)
    assert cosine(0.05, 2e-5, 100, 100) == cosine(0.05, 2e-5, 100, 250) == 2e-5


def test_progress_is_reported_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PROGRESS_EVERY", {"cpu": 0.0})
    seen: list[Any] = []
    train_run(TINY, RunFolder(tmp_path), digits(), report=seen.append)
    training = [each for each in seen if each.phase == "training"]
    assert len(training) == 9
    assert [each.phase for each in seen if each not in training] == ["signal at the start", "test"]
    seen = training
    assert (seen[-1].epoch, seen[-1].epochs, seen[-1].share) == (3, 3, 1.0)
    assert str(seen[-1]).startswith("epoch 3/3 100%  loss ")


@pytest.mark.slow
def test_vgg38_vanishes_and_batchnorm_rescues(tmp_path: Path) -> None:
    """One step of the paper's net at full width: the gradients of the facts, first convolution."""
    flows = {}
    for norm in ("none", "batch"):
        config = tiny(net=NetConfig(depth=38, norm=norm), epochs=1, batch_size=60)
        flow = train_run(config, RunFolder(tmp_path / norm), digits()).flow
        flows[norm] = flow.mean_abs[0, flow.weights]
    assert len(flows["none"]) == 38
    assert flows["none"][0] < 1e-17
    assert 1e-4 < flows["batch"][0] < 1


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(tmp_path: Path) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    cpu = train_run(tiny(epochs=1), RunFolder(tmp_path / "cpu"), digits(), device="cpu")
    gpu = train_run(tiny(epochs=1), RunFolder(tmp_path / "gpu"), digits(), device="cuda")
    assert gpu.epochs[0].train_loss == pytest.approx(cpu.epochs[0].train_loss, rel=1e-3)
    assert gpu.flow.mean_abs[0] == pytest.approx(cpu.flow.mean_abs[0], rel=1e-2, abs=1e-9)


# No random draws, beside the paper's VGG. Where norms follow every convolution, tanh: a sign that rounding
# turns at a kink changes a small network's gradients by a tenth, on a CPU too.
NETS = {
    "resnet-a": NetConfig(family="resnet", depth=8, filters=4, activation="tanh"),
    "resnet-b": NetConfig(family="resnet", depth=8, filters=4, activation="tanh", shortcut="b"),
    "plain": NetConfig(family="plain", depth=8, filters=4, activation="tanh"),
    "densenet": NetConfig(family="densenet", depth=10, filters=4, activation="tanh", growth=4),
    "densenet-bc": NetConfig(family="densenet_bc", depth=10, activation="tanh", growth=4),
    "skip": NetConfig(depth=14, filters=4, norm="none", skip=True),
    "group": replace(TINY.net, norm="group", groups=2, activation="tanh"),
    "fixup": NetConfig(family="resnet", depth=8, filters=4, norm="none", init="fixup"),
    **{
        norm: replace(TINY.net, norm=norm, activation="tanh")
        for norm in ("none", "algorithm1", "renorm", "layer", "instance", "weight")
    },
    **{
        init: replace(TINY.net, norm="none", init=init)
        for init in ("he", "glorot", "orthogonal", "delta_orthogonal", "lsuv")
    },
    **{
        activation: replace(TINY.net, norm="none", activation=activation)
        for activation in ("relu", "tanh", "sigmoid", "gelu", "selu")
    },
}
DRAWING = {
    "dropout": NetConfig(depth=14, filters=4, dropout=0.2),
    "stochastic-depth": NetConfig(depth=14, filters=4, skip=True, stochastic_depth=0.5),
}


@pytest.mark.gpu
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_every_network_trains_on_cuda_as_on_the_cpu(tmp_path: Path, net: NetConfig) -> None:
    """Four epochs: mini-batches of both sizes are replayed from a graph by then."""
    config = tiny(net=net, optim=OptimConfig(name="sgd", lr=0.01), epochs=4)
    cpu = train_run(config, RunFolder(tmp_path / "cpu"), digits(), device="cpu")
    gpu = train_run(config, RunFolder(tmp_path / "gpu"), digits(), device="cuda")
    assert gpu.curve("train_loss") == pytest.approx(cpu.curve("train_loss"), rel=1e-3)
    assert gpu.flow.mean_abs[3] == pytest.approx(cpu.flow.mean_abs[3], rel=1e-2, abs=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("net", DRAWING.values(), ids=DRAWING)
def test_networks_that_draw_train_alike_again_on_cuda(tmp_path: Path, net: NetConfig) -> None:
    first, again = (
        train_run(tiny(net=net), RunFolder(tmp_path / name), digits(), device="cuda") for name in ("a", "b")
    )
    assert first.curve("train_loss") == pytest.approx(again.curve("train_loss"), rel=1e-3)


def test_a_run_goes_on_with_the_threads_it_was_begun_with(tmp_path: Path) -> None:
    """Over another number of threads sums are rounded otherwise: it would be neither's."""
    folder, said, before = RunFolder(tmp_path / "run"), list[object](), torch.get_num_threads()
    torch.set_num_threads(1)

    def dies(progress: object) -> None:
        if isinstance(progress, Progress) and progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(TINY, folder, digits(), report=dies)
    torch.set_num_threads(2)
    try:
        train_run(TINY, folder, digits(), report=said.append)
        assert torch.get_num_threads() == 2, "the process has as many threads as before"
        torch.set_num_threads(1)
        whole = RunFolder(tmp_path / "whole")
        train_run(TINY, whole, digits())
    finally:
        torch.set_num_threads(before)
    assert folder.status()["threads"] == 1
    assert folder.status()["processor"] == processor()
    assert "continues with 1 thread, as it was begun, instead of 2" in said
    ours, theirs = folder.load(), whole.load()
    assert ours is not None
    assert theirs is not None
    assert {name: array.tobytes() for name, array in ours.arrays.items()} == {
        name: array.tobytes() for name, array in theirs.arrays.items()
    }
