"""A small DDP training on gloo, and faults that are put into one of its ranks, in processes of its own."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import socket
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 50


def net(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 7), nn.BatchNorm1d(7) if norm else nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)
    )


@dataclass(frozen=True)
class Fault:
    """What is done to a rank.

    Attributes:
        rank: Number of the rank.
        step: Step before or after which it is done, from 0.
        norm: Whether the model has BatchNorm, whose buffers are not sent between ranks.
        options: Options of the comparison.
        steps: Number of steps.
        watched: Whether the training is watched.
    """

    rank: int = 2
    step: int = 12
    norm: bool = False
    options: tuple[tuple[str, Any], ...] = (("every", 5), ("silence", 30.0))
    steps: int = STEPS
    watched: bool = True

    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> bool:
        """Do something before the optimizer's step; return whether to make it."""
        return True

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Do something after the optimizer's step."""

    def build(self, model: nn.Module) -> nn.Module:
        if not self.norm:
            return DistributedDataParallel(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its successor is younger than some torch
            return DistributedDataParallel(model, broadcast_buffers=False)


@dataclass(frozen=True)
class FlippedBit(Fault):
    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == self.step:
            bits = model.module[2].weight.data.view(torch.int32)  # type: ignore[union-attr, operator]
            bits[1, 3] ^= 1 << 12  # the last bit would be rounded away where a weight doubles


@dataclass(frozen=True)
class OtherRate(Fault):
    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> bool:
        if step >= self.step:
            optimizer.param_groups[0]["lr"] = 0.2
        return True


@dataclass(frozen=True)
class LeftOut(Fault):
    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> bool:
        return step != self.step


@dataclass(frozen=True)
class ChangedGradient(Fault):
    def before_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> bool:
        if step == self.step:
            model.module[4].bias.grad[0] += 1e-6  # type: ignore[union-attr, operator, index]
        return True


@dataclass(frozen=True)
class Stalled(Fault):
    seconds: float = 6.0

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == self.step:
            time.sleep(self.seconds)


@dataclass(frozen=True)
class Killed(Fault):
    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Sharded(Fault):
    """A flipped bit in one rank's shard under FSDP2, with or without a replicate dimension."""

    mesh: tuple[int, ...] = (2, 2)

    def build(self, model: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", self.mesh, mesh_dim_names=("replicate", "shard")[-len(self.mesh) :])
        sharded: nn.Module = fully_shard(model, mesh=mesh)
        return sharded

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == self.step:
            model[2].weight.to_local().data.view(torch.int32)[0, 3] ^= 1 << 12  # type: ignore[index, operator, union-attr]


def batch(rank: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * step + rank)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)


def train(fault: Fault, rank: int) -> dict[str, Any]:
    """Train, and return what the watch has found, with the weights."""
    import gradscape as gs

    model = fault.build(net(fault.norm))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    here = fault if rank == fault.rank else Fault()
    ranks = gs.Ranks(**dict(fault.options))
    heard: list[str] = []
    flow = (
        gs.watch(model, optimizer, ranks=ranks, on_finding=lambda alert: heard.append(alert.verdict))
        if fault.watched
        else None
    )
    error, start = "", time.monotonic()
    try:
        for step in range(fault.steps):
            x, y = batch(rank, step)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            if here.before_step(model, optimizer, step):
                optimizer.step()
            here.after_step(model, optimizer, step)
    except RuntimeError as caught:  # of a rank that lost another one
        error = str(caught)
        if flow is not None:
            time.sleep(2 * ranks.silence)
    held = [getattr(parameter, "_local_tensor", parameter).detach() for parameter in model.parameters()]
    weights = [each.numpy().tobytes() for each in held]
    state = torch.random.get_rng_state().sum().item()
    if flow is None:
        return {"weights": weights, "state": state}
    trained = time.monotonic() - start
    flow.close()
    found = flow.history()
    return {
        "weights": weights, "state": state, "history": found.ranks, "notes": found.notes, "error": error,
        "diagnosis": gs.diagnose(flow) if found.ranks is not None else None, "heard": heard,
        "sent": flow._recorder.ranks.exchange.sent, "trained": trained,
        "closing": time.monotonic() - start - trained,
    }  # fmt: skip


def _process(rank: int, world: int, faults: dict[str, Fault], meeting: str, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    for name, fault in faults.items():
        try:
            results.put((name, rank, train(fault, rank)))
        except Exception as error:  # for the test to say it
            results.put((name, rank, repr(error)))
    results.close()
    results.join_thread()
    if not any(isinstance(fault, Killed) for fault in faults.values()):
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(faults: dict[str, Fault], folder: Path, gone: int = 0, world: int = 4) -> dict[str, dict[int, Any]]:
    """Make trainings one after another in the same processes, and return what each rank has found in each.

    Args:
        faults: What is done to a rank, per name of the training.
        folder: Empty folder.
        gone: Number of ranks that are not expected to end.
        world: Number of ranks.
    """
    context = mp.get_context("spawn")
    results = context.Queue()
    # Both kinds of store: one that is a file, and one with a server.
    meeting = f"tcp://127.0.0.1:{_free_port()}" if gone else f"file://{folder / 'meeting'}"
    processes = [
        context.Process(target=_process, args=(rank, world, faults, meeting, results))
        for rank in range(world)
    ]
    for each in processes:
        each.start()
    found: dict[str, dict[int, Any]] = {name: {} for name in faults}
    for _ in range((world - gone) * len(faults)):
        name, rank, result = results.get(timeout=100)
        assert isinstance(result, dict), result
        found[name][rank] = result
    for each in processes:
        each.join(20)
    assert [each.exitcode for each in processes].count(0) == world - gone
    return found
