"""Optimizers without their wrappers, and notification of every step that any optimizer makes.

It uses torch's hook on all optimizers, so that one that replaces another is noticed too. All watches share
one hook: removing one while an optimizer iterates over its hooks would end that training.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from types import CodeType
from typing import Any, Protocol

import torch
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradscape.errors import ConfigError, TrainingStopped, brief

# The function that every optimizer's step runs in: its frames reveal the current steps.
STEP: CodeType = Optimizer.profile_hook_step(lambda _: None).__code__
SCALER_STEPS = ("step", "_maybe_opt_step")  # methods of a GradScaler that call the optimizer's
SCALER_DEPTH = 16  # frames: from a GradScaler's step to the hooks of the optimizer's


class Listener(Protocol):
    """Object that is notified of optimizers' steps."""

    def before_step(self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """React to the start of a step.

        Args:
            optimizer: Optimizer that makes the step.
            arguments, named: Arguments of its `step`.
        """

    def after_step(self, optimizer: Optimizer) -> None:
        """React to the end of a step.

        Args:
            optimizer: Optimizer that made the step.
        """


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
_handles: list[Any] = []


def listen_to_steps(listener: Listener) -> None:
    """Notify an object of every optimizer's steps from now on, as long as it lives.

    Args:
        listener: Object to notify.
    """
    if not _handles:
        _handles.append(register_optimizer_step_pre_hook(_before))
        _handles.append(register_optimizer_step_post_hook(_after))
    _listeners.add(listener)


def leave_steps(listener: Listener) -> None:
    """Stop notifying an object; the last one removes torch's hooks.

    Args:
        listener: Object that is notified.
    """
    _listeners.discard(listener)
    if not _listeners and not any(True for _ in running()):
        for handle in _handles:
            handle.remove()
        _handles.clear()


@_disable_dynamo  # a compiled step runs them between its graphs, uncompiled
def _before(optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    for listener in tuple(_listeners):
        listener.before_step(optimizer, arguments, named)


@_disable_dynamo
def _after(optimizer: Optimizer, *_: Any) -> None:
    stopped = None
    for listener in tuple(_listeners):
        try:
            listener.after_step(optimizer)
        except TrainingStopped as error:  # the other watches see the end of the step first
            stopped = error
    if stopped is not None:
        raise stopped


def running() -> Iterable[Optimizer]:
    """Yield the optimizers whose steps are running in this thread, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is STEP and (found := frame.f_locals.get("self")) is not None:
            yield found
        frame = frame.f_back  # type: ignore[assignment]


def called_by_scaler() -> bool:
    """Return True if a GradScaler calls the optimizer's step, which only the call stack reveals.

    To look at a frame's variables keeps their values while it runs, such as a model that its user deletes:
    other frames are left alone.
    """
    frame = sys._getframe(1)
    for _ in range(SCALER_DEPTH):
        if frame.f_code.co_name in SCALER_STEPS and isinstance(
            frame.f_locals.get("self"), torch.amp.GradScaler
        ):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def all_of(optimizer: Any) -> list[Optimizer]:
    """Return the optimizers to watch, without their wrappers.

    Args:
        optimizer: One or several optimizers.

    Raises:
        ConfigError: If something is no optimizer.
    """
    found = [_innermost(each) for each in each_of(optimizer)]
    known = {id(each): each for each in found if each is not None}
    if None in found:
        raise ConfigError(f"optimizer: expected one or several of torch.optim; got {brief(optimizer)}")
    return list(known.values())


def each_of(optimizer: Any) -> list[Any]:
    """Return a list of one or several optimizers, with their wrappers.

    Args:
        optimizer: One or several optimizers.
    """
    several = isinstance(optimizer, Iterable) and not isinstance(optimizer, Optimizer | str)
    return list(optimizer) if several else [optimizer]


def _innermost(optimizer: Any) -> Optimizer | None:
    """Return the wrapped optimizer that calls hooks in its step; None if there is none.

    Wrappers of Accelerate, Fabric and Opacus contain it, and so do some optimizers around another, such as
    timm's Lookahead.
    """
    while not (isinstance(optimizer, Optimizer) and _calls_hooks(optimizer)):
        held = [getattr(optimizer, "optimizer", None), *getattr(optimizer, "__dict__", {}).values()]
        inner = next((one for one in held if isinstance(one, Optimizer) and one is not optimizer), None)
        if inner is None:
            return None
        optimizer = inner
    return optimizer


def _calls_hooks(optimizer: Optimizer) -> bool:
    """Return True if torch has put hooks around the optimizer's own step."""
    return bool(getattr(type(optimizer).step, "hooked", False))


def is_private(optimizer: Any) -> bool:
    """Return True for an optimizer of Opacus, which clips each sample's gradient and adds noise.

    Args:
        optimizer: Any object.
    """
    return any(kind.__module__.startswith("opacus.") for kind in type(optimizer).__mro__)
