"""A batch as a user has it, (x, y), x or the model's arguments by name, and what a model makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradscape.errors import ConfigError, GradscapeError, with_place
from gradscape.measure.core.containers import as_plain, is_graph, is_record, mapped, tensors
from gradscape.measure.core.parameters import unwrapped as unwrapped

Loss = Callable[..., Tensor]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # positional ones, and those by name
FORMS = "(x, y), x, or a dict of the model's arguments"


@dataclass(frozen=True)
class Batch:
    """What a model is called with, and what its loss needs besides.

    Attributes:
        given: the model's argument or arguments, x; with a loss that calls the model itself the whole batch.
        further: the loss's arguments after the model's output: the target, or the whole dict.
        size: N, the number of samples.
        calling: the loss, where it is loss(model, batch).
    """

    given: Any
    further: tuple[Any, ...]
    size: int
    calling: Loss | None = None

    @classmethod
    def of(cls, batch: Any, model: nn.Module | None = None, loss: Loss | None = None) -> Batch:
        """Take a batch apart: (x, y), x, or a dict of the model's arguments.

        x is a tensor, or several in a tuple, list or dict, which are the model's arguments if its signature
        takes them so, and else one argument. A tuple of one, (x,), is always one argument, whatever x is. Of
        three values or more the model has as many as its signature takes, where only one number fits, and
        the loss the others.

        Args:
            batch: as a user or a DataLoader gives it.
            model: whose arguments it has; without it, three values are refused.
            loss: if it is loss(model, batch), told by its first parameter's name or annotation, it gets the
                batch as it is and calls the model itself.

        Raises:
            ConfigError: something else, or without a tensor that has samples.
        """
        if isinstance(batch, Batch):
            return batch
        batch = mapped(batch, as_plain)
        if loss is not None and _takes_model(loss):
            return cls(batch, (), _samples(batch, None), loss)
        x, further = _split(batch, model)
        return cls(x, further, _samples(x, further[0] if further else None))

    def output(self, model: nn.Module) -> Any:
        """Return what the model makes of it; the loss itself where that is loss(model, batch)."""
        if self.calling is not None:
            return _called(self.calling, model, (self.given,))
        positional, named = self.arguments(model)
        return model(*positional, **named)

    def arguments(self, model: nn.Module) -> Arguments:
        """Return what the model is called with."""
        return _arguments(self.given, model)

    def loss(self, loss: Loss | None, output: Any) -> Tensor:
        """The loss, one number that has a gradient; `output.loss` where none is given.

        Raises:
            ConfigError: it fails, is not one number, or nothing in it has a gradient.
        """
        value = self.number(loss, output)
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ConfigError("loss: nothing in it has a gradient; train at least one parameter")
        return value

    def number(self, loss: Loss | None, output: Any) -> Tensor:
        """The loss, which may be a constant."""
        if self.calling is not None:
            value = output
        else:
            value = _own_loss(output) if loss is None else _called(loss, output, self.further)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ConfigError(f"loss: returned {got}; it must be a tensor of one number, as of .mean()")
        return value

    def part(self, first: int, count: int) -> Batch:
        """So many samples, or those that are left, without the others."""
        count = min(count, self.size - first)

        def cut(value: Tensor) -> Tensor:
            axis = sample_axis(value, self.size)
            return value if axis is None else value.narrow(axis, first, count)

        return replace(self.mapped(cut), further=mapped(self.further, cut), size=count)

    def differentiable(self) -> tuple[Batch, Tensor | None]:
        """The batch with its first floating tensor as one that gradients reach, and that tensor."""
        sources: list[Tensor] = []

        def free(value: Tensor) -> Tensor:
            if sources or not value.is_floating_point():
                return value
            sources.append(value.detach().clone().requires_grad_())
            return sources[0].clone()  # not the leaf itself: a layer may work in place

        return self.mapped(free), sources[0] if sources else None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, given=mapped(self.given, change))


def _split(batch: Any, model: nn.Module | None) -> tuple[Any, tuple[Any, ...]]:
    """Return the model's part of a batch and what its loss is given besides."""
    if isinstance(batch, Tensor | PackedSequence):
        return batch, ()
    if isinstance(batch, tuple | list):
        if len(batch) == 2:
            return batch[0], (batch[1],)
        if len(batch) > 2 and model is not None:
            return _several(tuple(batch), model)
    elif isinstance(batch, Mapping) or is_record(batch) or is_graph(batch):
        return batch, (batch,)
    got = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
    raise ConfigError(f"batch: got {got}; give {FORMS}")


def _several(values: tuple[Any, ...], model: nn.Module) -> tuple[Any, tuple[Any, ...]]:
    """Return the first so many values, which the model takes, and the others, which its loss is given."""
    fit = [count for count in range(1, len(values)) if _fits(model, (values[:count], {}))]
    if len(fit) != 1:
        takes = f"takes {' or '.join(map(str, fit))} of them" if fit else "takes no number of them"
        raise ConfigError(
            f"batch: got {len(values)} values, and {type(model).__name__} {takes}; give ((x1, x2), y), or a "
            "loss(model, batch) that calls the model itself"
        )
    return values[: fit[0]], values[fit[0] :]


def _arguments(x: Any, model: nn.Module) -> Arguments:
    """Return x taken apart where the model's signature takes that, and else as one argument.

    A named tuple, such as a packed sequence, and a TensorDict are one argument first of all.
    """
    if isinstance(x, Mapping):
        apart: Arguments = ((), dict(x))
    elif isinstance(x, tuple | list):
        apart = (tuple(x), {})
    else:
        return (x,), {}
    whole: Arguments = ((x,), {})
    one = hasattr(x, "_fields") or hasattr(x, "batch_size")
    first, second = (whole, apart) if one else (apart, whole)
    return second if not _fits(model, first) and _fits(model, second) else first


def _fits(model: nn.Module, given: Arguments) -> bool:
    """Whether the signature of a model's `forward` takes these arguments."""
    try:
        inspect.signature(model.forward).bind(*given[0], **given[1])
    except TypeError:
        return False
    except ValueError:  # it tells no signature
        return True
    return True


def _takes_model(loss: Loss) -> bool:
    """Whether a loss is loss(model, batch): its first parameter is called `model`, or annotated as one."""
    try:
        first = next(iter(inspect.signature(loss).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None:
        return False
    kind = first.annotation
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return True
    return first.name == "model" or str(kind).rpartition(".")[2] == "Module"


def _samples(x: Any, target: Any) -> int:
    """N: the length of the first tensor that has axes, or of labels that count one of its first two."""
    found = next((t for t in tensors(x) if t.dim()), None)
    if found is None:
        raise ConfigError(f"batch: no tensor with samples in {type(x).__name__}; give (x, y), x or a dict")
    size = int(x.batch_sizes[0]) if isinstance(x, PackedSequence) else found.shape[0]
    if not size:
        raise ConfigError(f"batch: {described(found)} has no samples; give one at least")
    if isinstance(target, Tensor) and target.dim() == 1 and len(target) in found.shape[:2]:
        return len(target)  # also where time comes first
    return size


def _own_loss(output: Any) -> Any:
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise ConfigError("loss: none is given and the model's output has none; give loss(output, target)")
    return found


def _called(loss: Loss, output: Any, further: tuple[Any, ...]) -> Any:
    try:
        return loss(output, *further)
    except GradscapeError:
        raise
    except Exception as error:
        given = ", ".join(described(value) for value in (output, *further))
        raise ConfigError(f"loss: failed on ({given}): {with_place(error)}") from error


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
