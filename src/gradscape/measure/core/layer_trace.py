"""Trace the layers of a model in the order of a forward pass, and locate a failure.

A layer is a module that calls no other module, which only a pass reveals: an attention that multiplies by its
child's weight itself is one layer, and a block of convolutions is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gradscape.errors import ConfigError, GradscapeError, with_place
from gradscape.measure.core.batch import Batch, described, main_tensor
from gradscape.measure.core.compiled_calls import CompiledCall, Site, enter, never_compile, note_trace
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.parameter_kinds import NORM_LAYERS
from gradscape.measure.core.preserve import same_buffers
from gradscape.records.signal import WEIGHT_KINDS


@dataclass
class Running:
    """Call of a module: its name in the model, its inputs, and whether it called another module.

    Attributes:
        name: Name of the module in the model.
        module: Module that is called.
        given: Arguments, those by name last.
        calls: True once it has called another module.
        named: Arguments by name.
    """

    name: str
    module: nn.Module
    given: Any
    calls: bool = False
    named: Mapping[str, Any] = field(default_factory=dict)

    def repeat(self) -> Any:
        """Return the module's output for the same arguments once more."""
        return self.module(*self.given[: len(self.given) - len(self.named)], **self.named)


Seen = Callable[[Running, Any], None]


unseen = ContextVar("unseen", default=False)


@contextmanager
def unwatched() -> Iterator[None]:
    """Hide passes of a model from watches: those of a measurement, whose own hooks are made inside."""
    token = unseen.set(True)
    try:
        yield
    finally:
        unseen.reset(token)


class _Unscriptable(ConfigError, AttributeError):
    """Error for torch.jit.script, which asks every hook for its name."""


class Hook:
    """Hook that copies and pickles of the model do not include.

    Args:
        act: Function to call in its place.
    """

    def __init__(self, act: Callable[..., None]) -> None:
        self.act, self.measures = act, unseen.get()

    def __call__(self, *arguments: Any) -> None:
        """Act, unless a measurement runs that this hook is no part of."""
        if torch.compiler.is_compiling():  # compiled code runs no Python
            self.trace(*arguments)
            return
        if self.measures or not unseen.get():
            self.act(*arguments)

    def trace(self, *arguments: Any) -> None:
        """Act while the compiler traces the call, such as by operations for its graph.

        Args:
            arguments: Arguments of the hook, with stand-ins for tensors.
        """
        note_trace()

    @property
    def __name__(self) -> str:
        raise _Unscriptable(
            "a model with gradscape's hooks cannot be scripted: close() the watch first, or script it before"
        )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # A function without effect for any arguments, available even without this package.
        return getattr, (nullcontext(), "__exit__")


never_compile(Hook.__call__)


class _Entry(Hook):
    """Hook before a module's call that is traced too."""

    def trace(self, *_: Any) -> None:
        if not torch.compiler.is_exporting():
            enter()


class _Exit(Hook):
    """Hook after a module's call that is traced too.

    Args:
        act: Function to call outside of compiled code.
        site: Module.
    """

    def __init__(self, act: Callable[..., None], site: Site) -> None:
        super().__init__(act)
        self.site = site

    def trace(self, _: nn.Module, positional: Any, named: Any, output: Any) -> None:
        if not torch.compiler.is_exporting():
            self.site.leave((*positional, *named.values()), output)


class Trace:
    """Context in which `seen` is called with every layer and its output, in order.

    Args:
        model: Module; its submodules have hooks until the block ends.
        seen: Callback with a layer's call and output, before anything can change that in place.
        compiled: Callback with a layer's call inside compiled code, which is traced while the hooks are
            there; without it nothing is known of those.
    """

    def __init__(
        self, model: nn.Module, seen: Seen, compiled: Callable[[CompiledCall], None] | None = None
    ) -> None:
        self.model, self.seen, self.compiled = model, seen, compiled
        self.stack: list[Running] = []
        self.handles: list[Any] = []

    def __enter__(self) -> Trace:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def attach(self) -> None:
        """Register hooks and discard calls that an error left unfinished."""
        self.stack.clear()
        if self.handles:
            return
        for name, module in self.model.named_modules():
            if "parametrizations" not in name.split("."):  # they run when a weight is read
                before, after = self._hooks(name, module)
                self.handles += [
                    module.register_forward_pre_hook(before, with_kwargs=True),
                    module.register_forward_hook(after, with_kwargs=True),
                ]

    def _hooks(self, name: str, module: nn.Module) -> tuple[Hook, Hook]:
        """Return the hooks before and after a module's call."""
        if self.compiled is None:
            return Hook(self._before(name)), Hook(self._after)
        site = Site(name, module, layer_kind(module) in WEIGHT_KINDS, self.compiled)
        return _Entry(self._before(name)), _Exit(self._after, site)

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def _before(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, positional: Any, named: Any) -> None:
            self.stack.append(Running(name, module, (*positional, *named.values()), named=named))

        return hook

    def _after(self, module: nn.Module, _: Any, __: Any, output: Any) -> None:
        while self.stack:
            call = self.stack.pop()
            if call.module is module:  # calls above it ended in an error that the model caught
                if self.stack:
                    self.stack[-1].calls = True
                if not call.calls:
                    self.seen(call, output)
                return

    def forward(self, batch: Batch) -> Any:
        """Return the model's output for a batch.

        Args:
            batch: Batch to evaluate.

        Raises:
            ConfigError: If it fails; the message has the layer, its input and the expected input.
        """
        try:
            return batch.output(self.model)
        except GradscapeError:
            raise
        except Exception as error:
            raise ConfigError(_blame(self.stack, self.model, error)) from error


