"""A batch as a user has it, (x, y), x or the model's arguments by name, and what a model makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError, GradscapeError, with_place

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Batch:
    """What a model is called with, and what its loss needs besides.

    Attributes:
        positional, named: the model's arguments.
        further: the loss's arguments after the model's output: the target, or the whole dict.
        size: N, the number of samples.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    further: tuple[Any, ...]
    size: int

    @classmethod
    def of(cls, batch: Any) -> Batch:
        """From (x, y), x, or a dict of the model's arguments; x may be a tuple or a dict of several tensors.

        Raises:
            ConfigError: something else, or without a tensor that has samples.
        """
        if isinstance(batch, tuple | list) and len(batch) == 2:
            return arguments(batch[0], (batch[1],))
        if isinstance(batch, Mapping):
            return arguments(batch, (batch,))
        if isinstance(batch, Tensor):
            return arguments(batch, ())
        given = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ConfigError(f"batch: got {given}; give (x, y), x, or a dict of the model's arguments")

    def output(self, model: nn.Module) -> Any:
        return model(*self.positional, **self.named)

    def loss(self, loss: Loss | None, output: Any) -> Tensor:
        """The loss, one number that has a gradient; `output.loss` where none is given.

        Raises:
            ConfigError: it fails, is not one number, or nothing in it has a gradient.
        """
        value = own_loss(output) if loss is None else called(loss, output, self.further)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ConfigError(f"loss: returned {got}; it must be a tensor of one number, as of .mean()")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ConfigError("loss: nothing in it has a gradient; train at least one parameter")
        return value

    def part(self, first: int, count: int) -> Batch:
        """So many samples, or those that are left, without the others."""
        count = min(count, self.size - first)

        def cut(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: cut(each) for name, each in value.items()}
            axis = sample_axis(value, self.size) if isinstance(value, Tensor) else None
            return value if axis is None else value.narrow(axis, first, count)

        further = tuple(cut(value) for value in self.further)
        return replace(self.mapped(cut), further=further, size=count)

    def differentiable(self) -> tuple[Batch, Tensor | None]:
        """The batch with its first floating tensor as one that gradients reach, and that tensor."""
        sources: list[Tensor] = []

        def free(value: Any) -> Any:
            if sources or not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            sources.append(value.detach().clone().requires_grad_())
            return sources[0].clone()  # not the leaf itself: a layer may work in place

        return self.mapped(free), sources[0] if sources else None

    def mapped(self, change: Callable[[Any], Any]) -> Batch:
        named = {name: change(value) for name, value in self.named.items()}
        return replace(self, positional=tuple(change(value) for value in self.positional), named=named)


def arguments(x: Any, further: tuple[Any, ...]) -> Batch:
    """Of one tensor, several in a tuple, or several by name."""
    named = dict(x) if isinstance(x, Mapping) else {}
    positional = () if named else tuple(x) if isinstance(x, tuple | list) else (x,)
    found = [t for t in tensors([*positional, *named.values()]) if t.dim()]
    if not found:
        raise ConfigError(f"batch: no tensor with samples in {type(x).__name__}; give (x, y), x or a dict")
    size = found[0].shape[0]
    if not size:
        raise ConfigError(f"batch: {described(found[0])} has no samples; give one at least")
    target = further[0] if further else None
    if isinstance(target, Tensor) and target.dim() == 1 and len(target) in found[0].shape[:2]:
        size = len(target)  # also where time comes first
    return Batch(positional, named, further, size)


def own_loss(output: Any) -> Any:
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise ConfigError("loss: none is given and the model's output has none; give loss(output, target)")
    return found


def called(loss: Loss, output: Any, further: tuple[Any, ...]) -> Any:
    try:
        return loss(output, *further)
    except GradscapeError:
        raise
    except Exception as error:
        given = ", ".join(described(value) for value in (output, *further))
        raise ConfigError(f"loss: failed on ({given}): {with_place(error)}") from error


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a value of tuples, lists, mappings and objects with `data` of packed sequences."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)


def main_tensor(value: Any) -> Tensor | None:
    """What a layer gives: the first floating tensor of two or more dimensions, or else of one."""
    found = [t for t in tensors(value) if t.is_floating_point() or t.is_complex()]
    return next((t for t in found if t.dim() > 1), next((t for t in found if t.dim() == 1), None))


def sample_axis(value: Tensor, size: int) -> int | None:
    """Which axis counts the samples: the first of the first two that is as long."""
    return next((axis for axis in range(min(value.dim(), 2)) if value.shape[axis] == size), None)


def described(value: Any) -> str:
    """`float32 (10, 3)` of a tensor; the type's name of anything else."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile and DistributedDataParallel, whose layers can be seen."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, torch.nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
