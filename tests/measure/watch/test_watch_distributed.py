"""Watching in two processes: DDP's averaged gradients, and FSDP2's shards read as wholes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradscape.measure.core import pieces
from rank_processes import results_of_ranks

WORLD = 2


def net(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: bool) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()


def watched(wrap: Callable[[nn.Module], nn.Module], x: Tensor, y: Tensor, clip: bool, width: int) -> Any:
    import gradscape as gs

    model = wrap(net(width))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    flow = gs.watch(model, optimizer, distributions=True)
    train(model, optimizer, x, y, clip)
    return flow.history()


def wrapped_ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def checkpointed(model: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return sharded(nn.Sequential(*(checkpoint_wrapper(layer) for layer in model)))


def in_parts(model: nn.Module) -> nn.Module:
    """Tensor parallelism: the bias of the first layer is whole on each process, and a DTensor too."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

    plan = {"0": RowwiseParallel(input_layouts=Replicate())}
    return parallelize_module(model, init_device_mesh("cpu", (WORLD,)), plan)


WRAPS = {
    "ddp": wrapped_ddp,
    "fsdp": sharded,
    "fsdp checkpointed": checkpointed,
    "fsdp thinned": sharded,
    "tensor parallel": in_parts,
}
CLIPPED = dict.fromkeys(WRAPS, False) | {"ddp": True}  # gradients are read before only in DDP
WIDTH = dict.fromkeys(WRAPS, 7) | {"fsdp thinned": 20_000}
SEEN = dict.fromkeys(WRAPS, "when the step began, reduced and unscaled, after any clipping") | {
    "ddp": "after the backward pass, reduced, before any clipping",
}


def process(rank: int, name: str, meeting: str, results: Any) -> None:
    import torch.distributed as dist

    if name == "fsdp thinned":
        pieces.WHOLE = 0
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    x, y = data()
    part = slice(None) if name == "tensor parallel" else slice(rank, None, WORLD)
    try:
        history = watched(WRAPS[name], x[part], y[part], CLIPPED[name], WIDTH[name])
        results.put((rank, history.to_dict()))
    except Exception as error:  # for the test to say it
        results.put((rank, repr(error)))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPS)
def test_both_processes_see_the_gradients_of_one(name: str, tmp_path: Path) -> None:
    found = results_of_ranks(process, WORLD, name, str(tmp_path / "meeting"))
    whole = watched(lambda model: model, *data(), CLIPPED[name], WIDTH[name])
    thinned = name == "fsdp thinned"
    losses = [found[rank]["loss"]["values"] for rank in range(WORLD)]  # each is of the rank's own batch
    assert np.allclose(np.mean(losses, axis=0), whole.loss.values, rtol=2e-3)
    for rank in range(WORLD):
        history = found[rank]
        assert isinstance(history, dict), history
        assert tuple(history["layers"]) == whole.layers
        assert history["seen"] == SEEN[name]
        for statistic in ("mean_abs", "max_abs", "rms", "zeros", "weight"):
            assert np.allclose(history[statistic], getattr(whole, statistic), rtol=2e-4, atol=1e-9), statistic
        assert np.allclose(history["update"], whole.update, rtol=0.03 if thinned else 2e-4, atol=1e-9)
        assert np.allclose(history["agreement"][1:], whole.agreement[1:], atol=0.05 if thinned else 1e-4)
        both = history["distributions"], whole.distributions.to_dict()
        assert both[0]["weights"]["layers"] == list(whole.layers)
        first, other = (np.array(each["weights"]["values"])[0] for each in both)
        assert np.array_equal(first, other)  # the same weights to the bit, in however many parts
        gradients, others = (np.array(each["gradients"]["values"]) for each in both)
        bucket = 1 / 8  # rounding may bring a number into the next one
        assert np.allclose(gradients, others, rtol=bucket, atol=1e-9)


def unequal(rank: int, meeting: str, results: Any) -> None:
    """Train a model that counts as large, on ranks whose clocks tell them other things."""
    from datetime import timedelta

    import torch.distributed as dist

    import gradscape as gs
    from gradscape.measure.watch import schedule

    torch.set_num_threads(1)
    schedule.SMALL = 0
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=30)
    )
    model = sharded(net(7))
    flow = gs.watch(model, optimizer := torch.optim.Adam(model.parameters(), lr=0.01))
    flow._recorder.schedule.began -= 0.3 * rank  # by its own clock this rank has time for a reading earlier
    for _ in range(20):
        train(model, optimizer, *data(), clip=False)
    results.put((rank, (flow.error, flow.history().steps.tolist())))
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_of_a_large_sharded_model_read_the_same_steps(tmp_path: Path) -> None:
    found = results_of_ranks(unequal, WORLD, str(tmp_path / "meeting"))
    (error, first), (other, second) = (found[rank] for rank in range(WORLD))
    assert (error, other) == ("", "")
    assert first == second
    assert first[:10] == list(range(10))
