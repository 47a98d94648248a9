"""The layers of a model in the order in which a forward pass runs them, and where one fails.

A layer is a module that calls no other module: what that is shows only when the model runs. So an attention
that multiplies by its child's weight itself is one layer, and a block of convolutions is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError, GradscapeError, with_place
from gradscape.measure.core.batch import Batch, described, main_tensor
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.parameter_kinds import NORM_LAYERS
from gradscape.measure.core.preserve import same_buffers


@dataclass
class Running:
    """A call of a module: its name in the model, what it was given, and whether it called another."""

    name: str
    module: nn.Module
    given: Any
    calls: bool = False


Seen = Callable[[Running, Any], None]


unseen = ContextVar("unseen", default=False)


@contextmanager
def unwatched() -> Iterator[None]:
    """Passes of a model that no watch is told of: a measurement's own, whose hooks are made within."""
    token = unseen.set(True)
    try:
        yield
    finally:
        unseen.reset(token)


class _Unscriptable(ConfigError, AttributeError):
    """What torch.jit.script is told, which asks every hook for its name."""


class _Hook:
    """A hook that a copy of the model, or a pickled one, does not take along."""

    def __init__(self, act: Callable[..., None]) -> None:
        self.act, self.measures = act, unseen.get()

    def __call__(self, *arguments: Any) -> None:
        if torch.compiler.is_compiling():  # compiled code runs no Python
            return
        if self.measures or not unseen.get():
            self.act(*arguments)

    @property
    def __name__(self) -> str:
        raise _Unscriptable(
            "a model with gradscape's hooks cannot be scripted: close() the watch first, or script it before"
        )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # What does nothing, whatever it is given, where this package is not installed too.
        return getattr, (nullcontext(), "__exit__")


class Trace:
    """Calls `seen` with every layer and its output, in order, while the `with` block runs.

    Args:
        model: its modules get hooks until the block ends.
        seen: called with the layer's call and what it returned, before anything can work on that in place.
    """

    def __init__(self, model: nn.Module, seen: Seen) -> None:
        self.model, self.seen = model, seen
        self.stack: list[Running] = []
        self.handles: list[Any] = []

    def __enter__(self) -> Trace:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def attach(self) -> None:
        """Begin; what an error left unfinished is forgotten."""
        self.stack.clear()
        if self.handles:
            return
        for name, module in self.model.named_modules():
            if "parametrizations" not in name.split("."):  # they run when a weight is read
                before = module.register_forward_pre_hook(_Hook(self.before(name)), with_kwargs=True)
                self.handles += [before, module.register_forward_hook(_Hook(self.after))]

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def before(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, positional: Any, named: Any) -> None:
            self.stack.append(Running(name, module, (*positional, *named.values())))

        return hook

    def after(self, module: nn.Module, _: Any, output: Any) -> None:
        while self.stack:
            call = self.stack.pop()
            if call.module is module:  # what lies above it ended in an error that the model caught
                if self.stack:
                    self.stack[-1].calls = True
                if not call.calls:
                    self.seen(call, output)
                return

    def forward(self, batch: Batch) -> Any:
        """What the model makes of a batch.

        Raises:
            ConfigError: it fails; names the layer, what it was given and what it wants.
        """
        try:
            return batch.output(self.model)
        except GradscapeError:
            raise
        except Exception as error:
            raise ConfigError(_blame(self.stack, self.model, error)) from error


def _blame(stack: list[Running], model: nn.Module, error: Exception) -> str:
    """One line: the innermost module at work, what it was given, what it wants, why it failed."""
    if not stack:
        return f"{type(model).__name__} cannot be called on the batch: {with_place(error)}"
    call = stack[-1]
    given = ", ".join(described(t) for t in tensors(call.given)) or "no tensor"
    where = f"layer {call.name} ({type(call.module).__name__})" if call.name else type(model).__name__
    wanted = _wanted_dtype(call) + _wants(call.module)
    needs = f" and wants {wanted}; change the batch or the layer" if wanted else ""
    return f"batch: {where} was given {given}{needs}: {with_place(error)}"


def _wanted_dtype(call: Running) -> str:
    """The type of a layer's numbers, where it was given others; empty where they agree."""
    given = next((t.dtype for t in tensors(call.given) if t.is_floating_point()), None)
    own = next((p.dtype for p in call.module.parameters() if p.is_floating_point()), None)
    if given is None or own is None or given == own or not _wants(call.module):
        return ""
    return str(own).removeprefix("torch.") + " "


def _wants(module: nn.Module) -> str:
    """The shape of input that a layer of torch takes; empty for others."""
    for kind, told in WANTS.items():
        if isinstance(module, kind):
            return told(module)
    return ""


AXES = ("", "L", "H, W", "D, H, W")


# A dict of callables: a layer's type → what it wants.
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
    """The name of a module's first call, second, …"""
    return name if call == 1 else f"{name} (call {call})"


def layer_kind(module: nn.Module) -> str:
    """`recurrent`, `linear`, one of `KINDS`, or `other`.

    By the type's name, so that layers of other libraries are known too; one with a matrix of weights and an
    unknown name is `linear`.
    """
    name = type(module).__name__
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    if name == "Conv1D":  # of transformers: a linear layer whose weight is transposed
        return "linear"
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "linear" if any(p.dim() > 1 for p in module.parameters()) else "other"


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
    """A forward hook on each of the modules, until the block ends."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_in_order(model: nn.Module, batch: Batch) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Name, module and output's shape of every layer's call, in one pass; buffers stay as they were."""
    found = []

    def seen(call: Running, output: Any) -> None:
        main: Tensor | None = main_tensor(output)
        found.append((call.name, call.module, () if main is None else tuple(main.shape)))

    with torch.no_grad(), same_buffers(model), Trace(model, seen) as trace:
        trace.forward(batch)
    return found
