"""Everything that a model is, by path, so that two states can be compared to the bit."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEP = 7  # levels below a module


def snapshot(model: nn.Module, identities: bool = True) -> dict[str, Any]:
    """Every attribute of every module, with what lies in it, and the random numbers to come.

    Args:
        model: is only read.
        identities: also which object and which memory each is.
    """
    found: dict[str, Any] = {
        "rng torch": digest(torch.get_rng_state()),
        "rng numpy": repr(np.random.get_state()),
        "rng python": random.getstate(),
    }
    for name, module in model.named_modules(remove_duplicate=False):
        look(vars(module), name or "model", found, identities, set(), DEEP)
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The paths whose values are not the same."""
    return [
        f"{path}: {before.get(path, 'nothing')} → {after.get(path, 'nothing')}"
        for path in dict.fromkeys([*before, *after])
        if path not in before or path not in after or before[path] != after[path]
    ]


def look(value: Any, path: str, found: dict[str, Any], identities: bool, above: set[int], deep: int) -> None:
    where = (id(value),) if identities else ()
    if isinstance(value, Tensor):
        found[path] = tensor_state(value, identities)
        if value.is_leaf and value.grad is not None:
            found[f"{path}.grad"] = tensor_state(value.grad, identities)
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            hooks = list(getattr(value, name, None) or {})
            found[f"{path}.{name}"] = hooks if identities else len(hooks)
        return
    if isinstance(value, nn.Module | type | FunctionType | MethodType | ModuleType) or not deep:
        found[path] = (type(value).__name__, *where)
        return
    if isinstance(value, torch.Generator):
        found[path] = (digest(value.get_state()), *where)
        return
    if isinstance(value, np.random.Generator):
        found[path] = (repr(value.bit_generator.state), *where)
        return
    parts = inside(value)
    if parts is None:
        found[path] = (
            repr(value) if isinstance(value, str | int | float | bytes | None) else type(value).__name__
        )
        return
    found[path] = (type(value).__name__, len(parts), *where)
    if id(value) in above:
        return
    for place, (name, part) in enumerate(parts.items()):
        name = name if identities or not name.isdigit() else str(place)  # hooks are numbered over all models
        look(part, f"{path}.{name}", found, identities, above | {id(value)}, deep - 1)


def inside(value: Any) -> dict[str, Any] | None:
    """The parts of a container, or the attributes of an object."""
    if isinstance(value, Mapping):
        return {**{str(key): part for key, part in value.items()}, **getattr(value, "__dict__", {})}
    if isinstance(value, list | tuple):
        return {str(place): part for place, part in enumerate(value)}
    if isinstance(value, set | frozenset):
        return {str(part): None for part in sorted(value, key=str)}
    held = getattr(value, "__dict__", None)
    return dict(held) if isinstance(held, dict) else None


def tensor_state(value: Tensor, identities: bool) -> tuple[Any, ...]:
    where = (id(value), value.data_ptr() if value.layout is torch.strided else 0) if identities else ()
    kind = (type(value).__name__, str(value.dtype), tuple(value.shape), value.requires_grad, value.is_leaf)
    return (*kind, digest(value), *where)


def digest(value: Tensor) -> str:
    if value.is_meta:
        return "nowhere"
    dense = (value if value.layout is torch.strided else value.to_dense()).detach().cpu().contiguous()
    return hashlib.sha256(dense.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:12]


def saved(model: nn.Module) -> dict[str, str]:
    """The files that `save_pretrained` writes, of a model that has it."""
    if not hasattr(model, "save_pretrained"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
