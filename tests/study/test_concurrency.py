"""How many runs at once: by memory, and on a GPU by what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import TINY
from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, RunConfig
from gradscape.errors import ConfigError
from gradscape.study import concurrency as packing
from gradscape.study.concurrency import at_once, images_per_second, share_gpu, share_memory
from gradscape.study.execute import rows_of
from gradscape.study.network_cost import dummy_step, run_bytes
from gradscape.study.packs import Pack
from gradscape.train.precision import Arithmetic
from gradscape.train.step import TrainStep

FP32 = Arithmetic("fp32")
CIFAR = DataConfig(name="cifar100")


@pytest.mark.parametrize(
    ("wanted", "runs", "fit", "answer"),
    [
        (4, 13, 6, (4, "")),
        (8, 13, 6, (6, "6 runs at once: the memory does not hold 8")),
        (8, 5, 1, (1, "1 run at once: the memory does not hold 5")),
        (8, 5, 6, (5, "")),
    ],
)
def test_what_is_asked_for_is_done_if_it_fits(
    wanted: int, runs: int, fit: int, answer: tuple[int, str]
) -> None:
    assert at_once(wanted, runs, fit, lambda count: 0.0) == answer


def test_else_as_many_as_make_it_faster() -> None:
    asked: list[int] = []

    def rate(count: int) -> float:
        asked.append(count)
        return 100.0 * min(count, 4)

    assert at_once(None, 13, 100, rate) == (4, "4 runs at once, 400 images/s: 8 do 400")
    assert asked == [1, 2, 4, 8]
    assert at_once(None, 3, 100, rate) == (3, "3 runs at once, 300 images/s: all there are")
    assert at_once(None, 13, 3, rate) == (3, "3 runs at once, 300 images/s: the memory holds no more")
    assert at_once(None, 1, 3, rate) == (1, "1 run at once, 100 images/s: all there are")


def test_a_lone_run_that_is_packed_needs_memory_for_its_copy() -> None:
    left = {"a": TINY, "b": TINY}
    assert rows_of(Pack(("a",), packed=True), left) == [TINY, TINY]
    assert rows_of(Pack(("a", "b"), packed=True), left) == [TINY, TINY]
    assert rows_of(Pack(("a",)), left) == [TINY]


def test_fewer_workers_where_the_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [[TINY], [RunConfig(data=CIFAR)]]
    needed = run_bytes(alone[1][0])
    monkeypatch.setattr(packing, "memory_free", lambda: 2.5 * needed)
    assert share_memory(alone * 4, 2) == (2, "")
    count, note = share_memory(alone * 4, 8)
    assert count == 2
    assert note == f"2 runs at once: the memory does not hold 8 ({needed / 2**30:.1f} GiB each)"
    monkeypatch.setattr(packing, "memory_free", lambda: 0.0)
    assert share_memory(alone, 2)[0] == 1
    assert share_memory([], 2) == (2, "")


def test_free_memory_is_the_systems_number() -> None:
    assert packing.memory_free() > 2**20


def test_rate_counts_every_runs_images() -> None:
    assert images_per_second(TINY, torch.device("cpu"), FP32, count=2, timed=2) > 0


def test_a_run_that_fails_says_so_and_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each thread but the first: 8 at once on a GPU once waited for one that was dead."""
    made = []

    def dummy(*args: Any) -> TrainStep:
        made.append(args)
        if len(made) > 1:
            raise RuntimeError("the device is lost")
        return dummy_step(*args)

    monkeypatch.setattr(packing, "dummy_step", dummy)
    with pytest.raises(RuntimeError, match="the device is lost"):
        images_per_second(TINY, torch.device("cpu"), FP32, count=3, timed=1)


PEAK = """
import json, re, sys, torch
from pathlib import Path
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict
from gradscape.study.network_cost import dummy_step
from gradscape.train.process import prepare_process
prepare_process(threads=1)
config = from_dict(RunConfig, json.loads(sys.argv[1]))
step = dummy_step(config, torch.device("cpu"), batches=3)
for _ in range(3):
    step(config.batch_size)
# not ru_maxrss: a process starts with that of the process it was forked from
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            RunConfig(net=NetConfig(norm="none"), data=CIFAR, batch_size=200), marks=pytest.mark.long
        ),
        RunConfig(net=NetConfig(norm="algorithm1"), data=CIFAR, batch_size=50),
        pytest.param(
            RunConfig(net=NetConfig(depth=8, filters=128), data=CIFAR, batch_size=100), marks=pytest.mark.long
        ),
        RunConfig(batch_size=20),
    ],
    ids=lambda config: config.identity,
)
def test_memory_is_estimated_above_what_is_used_and_not_by_much(config: RunConfig) -> None:
    from gradscape.config.serialize import to_dict

    done = subprocess.run(
        [sys.executable, "-c", PEAK, json.dumps(to_dict(config))], capture_output=True, text=True, check=True
    )
    used = 1024 * int(done.stdout)
    assert used < run_bytes(config) < 2.6 * used


@pytest.mark.gpu
def test_pack_measures_memory_and_benefit() -> None:
    device = torch.device("cuda")
    configs = [replace(TINY, seed=seed) for seed in range(6)]
    count, note = share_gpu(configs, device, {"fp32": FP32}, None)
    assert 1 <= count <= 6
    assert "images/s" in note
    assert share_gpu(configs, device, {"fp32": FP32}, 2) == (2, "")
    huge = RunConfig(net=NetConfig(filters=4096), data=CIFAR, batch_size=47_500)
    with pytest.raises((ConfigError, torch.cuda.OutOfMemoryError)):
        share_gpu([huge], device, {"fp32": FP32}, None)
