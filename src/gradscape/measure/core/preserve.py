"""Preserve a model: changes inside a `with` block are undone when it ends.

`as_found` restores the state of modules; this module restores values, gradients, tensors' hooks and random
numbers. Other side effects of a model, such as files that it writes, cannot be undone.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradscape.errors import ConfigError
from gradscape.measure.core.as_found import as_found, tensor_undo

P = ParamSpec("P")
R = TypeVar("R")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore a model and the random states when the block ends, even with an error.

    This covers values and identity of parameters and buffers, `.grad` and its values, `requires_grad`, the
    mode of every submodule, every hook, and the random states of torch (CPU, and CUDA if in use), numpy and
    Python. Inside the block, gradients begin as None and hooks on parameters are disabled: a watch does not
    notice it.

    Args:
        model: Any module; the block needs memory for a copy of its parameters and buffers.

    Raises:
        ConfigError: As `refuse`.

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
    """Refuse a model that cannot be measured.

    Args:
        model: Any module.

    Raises:
        ConfigError: If a parameter has no shape yet, a module is one of torch.jit, which allows neither hooks
            nor other parameters, or `torch.inference_mode()` is on.
    """
    if torch.is_inference_mode_enabled():
        raise ConfigError(
            "torch.inference_mode() is on, in which nothing has a gradient: measure outside of it, or put "
            "torch.no_grad() in its place"
        )
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
    """Restore all global generators when the block ends: torch's on CPU and CUDA, numpy's, Python's.

    Example:
        >>> with random_state():
        ...     seed_generators(0)
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


def autocast_alone(kind: str, bf16: bool = False) -> AbstractContextManager[object]:
    """Return a context of bfloat16 by `torch.autocast`, or of none, whatever the caller is within.

    Args:
        kind: Type of the device.
        bf16: Whether to compute convolutions and matrix products in bfloat16.
    """
    if not bf16 and not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, torch.bfloat16, enabled=bf16)


def random_positions() -> tuple[Any, ...]:
    """Return where all global generators are; two compare equal unless a number was drawn between them."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    of_torch = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if in_use else ())]
    array: Any = np.random.get_state()
    return (
        *(state.numpy().tobytes() for state in of_torch),
        array[1].tobytes(),
        *array[2:],
        random.getstate(),
    )


def seed_generators(seed: int) -> None:
    """Seed torch's generators: the CPU's, and those of GPUs if CUDA is in use.

    Before CUDA is first used `torch.manual_seed` leaves it an order, of which the latest counts: a measure's
    would replace the user's own, long after `random_state` has restored all else. It costs a traceback each
    time, too.

    Args:
        seed: Seed, 0 or more.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


@contextmanager
def _same_parameter(parameter: nn.Parameter) -> Iterator[None]:
    """Restore `.grad`, `requires_grad` and tensor hooks of one parameter."""
    needed, gradient = parameter.requires_grad, parameter.grad
    hooks = {name: dict(getattr(parameter, name, None) or {}) for name in TENSOR_HOOKS}
    try:
        for name in TENSOR_HOOKS:
            _refill(getattr(parameter, name, None), {})
        parameter.grad = None  # a backward pass would add to an existing gradient
        yield
    finally:
        parameter.requires_grad_(needed)
        parameter.grad = gradient
        for name, entries in hooks.items():
            _refill(getattr(parameter, name, None), entries)


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the values of all buffers when the block ends.

    Args:
        model: Any module.
    """
    with ExitStack() as stack:
        for buffer in model.buffers():
            stack.enter_context(_same_values(buffer))
        yield


@contextmanager
def same_loss(loss: object) -> Iterator[None]:
    """Restore a loss that is a module when the block ends: its buffers, and all that `AsFound` saves.

    Args:
        loss: Loss; one that is no module has nothing to restore.
    """
    if not isinstance(loss, nn.Module):
        yield
        return
    with as_found(loss), same_buffers(loss):
        yield


def leaves_loss(measure: Callable[P, R]) -> Callable[P, R]:
    """Decorate a measure that leaves its argument `loss` as found, such as a center that it keeps inside.

    Args:
        measure: Function with an argument `loss`.
    """
    signature = inspect.signature(measure)

    @wraps(measure)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        with same_loss(signature.bind(*arguments, **named).arguments.get("loss")):
            return measure(*arguments, **named)

    return called


@contextmanager
def _same_values(tensor: Tensor) -> Iterator[None]:
    undo = tensor_undo(tensor)
    try:
        yield
    finally:
        undo()


def _refill(held: dict[Any, Any] | None, entries: dict[Any, Any]) -> None:
    """Refill a dictionary in place, since autograd and hook handles refer to it."""
    if held is not None:
        held.clear()
        held.update(entries)
