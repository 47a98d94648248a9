"""Save and restore the state of a model's modules: attributes, hooks, and their contents.

Only what has changed is written back: a user's own dictionary type may refuse writes, or react to them.
"""

from __future__ import annotations

import operator
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

DEPTH = 4  # levels below a module: an attribute that is an object, its list, the entries of that
MOST = 10_000  # largest container that is searched: larger ones are data
PutBack = Callable[[], None]


class AsFound:
    """Saved state of a model's modules, as it is when this object is made.

    It has every attribute by identity, among them mode, hooks, parameters, buffers and children; the entries
    of lists, dicts and sets among them, and the attributes of other objects; the values of tensors that are
    no parameters, and of arrays; the states of random generators. It does not have the values of parameters
    and buffers.

    Args:
        model: Any module.
    """

    def __init__(self, model: nn.Module) -> None:
        registered = [*model.parameters(), *model.buffers()]
        self.seen = {id(each) for each in registered}
        self.undo: list[PutBack] = []
        for module in model.modules():
            self.note(vars(module), DEPTH)

    def note(self, value: Any, depth: int) -> None:
        """Save one value and its contents.

        Args:
            value: Any object.
            depth: Levels to descend.
        """
        if id(value) in self.seen or value is None or isinstance(value, str | int | float):
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            if value.is_leaf and not value.requires_grad:
                self.undo.append(tensor_undo(value))
            return
        kind = next((kind for kind in VALUES if isinstance(value, kind)), None)
        if kind is not None:
            self.undo.append(VALUES[kind](value))
            return
        inside = value if type(value) in KINDS else _attributes(value)
        if inside is None or not depth or len(inside) > MOST:
            return
        self.undo.append(KINDS[type(inside)](inside))
        for each in inside.values() if isinstance(inside, dict) else inside:
            self.note(each, depth - 1)

    def put_back(self) -> None:
        """Restore everything, and repeat if Ctrl-C interrupts."""
        try:
            self.run()
        except KeyboardInterrupt:
            self.run()
            raise

    def run(self) -> None:
        """Restore each value, even after one that fails: the parameters may be the last."""
        failed: Exception | None = None
        for undo in self.undo:
            try:
                undo()
            except Exception as error:
                failed = error
        if failed is not None:
            raise failed


@contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """Restore the state of a model's modules when the block ends, see `AsFound`.

    Args:
        model: Any module.
    """
    found = AsFound(model)
    try:
        yield
    finally:
        found.put_back()


@contextmanager
def standing_in(
    model: nn.Module, values: Mapping[str, Tensor], found: AsFound | None = None
) -> Iterator[None]:
    """Replace a model's parameters and buffers, under each of their names, until the block ends.

    torch.func.functional_call fails for a module that is registered twice: it restores the replacements.

    Args:
        model: Module, whose own tensors are neither written nor lost.
        values: Replacements by the names of `named_parameters` and `named_buffers`.
        found: Saved state of the model, if there is one already.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    new = {id(own[name]): value for name, value in values.items()}
    found = AsFound(model) if found is None else found
    try:
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None and id(tensor) in new:
                        held[name] = new[id(tensor)]  # type: ignore[assignment]
        yield
    finally:
        found.put_back()


def generators_undo(value: object) -> list[PutBack]:
    """Return functions that restore the random generators among an object's attributes.

    Args:
        value: Any object.
    """
    held = getattr(value, "__dict__", {}).values()
    return [undo(each) for each in held for kind, undo in GENERATORS.items() if isinstance(each, kind)]


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return an ordinary object's attributes; those of the standard library, as loggers, are shared."""
    if isinstance(value, nn.Module | type | FunctionType | ModuleType | torch.optim.Optimizer):
        return None
    held = getattr(value, "__dict__", None)
    shared = type(value).__module__.partition(".")[0] in sys.stdlib_module_names
    return held if type(held) is dict and not shared else None


def _dict_undo(held: dict[Any, Any]) -> PutBack:
    if not held:  # as most of a module's dictionaries are
        return held.clear
    keys, values = list(held), list(held.values())

    def put_back() -> None:
        if len(held) == len(keys) and all(map(operator.is_, held.values(), values)) and list(held) == keys:
            return
        held.clear()
        held.update(zip(keys, values, strict=True))

    return put_back


def _list_undo(held: Any) -> PutBack:
    entries = list(held)

    def put_back() -> None:
        if len(held) != len(entries) or not all(map(operator.is_, held, entries)):
            held.clear()
            held.extend(entries)

    return put_back


def _set_undo(held: set[Any]) -> PutBack:
    entries = set(held)

    def put_back() -> None:
        if held != entries:
            held.clear()
            held.update(entries)

    return put_back


def tensor_undo(tensor: Tensor) -> PutBack:
    """Return a function that restores a tensor's memory and values.

    Args:
        tensor: Tensor of any layout.
    """
    storage = tensor.data
    held = [(part, part.clone()) for part in in_memory(storage)]
    places = [_place(part) for part, _ in held]

    def put_back() -> None:
        if [_place(part) for part in in_memory(tensor.data)] != places:
            tensor.data = storage
        # Through .data: a graph of the caller must not register a change that was undone.
        for part, values in held:
            if not torch.equal(part, values):
                part.copy_(values)

    return put_back


def in_memory(tensor: Tensor) -> list[Tensor]:
    """Return the dense tensors that store a tensor's elements; none on `meta`.

    Args:
        tensor: Tensor of any layout.
    """
    if tensor.is_meta:
        found = []
    elif tensor.is_nested:
        found = [tensor.values()]
    elif tensor.layout is torch.sparse_coo:
        found = [tensor._indices(), tensor._values()]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        found = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        found = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        found = [tensor] if tensor.layout is torch.strided else []
    return found


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape


def _torch_generator_undo(generator: torch.Generator) -> PutBack:
    state = generator.get_state()
    return lambda: _void(generator.set_state(state))


def _numpy_generator_undo(generator: np.random.Generator) -> PutBack:
    bits, state = generator.bit_generator, generator.bit_generator.state

    def put_back() -> None:
        bits.state = state

    return put_back


def _random_state_undo(generator: np.random.RandomState) -> PutBack:
    state = generator.get_state()
    return lambda: generator.set_state(state)


def _python_generator_undo(generator: random.Random) -> PutBack:
    state = generator.getstate()
    return lambda: generator.setstate(state)


def _array_undo(array: NDArray[Any]) -> PutBack:
    if array.dtype.hasobject or isinstance(array, np.memmap):
        return lambda: None
    values = array.copy()

    def put_back() -> None:
        if array.flags.writeable and not np.array_equal(array, values):
            array[...] = values

    return put_back


def _void(_: object) -> None:
    """Discard the value of a call."""


# Dicts of callables: type → function that saves an object and returns a function that restores it.
KINDS: dict[type, Callable[[Any], PutBack]] = {
    dict: _dict_undo,
    OrderedDict: _dict_undo,
    defaultdict: _dict_undo,
    list: _list_undo,
    deque: _list_undo,
    set: _set_undo,
}
GENERATORS: dict[type, Callable[[Any], PutBack]] = {
    torch.Generator: _torch_generator_undo,
    np.random.Generator: _numpy_generator_undo,
    np.random.RandomState: _random_state_undo,
    random.Random: _python_generator_undo,
}
VALUES = {np.ndarray: _array_undo, **GENERATORS}
