"""Notification of every backward pass before it begins.

A loss's graph tells what the loss was made of, and is released while the pass runs. torch has no hook for the
begin of a pass: while something listens, `torch.autograd.backward`, which `Tensor.backward` calls, is a
function that notifies first and then calls torch's own. `torch.autograd.grad` is left alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from gradscape.measure.watch.activations import in_backward


class Listener(Protocol):
    """Object that is notified of backward passes."""

    def before_backward(self, roots: Sequence[Tensor], scaled: bool) -> None:
        """React to a backward pass that is about to begin.

        Args:
            roots: Tensors that it begins with.
            scaled: Whether it begins with gradients other than 1.
        """


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
_torchs_own = torch.autograd.backward


@wraps(_torchs_own)
def _notifying(tensors: Any, grad_tensors: Any = None, *arguments: Any, **named: Any) -> None:
    """Notify, then call torch's own function."""
    if _listeners and not in_backward():
        _notify(tensors, grad_tensors)
    _torchs_own(tensors, grad_tensors, *arguments, **named)


@_disable_dynamo
def _notify(tensors: Any, gradients: Any) -> None:
    several = isinstance(tensors, Sequence)
    roots = [each for each in (tensors if several else (tensors,)) if isinstance(each, Tensor)]
    scaled = any(
        each is not None for each in (gradients if isinstance(gradients, Sequence) else (gradients,))
    )
    for listener in tuple(_listeners):
        listener.before_backward(roots, scaled)


def listen_to_backward(listener: Listener) -> None:
    """Notify an object of every backward pass from now on, as long as it lives.

    Args:
        listener: Object to notify.
    """
    if torch.autograd.backward is _torchs_own:
        torch.autograd.backward = _notifying
    _listeners.add(listener)


def leave_backward(listener: Listener) -> None:
    """Stop notifying an object; the last one puts torch's own function back.

    Args:
        listener: Object that is notified.
    """
    _listeners.discard(listener)
    if not _listeners and torch.autograd.backward is _notifying:  # else another library has wrapped it since
        torch.autograd.backward = _torchs_own
