"""Whose steps train a model: optimizers taken out of their wrappers, and every step that any of them makes.

A hook of torch's on all optimizers tells, so that one that replaces another is seen too. There is one such
hook for all watches: to remove one while an optimizer goes through them would end that training.
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

from gradscape.errors import ConfigError, brief

# The function that every optimizer's step runs in: its frames tell which steps are under way.
STEP: CodeType = Optimizer.profile_hook_step(lambda _: None).__code__
SCALER_DEPTH = 16  # frames: from a GradScaler's step to the hooks of the optimizer's


class Listener(Protocol):
    def before_step(
        self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None: ...

    def after_step(self, optimizer: Optimizer) -> None: ...


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
_handles: list[Any] = []


def listen(listener: Listener) -> None:
    """Tell it of every optimizer's steps from now on, for as long as it lives."""
    if not _handles:
        _handles.append(register_optimizer_step_pre_hook(_before))
        _handles.append(register_optimizer_step_post_hook(_after))
    _listeners.add(listener)


def leave(listener: Listener) -> None:
    """Tell it no more; the last one takes torch's hooks away."""
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
    for listener in tuple(_listeners):
        listener.after_step(optimizer)


def running() -> Iterable[Optimizer]:
    """Optimizers whose steps are under way in this thread, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is STEP and (found := frame.f_locals.get("self")) is not None:
            yield found
        frame = frame.f_back  # type: ignore[assignment]


def called_by_scaler() -> bool:
    """Whether a GradScaler makes the optimizer's step: in a loop's own code nothing else tells."""
    frame = sys._getframe(1)
    for _ in range(SCALER_DEPTH):
        if isinstance(frame.f_locals.get("self"), torch.amp.GradScaler):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def all_of(optimizer: Any) -> list[Optimizer]:
    """The optimizers whose steps are to be watched, each taken out of its wrappers.

    Raises:
        ConfigError: something else than an optimizer, or several.
    """
    found = [_innermost(each) for each in each_of(optimizer)]
    known = {id(each): each for each in found if each is not None}
    if None in found:
        raise ConfigError(f"optimizer: expected one or several of torch.optim; got {brief(optimizer)}")
    return list(known.values())


def each_of(optimizer: Any) -> list[Any]:
    """One or several, as they were given."""
    several = isinstance(optimizer, Iterable) and not isinstance(optimizer, Optimizer | str)
    return list(optimizer) if several else [optimizer]


def _innermost(optimizer: Any) -> Optimizer | None:
    """The optimizer that calls hooks when it makes a step; None of what is none, and holds none.

    Those of Accelerate, Fabric and Opacus hold the one that does so, and so do some others around another,
    such as timm's Lookahead.
    """
    while not (isinstance(optimizer, Optimizer) and _calls_hooks(optimizer)):
        held = [getattr(optimizer, "optimizer", None), *getattr(optimizer, "__dict__", {}).values()]
        inner = next((one for one in held if isinstance(one, Optimizer) and one is not optimizer), None)
        if inner is None:
            return None
        optimizer = inner
    return optimizer


def _calls_hooks(optimizer: Optimizer) -> bool:
    """Whether its own step is one that torch has put hooks around."""
    return bool(getattr(type(optimizer).step, "hooked", False))


def is_private(optimizer: Any) -> bool:
    """Whether it is of Opacus: it clips each sample's gradient and adds noise before the step."""
    return any(kind.__module__.startswith("opacus.") for kind in type(optimizer).__mro__)
