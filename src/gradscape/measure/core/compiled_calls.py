"""Calls of layers inside compiled code, which runs no hook: an operation in the graph tells of each.

torch.compile traces a hook once; of what it does, operations on tensors alone remain. Ours is such an
operation, without a result. The compiler does not look into it and must not leave it out, and it runs Python:
whether a step is read is decided there, so that no step compiles anything anew.

A graph must be shared between equal blocks, as torch.compile shares it, so that nothing of a single layer may
be a constant in it. A layer is known by the value of a tensor, which is an input of the graph.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn
from torch._C._dynamo import eval_frame as _eval_frame
from torch.autograd.function import BackwardCFunction


@dataclass(frozen=True, eq=False)
class CompiledCall:
    """Call of a layer inside compiled code, which has just ended.

    Attributes:
        name: Name of the layer in the model.
        module: Layer.
        output: Output, of tensors the first with two or more dimensions.
        given: Input of the same kind, of a layer with weights or the first one; None otherwise.
        size: Length of the first tensor that it was given, 1 without any.
        recorded: True if autograd records the pass.
        differentiable: True if the input requires a gradient.
        first: True for the first layer of its graph that autograd records.
    """

    name: str
    module: nn.Module
    output: Tensor
    given: Tensor | None
    size: int
    recorded: bool
    differentiable: bool
    first: bool

    def node(self) -> Any:
        """Return the node of the graph that autograd builds; None without any.

        It is that of the compiled function, which only the call stack reveals: to look costs more than most
        readings. Where the graph runs uncompiled it is the layer's own.
        """
        frame = sys._getframe(1)
        while frame is not None:
            # To look at a frame's variables keeps their values while it runs: see `called_by_scaler`.
            if "ctx" in frame.f_code.co_varnames:
                context = frame.f_locals.get("ctx")
                if isinstance(context, BackwardCFunction):
                    return context
            frame = frame.f_back  # type: ignore[assignment]
        return self.output.grad_fn


_library = torch.library.Library("gradscape", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    "layer_called(Tensor output, Tensor? given, SymInt size, Tensor place, "
    "bool recorded, bool differentiable, bool first) -> ()",
    # Its strides do not matter to us, and a CUDA graph would not run Python again.
    tags=(torch.Tag.flexible_layout, torch.Tag.cudagraph_unsafe),
)
_sites: WeakValueDictionary[int, Site] = WeakValueDictionary()
_numbers = itertools.count()


class Site:
    """Layer whose calls are told, inside whatever is compiled.

    Args:
        name: Name of the layer in its model.
        module: Layer.
        has_weights: Whether it is to be told with its input.
        receive: Callback with each call.
    """

    def __init__(
        self, name: str, module: nn.Module, has_weights: bool, receive: Callable[[CompiledCall], None]
    ) -> None:
        self.name, self.module, self.receive = name, module, receive
        self.has_weights = has_weights
        self.is_childless = not {name for name, _ in module.named_children()} - {"parametrizations"}
        self.is_read = not isinstance(module, nn.Identity)
        number = next(_numbers)
        self.place = torch.tensor(number, device="cpu")
        _sites[number] = self

    def leave(self, given: Any, output: Any) -> None:
        """Put the operation into the graph that is traced, if the module called no other.

        Args:
            given: Arguments of the module.
            output: Output of the module.
        """
        traced = _leave()
        if traced == CALLER or (traced == UNKNOWN and not self.is_childless):
            return
        value, source = _main(_tensors(output)), _tensors(given)
        if value is None or not self.is_read or _is_enclosed():
            return
        first = torch.is_grad_enabled() and _is_first()
        main = _main(source) if first or self.has_weights else None
        differentiable = main is not None and main.requires_grad
        sized = [each for each in source if each.dim() > 0]
        torch.ops.gradscape.layer_called(
            local_part(value),
            local_part(main) if main is not None and (first or differentiable) else None,
            sized[0].shape[0] if sized else 1,
            self.place,
            torch.is_grad_enabled(),
            differentiable,
            first,
        )


# What the operation does ----------------------------------------------------------------------------------


def _called(
    output: Tensor,
    given: Tensor | None,
    size: int,
    place: Tensor,
    recorded: bool,
    differentiable: bool,
    first: bool,
) -> None:
    """Tell of a call, in the middle of compiled code."""
    site = _sites.get(int(place))
    if site is not None:
        call = CompiledCall(site.name, site.module, output, given, size, recorded, differentiable, first)
        site.receive(call)


def _called_in_trace(*_: Any) -> None:
    """Return nothing of tensors without values."""


_library.impl("layer_called", _called, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("gradscape::layer_called", _called_in_trace, lib=_library)


# While it is traced ---------------------------------------------------------------------------------------

UNKNOWN, CALLER, LAYER = range(3)
# Functions in the graph that may hold ours: of a checkpoint, and of a user's torch.autograd.Function.
HOLDERS = ("tag_activation_checkpoint", "autograd.Function")


class _Traced:
    """Modules that a trace is inside of, outermost first, each with True once it has called another."""

    def __init__(self) -> None:
        self.callers: list[bool] = []
        self.is_begun = False


_traces: WeakKeyDictionary[Any, _Traced] = WeakKeyDictionary()  # one for every attempt of the compiler


def _now() -> _Traced:
    return _traces.setdefault(torch._guards.TracingContext.try_get(), _Traced())


def enter() -> int:
    """Note that a module begins, in the trace under way."""
    note_trace()
    _keep_operation()
    _now().callers.append(False)
    return 0


def note_trace() -> int:
    """Note that the compiler traces a hook of ours: it compiles anew if that is removed."""
    _counts["hooks traced"] += 1
    return 0


def hooks_traced() -> int:
    """Return how often the compiler has traced a hook of ours so far, of any model."""
    return _counts["hooks traced"]


def _leave() -> int:
    """Return what a module is that ends: one of the three constants above.

    It is unknown where the compiler broke the graph inside of the module.
    """
    trace = _now()
    if not trace.callers:
        return UNKNOWN
    calls = trace.callers.pop()
    if trace.callers:
        trace.callers[-1] = True
    return CALLER if calls else LAYER


def _is_first() -> bool:
    """Return True if the graph that is traced has none of our operations yet."""
    trace = _now()
    begun, trace.is_begun = trace.is_begun, True
    return not begun


def _is_enclosed() -> bool:
    """Return True inside a function that torch.func transforms, or that an operation such as torch.cond runs.

    vmap has no rule for ours, and torch cannot compile those operations with one that acts inside.
    """
    from torch._dynamo.symbolic_convert import InstructionTranslator  # at work: not imported for this

    tracer: Any = InstructionTranslator.current_tx().output.current_tracer
    names = []
    while tracer.parent is not None:
        names.append(str(tracer.source_target))
        tracer = tracer.parent
    return torch._C._functorch.maybe_current_level() is not None or not set(names) <= set(HOLDERS)


# What `torch.compiler.assume_constant_result` does, which would import the compiler: that runs them once,
# while it traces, and takes their results for constants.
for _function in (enter, note_trace, _leave, _is_first, _is_enclosed):
    _function._dynamo_marked_constant = True  # type: ignore[attr-defined]
_kept: list[Any] = []
_counts: Counter[str] = Counter()


def never_compile(function: Any) -> None:
    """Let a function run as it is outside of a graph, and still be traced within one.

    torch.compile of a module compiles the hooks of that very module too, each as a graph of its own.
    `torch.compiler.disable` would break the graph where the hook is of a module inside.

    Args:
        function: Function; those that it calls then are not compiled either.
    """
    skip = _eval_frame._FrameAction.SKIP
    _eval_frame.set_code_exec_strategy(function.__code__, _eval_frame._FrameExecStrategy(skip, skip))


def _keep_operation() -> None:
    """Tell the compiler, which is at work, that the operation acts, though it returns nothing."""
    if not _kept:
        from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

        _kept.append(_register_effectful_op("gradscape::layer_called", _EffectType.ORDERED))


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, of the containers that the compiler can trace."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [each for part in value.values() for each in _tensors(part)]
    if isinstance(value, tuple | list):
        return [each for part in value for each in _tensors(part)]
    if is_dataclass(value):
        return [each for field in fields(value) for each in _tensors(getattr(value, field.name))]
    return []


def _main(values: list[Tensor]) -> Tensor | None:
    """Return the same tensor as `batch.main_tensor`, by what the compiler can trace."""
    numbers = [each for each in values if each.is_floating_point() or each.is_complex()]
    for each in numbers:
        if each.dim() > 1:
            return each
    for each in numbers:
        if each.dim() == 1:
            return each
    return None


def local_part(values: Tensor) -> Tensor:
    """Return the part of a sharded tensor that this process holds, also while that is traced.

    Args:
        values: Any tensor.
    """
    held: Tensor = values.to_local() if hasattr(values, "placements") else values  # type: ignore[attr-defined]
    return held