CHANGE = "change the batch or the layer"  # cure of a batch that does not fit


def _blame(stack: list[Running], model: nn.Module, error: Exception) -> str:
    """Describe a failure in one line: the innermost module, its input, the expected input, the error."""
    if not stack:
        return f"{type(model).__name__} cannot be called on the batch: {with_place(error)}"
    call = stack[-1]
    given = ", ".join(described(t) for t in tensors(call.given)) or "no tensor"
    where = f"layer {call.name} ({type(call.module).__name__})" if call.name else type(model).__name__
    wanted = _wanted_dtype(call) + _wants(call.module)
    needs = f" and wants {wanted}; {CHANGE}" if wanted else ""
    return f"batch: {where} was given {given}{needs}: {with_place(error)}"


def _wanted_dtype(call: Running) -> str:
    """Return the dtype of a layer's parameters if its input has another, otherwise an empty string."""
    given = next((t.dtype for t in tensors(call.given) if t.is_floating_point()), None)
    own = next((p.dtype for p in call.module.parameters() if p.is_floating_point()), None)
    if given is None or own is None or given == own or not _wants(call.module):
        return ""
    return str(own).removeprefix("torch.") + " "


def _wants(module: nn.Module) -> str:
    """Return the input shape of a layer of torch; empty for others."""
    for kind, told in WANTS.items():
        if isinstance(module, kind):
            return told(module)
    return ""


AXES = ("", "L", "H, W", "D, H, W")


# A dict of callables: type of layer → its input shape.
WANTS: dict[type[nn.Module], Callable[[Any], str]] = {
    nn.modules.conv._ConvNd: lambda m: f"(N, {m.in_channels}, {AXES[len(m.kernel_size)]})",
    nn.Linear: lambda m: f"(…, {m.in_features})",
    nn.BatchNorm1d: lambda m: f"(N, {m.num_features}) or (N, {m.num_features}, L), N × L above 1",
    nn.BatchNorm2d: lambda m: f"(N, {m.num_features}, H, W)",
    nn.BatchNorm3d: lambda m: f"(N, {m.num_features}, D, H, W)",
    nn.GroupNorm: lambda m: f"(N, {m.num_channels}, …)",
    nn.LayerNorm: lambda m: f"(…, {', '.join(map(str, m.normalized_shape))})",
    nn.RNNBase: lambda m: f"({'N, T' if m.batch_first else 'T, N'}, {m.input_size})",
    nn.RNNCellBase: lambda m: f"(N, {m.input_size})",
    nn.Embedding: lambda m: f"integers from 0 to {m.num_embeddings - 1}",
    nn.MultiheadAttention: lambda m: f"({'N, T' if m.batch_first else 'T, N'}, {m.embed_dim})",
}


def numbered(name: str, call: int) -> str:
    """Return the name of a module's n-th call.

    Args:
        name: Name of the module.
        call: n, from 1.
    """
    return name if call == 1 else f"{name} (call {call})"


def layer_kind(module: nn.Module) -> str:
    """Return the kind of a layer: `recurrent`, `linear`, one of `KINDS`, or `other`.

    The type's name decides, which covers layers of other libraries too; one with a weight matrix and an
    unknown name is `linear`.

    Args:
        module: Layer.
    """
    name = type(module).__name__
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    if isinstance(module, NORMS):
        return "norm"
    if name == "Conv1D":  # transformers' linear layer with a transposed weight
        return "linear"
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "linear" if any(p.dim() > 1 for p in module.parameters()) else "other"


NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)  # by whatever name they are derived from
KINDS = {
    "norm": NORM_LAYERS,
    "conv": ("Conv",),
    "attention": ("Attention",),
    "embedding": ("Embedding",),
    "activation": (
        "ReLU", "ELU", "SiLU", "Mish", "wish", "Tanh", "tanh", "igmoid", "oftplus", "oftsign", "GLU",
        "Softmax", "shrink", "Threshold",
    ),
    "dropout": ("Dropout", "DropPath", "StochasticDepth"),
    "pool": ("Pool",),
}  # fmt: skip


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """Register a forward hook on modules until the block ends.

    Args:
        modules: Modules of any model.
        hook: Forward hook.
    """
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_in_order(model: nn.Module, batch: Batch) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Return name, module and output shape of every layer's call, from one pass; buffers are preserved.

    Args:
        model: Any module.
        batch: Batch for the pass.
    """
    found = []

    def seen(call: Running, output: Any) -> None:
        main: Tensor | None = main_tensor(output)
        found.append((call.name, call.module, () if main is None else tuple(main.shape)))

    with torch.no_grad(), same_buffers(model), Trace(model, seen) as trace:
        trace.forward(batch)
    return found
