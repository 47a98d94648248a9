"""A model is left as found: whatever is done to it inside a `with` is undone when the block ends.

What its modules hold is put back by `as_found`; here are values, gradients, tensors' hooks, random numbers.
What a measurement cannot undo, such as a file that a model writes, is the model's own.
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
from gradscape.measure.core.as_found import as_found, tensor_undo

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
        ConfigError: a lazy layer has yet to see its first batch, or a module is a scripted one.

    Example:
        >>> with untouched(model):
        ...     loss(model.eval()(x), y).backward()
    """
    refuse(model)
    with random_state(), as_found(model), ExitStack() as stack:
        for parameter in model.parameters():
            stack.enter_context(_same_parameter(parameter))
        for tensor in [*model.parameters(), *model.buffers()]:
            stack.enter_context(_same_values(tensor))
        yield


def refuse(model: nn.Module) -> None:
    """Refuse what no measure can be of.

    Raises:
        ConfigError: a parameter has no shape yet, or a module is one of torch.jit, which takes neither hooks
            nor other parameters.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ConfigError(
                f"{name} of {type(model).__name__} has no shape yet: call the model on a batch once, first"
            )
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"{name} of {type(model).__name__}" if name else "the model"
            raise ConfigError(f"{where} is compiled by torch.jit: give the module that it was made from")


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
def _same_parameter(parameter: nn.Parameter) -> Iterator[None]:
    """`.grad`, `requires_grad` and tensor hooks of one parameter."""
    needed, gradient = parameter.requires_grad, parameter.grad
    hooks = {name: dict(getattr(parameter, name, None) or {}) for name in TENSOR_HOOKS}
    try:
        for name in TENSOR_HOOKS:
            _refill(getattr(parameter, name, None), {})
        parameter.grad = None  # a backward pass would add to the tensor that is there
        yield
    finally:
        parameter.requires_grad_(needed)
        parameter.grad = gradient
        for name, entries in hooks.items():
            _refill(getattr(parameter, name, None), entries)


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Running statistics and other buffers' values."""
    with ExitStack() as stack:
        for buffer in model.buffers():
            stack.enter_context(_same_values(buffer))
        yield


@contextmanager
def _same_values(tensor: Tensor) -> Iterator[None]:
    undo = tensor_undo(tensor)
    try:
        yield
    finally:
        undo()


def _refill(held: dict[Any, Any] | None, entries: dict[Any, Any]) -> None:
    """Give a dictionary these entries; the very object, for autograd and hook handles hold on to it."""
    if held is not None:
        held.clear()
        held.update(entries)
