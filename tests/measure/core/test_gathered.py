"""Measurements of sharded models on two gloo processes: the numbers of one, and a training undisturbed."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

WORLD = 2


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model[0].bias.requires_grad_(False)  # type: ignore[union-attr]
    return model


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 6, generator=generator).double(), torch.randn(12, 3, generator=generator).double()


def fully_sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    fully_shard(model[0], mesh=mesh)  # type: ignore[index]
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (WORLD,))
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "fsdp": fully_sharded,
    "tensor parallel": tensor_parallel,
}


def whole(model: nn.Module) -> list[Any]:
    held = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return [each.detach().numpy().copy() for each in held]


def measured(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    import gradscape as gs

    x, y = data()
    batches = [(x[first : first + 3], y[first : first + 3]) for first in range(0, 12, 3)]
    curvature = gs.curvature(model, mse_loss, (x, y), k=3, probes=2, optimizer=optimizer)
    assert curvature.stability is not None
    assert curvature.trace is not None
    return {
        "largest": curvature.ends.largest,
        "smallest": curvature.ends.smallest,
        "trace": curvature.trace.value,
        "sharpness": curvature.stability.sharpness,
        "noise": gs.noise(model, mse_loss, batches).products,
        "beta": gs.smoothness(model, mse_loss, (x, y), lr=0.1).along_gradient.changes,
        "notes": curvature.notes,
    }


def trained(wrap: Callable[[nn.Module], nn.Module], is_measured: bool = True) -> dict[str, Any]:
    """Train, measure, and go on: the numbers, and the weights at the end."""
    model, (x, y), found = wrap(net()), data(), dict[str, Any]()
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(free, lr=0.01, weight_decay=0.1)
    for step in range(4):
        if step == 2 and is_measured:
            found = measured(model, optimizer)
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
    return found | {"weights": whole(model)}


def _process(rank: int, meeting: str, results: Any) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    for name, wrap in WRAPS.items():
        for is_measured in (True, False):
            try:
                results.put((name, is_measured, rank, trained(wrap, is_measured)))
            except Exception as error:  # for the test to say it
                results.put((name, is_measured, rank, repr(error)))
    results.close()
    results.join_thread()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool, int], Any]:
    context = mp.get_context("spawn")
    results = context.Queue()
    meeting = f"file://{tmp_path_factory.mktemp('gathered') / 'meeting'}"
    processes = [context.Process(target=_process, args=(rank, meeting, results)) for rank in range(WORLD)]
    for each in processes:
        each.start()
    received = [results.get(timeout=100) for _ in range(2 * len(WRAPS) * WORLD)]
    for each in processes:
        each.join(20)
    assert [each.exitcode for each in processes] == [0] * WORLD
    return {tuple(key): value for *key, value in received}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPS)
def test_sharded_models_have_the_numbers_of_one_process(name: str, found: dict[Any, Any]) -> None:
    alone = trained(lambda model: model)
    for rank in range(WORLD):
        theirs = found[name, True, rank]
        assert isinstance(theirs, dict), theirs
        for quantity in ("largest", "smallest", "trace", "sharpness", "noise", "beta"):
            assert np.allclose(theirs[quantity], alone[quantity], rtol=1e-9, atol=1e-12), quantity
        assert any("gathered on each rank" in note for note in theirs["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPS)
def test_a_training_goes_on_as_if_it_had_not_been_measured(name: str, found: dict[Any, Any]) -> None:
    for rank in range(WORLD):
        with_, without = found[name, True, rank]["weights"], found[name, False, rank]["weights"]
        assert all(np.array_equal(one, other) for one, other in zip(with_, without, strict=True))
