"""Tensors inside containers: tuples, dicts, named tuples, packed sequences, graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Change = Callable[[Tensor], Tensor]


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor inside a value, in the order of its parts.

    Args:
        value: Tensor, container, or anything else, which has none.
    """
    if isinstance(value, Tensor):
        yield value
        return
    for part in _parts(value):
        yield from tensors(part)


def _parts(value: Any) -> Iterator[Any]:
    """Yield the parts of a container; nothing for anything else."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, tuple | list):
        yield from value
    elif is_record(value):
        yield from (getattr(value, field.name) for field in fields(value))
    elif is_graph(value):
        yield from value.to_dict().values()


def mapped(value: Any, change: Change) -> Any:
    """Return a value of the same type with changed tensors; the original is not modified.

    The index tensors of a packed sequence are not changed, as its library requires.

    Args:
        value: Tensor, container, or anything else, which is returned.
        change: Function of each tensor.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, PackedSequence):
        return value._replace(data=change(value.data))
    if isinstance(value, Mapping):
        return _mapped_mapping(value, change)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(part, change) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(part, change) for part in value)
    if is_record(value):
        changed = copy.copy(value)
        for field in fields(value):
            object.__setattr__(changed, field.name, mapped(getattr(value, field.name), change))
        return changed
    return copy.copy(value).apply(change) if is_graph(value) else value


def _mapped_mapping(value: Mapping[Any, Any], change: Change) -> Any:
    if hasattr(value, "batch_size") and hasattr(value, "apply"):  # a TensorDict, whose parts share axes
        return value.apply(change, batch_size=[])
    found = {name: mapped(part, change) for name, part in value.items()}
    if type(value) is dict:
        return found
    try:
        changed: Any = copy.copy(value)
        for name, part in found.items():
            changed[name] = part
    except Exception:  # any type: the mapping cannot be written
        return found
    return changed


def is_record(value: Any) -> bool:
    """Return True for an instance of a dataclass that is no module.

    Args:
        value: Any object.
    """
    return is_dataclass(value) and not isinstance(value, type | nn.Module)


def is_graph(value: Any) -> bool:
    """Return True for an object like PyTorch Geometric's `Data`, with `to_dict` and an in-place `apply`.

    Args:
        value: Any object.
    """
    known = callable(getattr(value, "apply", None)) and callable(getattr(value, "to_dict", None))
    return known and not isinstance(value, type | nn.Module)


def as_plain(value: Tensor) -> Tensor:
    """Convert a subclass of Tensor with mere metadata, such as MONAI's MetaTensor, to a Tensor.

    Subclasses with their own dispatch, such as DTensor, are returned unchanged.

    Args:
        value: Tensor of any class.
    """
    if (
        type(value) in (Tensor, nn.Parameter)
        or type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__
    ):
        return value
    return value.as_subclass(Tensor)
