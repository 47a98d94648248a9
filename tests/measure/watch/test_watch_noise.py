"""Noise scale from accumulation and from ranks: norms of direct arithmetic in float64, and a known scale."""

from __future__ import annotations

import math
import multiprocessing as mp
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.records.noise_scale import NoiseScaleRecord

B, PARTS, WORLD = 4, 3, 2
MEAN = np.array([1.0, -0.5, 0.25, 0.0, 2.0])
SPREAD = np.array([1.0, 2.0, 0.5, 3.0, 1.0])
TRACE, SQUARE = float((SPREAD**2).sum()), float((MEAN**2).sum())


def linear() -> nn.Module:
    """With its output's mean as the loss, the gradient of a sample is the sample itself."""
    return nn.Linear(len(MEAN), 1, bias=False).double()


def samples(steps: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """(steps, PARTS, B, 5) Samples of N(MEAN, SPREAD²)."""
    return MEAN + SPREAD * np.random.default_rng(seed).standard_normal((steps, PARTS, B, len(MEAN)))


def accumulated(steps: int, divide: bool = True, clip: bool = False, seed: int = 0, **options: Any) -> Any:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gs.watch_noise(model, optimizer, batch_size=B, **options) as meter:
        for step in torch.from_numpy(samples(steps, seed)):
            optimizer.zero_grad()
            for part in step:
                (model(part).mean() / (PARTS if divide else 1)).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    return meter.record()


@pytest.mark.parametrize("clip", [False, True])
def test_norms_are_those_of_parts_and_whole(clip: bool) -> None:
    found, drawn = accumulated(5, clip=clip), samples(5)
    parts = drawn.mean(2)
    assert np.allclose(found.small, (parts**2).sum(-1).mean(-1), rtol=1e-12)
    assert np.allclose(found.big, (parts.mean(1) ** 2).sum(-1), rtol=1e-12)
    assert found.parts.tolist() == [PARTS] * 5
    assert found.steps.tolist() == list(range(5))
    spread = ((parts - parts.mean(1, keepdims=True)) ** 2).sum((1, 2)) / (PARTS - 1)
    assert math.isclose(found.noise_trace, B * spread.mean(), rel_tol=1e-10)
    assert math.isclose(found.gradient_square, (found.big - spread / PARTS).mean(), rel_tol=1e-10)


def test_a_sum_of_losses_has_the_scale_of_their_mean() -> None:
    mean, total = accumulated(20), accumulated(20, divide=False)
    assert math.isclose(total.noise_scale, mean.noise_scale, rel_tol=1e-10)
    assert np.allclose(total.big, PARTS**2 * mean.big)


def test_the_estimate_comes_to_the_true_scale_and_its_interval_holds_it() -> None:
    record = accumulated(1_500)
    assert math.isclose(record.noise_trace, TRACE, rel_tol=0.05)
    assert math.isclose(record.gradient_square, SQUARE, rel_tol=0.1)
    low, high = record.interval
    assert low < TRACE / SQUARE < high
    assert high - low < 0.5 * TRACE / SQUARE


def test_intervals_hold_the_true_scale_about_as_often_as_they_say() -> None:
    drawn = np.random.default_rng(1).standard_normal((400, 60, PARTS, len(MEAN)))
    parts = MEAN + SPREAD / math.sqrt(B) * drawn
    small, big = (parts**2).sum(-1).mean(-1), (parts.mean(2) ** 2).sum(-1)
    counts = np.full(60, PARTS)
    held = 0
    for row in range(400):
        low, high = NoiseScaleRecord(np.arange(60), counts, small[row], big[row], B, 1).interval
        held += low <= TRACE / SQUARE <= high
    assert 0.92 <= held / 400 <= 1.0


def test_it_agrees_with_the_measure_at_fixed_parameters() -> None:
    record = accumulated(40)
    batches = [torch.from_numpy(part) for step in samples(40) for part in step]
    measured = gs.noise(linear(), lambda output: output.mean(), batches)
    assert math.isclose(record.noise_trace, measured.noise_trace, rel_tol=0.15)
    assert math.isclose(record.gradient_square, measured.gradient_square, rel_tol=0.15)


def test_every_reads_some_steps_and_a_single_part_none() -> None:
    assert accumulated(10, every=4).steps.tolist() == [0, 4, 8]
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gs.watch_noise(model, optimizer) as meter:
        for _ in range(3):
            model(torch.ones(2, len(MEAN)).double()).mean().backward()
            optimizer.step()
    record = meter.record()
    assert len(record.steps) == 0
    assert math.isnan(record.noise_scale)
    assert record.interval == (0.0, math.inf)
    assert record.meaning.startswith("no step had parts to compare")
    assert record.notes == ("3 steps had a single part, with which there is nothing to compare",)
    assert "noise scale nan" in str(record)
    assert record.to_dict()["noise_scale"] == "NaN"


@pytest.mark.parametrize(("parts", "word"), [(2, "below the noise scale"), (400, "above the noise scale")])
def test_the_meaning_compares_a_step_with_the_scale(parts: int, word: str) -> None:
    drawn = np.random.default_rng(2).standard_normal((200, parts, len(MEAN)))
    rows = MEAN + SPREAD * drawn
    small, big = (rows**2).sum(-1).mean(-1), (rows.mean(1) ** 2).sum(-1)
    assert word in NoiseScaleRecord(np.arange(200), np.full(200, parts), small, big, 1, 1).meaning


def test_gradients_that_are_not_finite_are_left_out() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gs.watch_noise(model, optimizer) as meter:
        for step in range(4):
            optimizer.zero_grad()
            for _ in range(2):
                (model(torch.ones(2, len(MEAN)).double()).mean() * (math.inf if step == 1 else 1)).backward()
            optimizer.step()
    assert meter.record().steps.tolist() == [0, 2, 3]
    assert meter.record().notes == ("1 step left out: gradients are not finite",)


def test_a_training_is_bit_for_bit_the_same_and_keeps_no_hook() -> None:
    def weights(watched: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.Linear(6, 1)).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        with gs.watch_noise(model, optimizer) if watched else nullcontext():
            for step in torch.from_numpy(samples(5)):
                optimizer.zero_grad()
                for part in step:
                    model(part).square().mean().backward()
                optimizer.step()
        assert all(not parameter._backward_hooks for parameter in model.parameters())
        return [*model.parameters(), torch.get_rng_state()]

    assert all(map(torch.equal, weights(watched=True), weights(watched=False)))


def test_numbers_below_1_are_refused() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.raises(ConfigError, match="batch_size: expected a whole number, 1 or more; got 0"):
        gs.watch_noise(model, optimizer, batch_size=0)
    with pytest.raises(ConfigError, match="every: expected a whole number, 1 or more; got 0"):
        gs.watch_noise(model, optimizer, every=0)


# Two ranks ----------------------------------------------------------------------------------------------


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def micro_batches(rank: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(10 * step + rank)
    for _ in range(2):
        yield (
            torch.randn(B, 6, generator=generator).double(), torch.randn(B, 2, generator=generator).double()
        )  # fmt: skip


def _process(rank: int, meeting: str, results: Any) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    meter = gs.watch_noise(model, optimizer, batch_size=B)
    for step in range(4):
        optimizer.zero_grad()
        for number, (x, y) in enumerate(micro_batches(rank, step)):
            with model.no_sync() if number == 0 else nullcontext():
                (mse_loss(model(x), y) / 2).backward()
        optimizer.step()
    sharded = fully_shard(net(), mesh=init_device_mesh("cpu", (WORLD,)))
    try:
        gs.watch_noise(sharded, torch.optim.SGD(sharded.parameters(), lr=0.0))
        refusal = ""
    except ConfigError as error:
        refusal = str(error)
    results.put((rank, meter.record(), refusal))
    results.close()
    results.join_thread()
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_and_accumulation_have_the_norms_of_one_process(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    results = context.Queue()
    meeting = f"file://{tmp_path / 'meeting'}"
    processes = [context.Process(target=_process, args=(rank, meeting, results)) for rank in range(WORLD)]
    for each in processes:
        each.start()
    found = {
        rank: (record, refusal) for rank, record, refusal in (results.get(timeout=100) for _ in processes)
    }
    for each in processes:
        each.join(20)
    model = net()
    for step in range(4):
        gradients = np.stack([
            np.concatenate([
                each.numpy().ravel()
                for each in torch.autograd.grad(mse_loss(model(x), y), list(model.parameters()))
            ])
            for rank in range(WORLD) for x, y in micro_batches(rank, step)
        ])  # fmt: skip
        squares = (gradients**2).sum(1)
        for rank in range(WORLD):
            record, refusal = found[rank]
            assert record.parts[step] == 2 * WORLD
            assert record.ranks == WORLD
            assert math.isclose(record.small[step], squares[2 * rank : 2 * rank + 2].mean(), rel_tol=1e-10)
            assert math.isclose(record.big[step], (gradients.mean(0) ** 2).sum(), rel_tol=1e-10)
            assert refusal.endswith("type gs.noise(model, loss, batches)")
