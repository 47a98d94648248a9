"""Whole tensors of sharded models, and their modules without what torch.distributed does around them.

Under FSDP2 and tensor parallelism a parameter is a DTensor, of which a rank holds a part, and hooks gather or
divide what a module computes with. A measurement gathers the parameters once, on every rank, and computes
with plain tensors from then on: its numbers are those of a single process, and it takes the memory of the
whole model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

GATHERED = "sharded parameters are gathered on each rank, which computes with its own batches"


def is_sharded(tensor: Tensor) -> bool:
    """Return True for a DTensor.

    Args:
        tensor: Any tensor.
    """
    return hasattr(tensor, "placements")


def own_part(tensor: Tensor) -> Tensor:
    """Return the elements of a tensor that this process holds; of a sparse tensor, its values.

    Args:
        tensor: Tensor of any layout, perhaps sharded.
    """
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part.coalesce().values() if part.is_sparse else part


def is_fully_sharded(model: nn.Module) -> bool:
    """Return True if FSDP2 shards a model: its backward pass has gradients of gathered parameters alone.

    Args:
        model: Any module.
    """
    return any(hasattr(module, "set_reshard_after_backward") for module in model.modules())


@torch.no_grad()
def gathered(tensor: Any) -> Tensor:
    """Return the whole of a tensor, by a collective operation if it is a DTensor; all ranks must call it.

    Args:
        tensor: Any tensor.
    """
    whole: Tensor = tensor.detach().full_tensor() if is_sharded(tensor) else tensor
    return whole


def leave_out_hooks(model: nn.Module) -> None:
    """Remove the hooks of torch.distributed from a model's modules; the caller puts them back.

    Args:
        model: Any module.
    """
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks):
            for key, hook in tuple(hooks.items()):
                if _module_of(hook).startswith("torch.distributed."):
                    del hooks[key]


def _module_of(hook: Any) -> str:
    return str(getattr(getattr(hook, "func", hook), "__module__", ""))
