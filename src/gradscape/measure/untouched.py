"""A model is left as found: whatever is done to it inside a `with` is undone when the block ends.

Hooks are a module's private dictionaries, and so are its parameters, buffers and children: all are put back
as they were. What a measurement cannot undo, such as a file that a model writes, is the model's own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradscape.errors import ConfigError

TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leave a model, and the random numbers to come, as found, also when the block ends in an error.

    Kept are values and identity of parameters and buffers, `.grad` and its values, `requires_grad`, the mode
    of every submodule, every hook, and the random states of torch (CPU, CUDA once in use), numpy and Python.
    Within the block gradients begin as None and hooks on parameters are silent: a watch sees nothing of it.

    Args:
        model: any module; the block needs memory for a copy of its parameters and buffers.

    Raises:
        ConfigError: a lazy layer has yet to see its first batch.

    Example:
        >>> with untouched(model):
        ...     loss(model.eval()(x), y).backward()
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ConfigError(
                f"{name} of {type(model).__name__} has no shape yet: call the model on a batch once, first"
            )
    with random_state(), ExitStack() as stack:
        for module in model.modules():
            stack.enter_context(same_module(module))
        for parameter in model.parameters():
            stack.enter_context(same_parameter(parameter))
        for tensor in [*model.parameters(), *model.buffers()]:
            stack.enter_context(same_values(tensor))
        yield


@contextmanager
def random_state() -> Iterator[None]:
    """Leave every global generator as found: torch's on CPU and CUDA, numpy's, Python's.

    Example:
        >>> with random_state():
        ...     torch.manual_seed(0)
    """
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if in_use else None
    cpu, array, plain = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        np.random.set_state(array)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def same_module(module: nn.Module) -> Iterator[None]:
    """Mode, parameters, buffers, children and hooks of one module, children's own left to them."""
    training = module.training
    kept = {
        name: (value, dict(value))
        for name, value in vars(module).items()
        if name.startswith("_") and isinstance(value, dict)
    }
    try:
        yield
    finally:
        module.training = training
        for name, (held, entries) in kept.items():
            refill(held, entries)
            vars(module)[name] = held


@contextmanager
def same_parameter(parameter: nn.Parameter) -> Iterator[None]:
    """`.grad`, `requires_grad` and tensor hooks of one parameter."""
    needed, gradient = parameter.requires_grad, parameter.grad
    hooks: dict[str, dict[Any, Any]] = {}
    for name in TENSOR_HOOKS:
        held = getattr(parameter, name, None)
        hooks[name] = dict(held or {})
        refill(held, {})
    parameter.grad = None  # a backward pass would add to the tensor that is there
    try:
        yield
    finally:
        parameter.requires_grad_(needed)
        parameter.grad = gradient
        for name, entries in hooks.items():
            refill(getattr(parameter, name, None), entries)


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Running statistics and other buffers' values."""
    with ExitStack() as stack:
        for buffer in model.buffers():
            stack.enter_context(same_values(buffer))
        yield


@contextmanager
def same_values(tensor: Tensor) -> Iterator[None]:
    storage, values = tensor.data, tensor.detach().clone()
    try:
        yield
    finally:
        if tensor.data_ptr() != storage.data_ptr() or tensor.shape != storage.shape:
            tensor.data = storage
        # By .data: a graph that the caller holds must not be told of a change that was undone.
        if not torch.equal(tensor.data, values):
            tensor.data.copy_(values)


def refill(held: dict[Any, Any] | None, entries: dict[Any, Any]) -> None:
    """Give a dictionary these entries; the very object, for autograd and hook handles hold on to it."""
    if held is not None:
        held.clear()
        held.update(entries)
