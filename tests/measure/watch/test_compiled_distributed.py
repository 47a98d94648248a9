"""Outputs inside compiled code in two processes: DDP, FSDP2, and tensor parallelism by DTensor, on gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rank_processes import results_of_ranks

WORLD = 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(self.act(self.up(x)))
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList(Block() for _ in range(2)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x)
        return out


def ddp(model: Net) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model: Net) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: Net) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (WORLD,))
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


WRAPS: dict[str, Callable[[Net], nn.Module]] = {"ddp": ddp, "fsdp": fsdp, "tensor parallel": tensor_parallel}


def each_block(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, Block):
            module.compile(backend="aot_eager", fullgraph=True)
    return model


def whole(model: nn.Module) -> Any:
    return torch.compile(model, backend="aot_eager")


COMPILED: tuple[Callable[[nn.Module], Any], ...] = (lambda model: model, each_block, whole)


def seen(wrap: Callable[[Net], nn.Module], compiled: Callable[[nn.Module], Any], x: Tensor) -> dict[str, Any]:
    import gradscape as gs

    torch._dynamo.reset()
    torch.manual_seed(0)
    model = compiled(wrap(Net()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, activations=True) as flow:
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    history = flow.history()
    assert history.activations is not None
    return {**history.activations.to_dict(), "notes": history.notes, "graphs": graphs()}


def graphs() -> int:
    count: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch._dynamo.utils.counters.clear()
    return count


def process(rank: int, name: str, meeting: str, results: Any) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    given = x if name == "tensor parallel" else x[rank::WORLD]
    try:
        results.put((rank, [seen(WRAPS[name], compiled, given) for compiled in COMPILED]))
    except Exception as error:  # for the test to say it
        results.put((rank, repr(error)))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "fsdp",
        pytest.param("ddp", marks=pytest.mark.long),
        pytest.param("tensor parallel", marks=pytest.mark.long),
    ],
)
def test_outputs_are_those_of_eager_in_each_process(name: str, tmp_path: Path) -> None:
    found = results_of_ranks(process, WORLD, name, str(tmp_path / "meeting"))
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    for rank in range(WORLD):
        assert isinstance(found[rank], list), found[rank]
        plain, *compiled = found[rank]
        assert plain["layers"][:4] == ["input", "blocks.0.up", "blocks.0.act", "blocks.0.down"]
        given = x if name == "tensor parallel" else x[rank::WORLD]
        assert plain["second_moment"][0][0] == pytest.approx(float(given.square().mean()), rel=1e-6)
        for history in compiled:
            assert history["layers"] == plain["layers"]
            for statistic in ("second_moment", "correlation", "dead"):
                ours, theirs = (np.array(each[statistic], dtype=float) for each in (history, plain))
                assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-6, equal_nan=True), statistic
            assert history["notes"] == plain["notes"] == ()
            assert history["graphs"] > 0
