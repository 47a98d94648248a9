"""Batches in a user's form, (x, y), x or the model's arguments by name, and their outputs and losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradscape.errors import ConfigError, GradscapeError, brief, cut, with_place
from gradscape.measure.core.containers import as_plain, is_graph, is_record, mapped, tensors
from gradscape.measure.core.parameters import unwrapped as unwrapped

Loss = Callable[..., Tensor]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # positional ones, and those by name
FORMS = "(x, y), x, or a dict of the model's arguments"


@dataclass(frozen=True)
class Batch:
    """Arguments of a model and of its loss.

    Attributes:
        given: Argument or arguments of the model, x; the whole batch for a loss that calls the model itself.
        further: Arguments of the loss after the model's output: the target, or the whole dict.
        size: N, the number of samples.
        calling: The loss, if it is loss(model, batch).
    """

    given: Any
    further: tuple[Any, ...]
    size: int
    calling: Loss | None = None

    @classmethod
    def of(cls, batch: Any, model: nn.Module | None = None, loss: Loss | None = None) -> Batch:
        """Split a batch: (x, y), x, or a dict of the model's arguments.

        x is a tensor, or several in a tuple, list or dict, which are the model's arguments if its signature
        accepts them, otherwise one argument. A tuple of one, (x,), is always one argument, whatever x is. Of
        three values or more, the model gets as many as its signature accepts, if that number is unique, and
        the loss the others.

        Args:
            batch: Batch from a user or a DataLoader.
            model: Model that takes the arguments; without it, three values are refused.
            loss: Loss; one that is loss(model, batch), by its first parameter's name or annotation, gets the
                whole batch and calls the model itself.

        Raises:
            ConfigError: If the batch has another form, or no tensor with samples.
        """
        if isinstance(batch, Batch):
            return batch
        batch = mapped(batch, as_plain)
        if loss is not None and takes_model(loss):
            return cls(batch, (), _samples(batch, None), loss)
        x, further = _split(batch, model)
        return cls(x, further, _samples(x, further[0] if further else None))

    def output(self, model: nn.Module) -> Any:
        """Return the model's output, or the loss itself if that is loss(model, batch).

        Args:
            model: Model to call.
        """
        if self.calling is not None:
            return _called(self.calling, model, (self.given,))
        positional, named = self.arguments(model)
        return model(*positional, **named)

    def arguments(self, model: nn.Module) -> Arguments:
        """Return positional and keyword arguments for the model.

        Args:
            model: Model to call.
        """
        return _arguments(self.given, model)

    def loss(self, loss: Loss | None, output: Any) -> Tensor:
        """Return the loss, a tensor of one number with a gradient.

        Args:
            loss: Loss; None for `output.loss`.
            output: Output of the model.

        Raises:
            ConfigError: If it fails, is not one number, or has no gradient.
        """
        value = self.number(loss, output)
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ConfigError(
                "loss: nothing in it has a gradient; look for detach(), argmax(), .item() or torch.no_grad() "
                "in the model and the loss, and train at least one parameter"
            )
        return value

    def number(self, loss: Loss | None, output: Any) -> Tensor:
        """Return the loss, which may be without a gradient.

        Args:
            loss: Loss; None for `output.loss`.
            output: Output of the model.

        Raises:
            ConfigError: If it fails or is not one number.
        """
        if self.calling is not None:
            value = output
        else:
            value = _own_loss(output) if loss is None else _called(loss, output, self.further)
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            raise ConfigError(
                f"loss: returned {_returned(value)}; it must be a tensor of one number, as of .mean()"
            )
        return value

    def part(self, first: int, count: int) -> Batch:
        """Return a part of the samples.

        Args:
            first: Index of the first sample.
            count: Number of samples, at most.
        """
        count = min(count, self.size - first)

        def cut(value: Tensor) -> Tensor:
            axis = sample_axis(value, self.size)
            return value if axis is None else value.narrow(axis, first, count)

        return replace(self.mapped(cut), further=mapped(self.further, cut), size=count)

    def differentiable(self) -> tuple[Batch, Tensor | None]:
        """Return the batch with its first floating tensor requiring a gradient, and that tensor."""
        sources: list[Tensor] = []

        def free(value: Tensor) -> Tensor:
            if sources or not value.is_floating_point():
                return value
            sources.append(value.detach().clone().requires_grad_())
            return sources[0].clone()  # a clone, since a layer may work in place

        return self.mapped(free), sources[0] if sources else None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with changed model arguments.

        Args:
            change: Function of each tensor.
        """
        return replace(self, given=mapped(self.given, change))


def _split(batch: Any, model: nn.Module | None) -> tuple[Any, tuple[Any, ...]]:
    """Return the model's part of a batch and the further arguments of the loss."""
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
    """Return the first values, which the model takes, and the others, for the loss."""
    fit = [count for count in range(1, len(values)) if _fits(model, (values[:count], {}))]
    if len(fit) != 1:
        takes = f"takes {' or '.join(map(str, fit))} of them" if fit else "takes no number of them"
        raise ConfigError(
            f"batch: got {len(values)} values, and {type(model).__name__} {takes}; give ((x1, x2), y), or a "
            "loss(model, batch) that calls the model itself"
        )
    return values[: fit[0]], values[fit[0] :]


def _arguments(x: Any, model: nn.Module) -> Arguments:
    """Return x as several arguments if the model's signature accepts them, otherwise as one.

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
    """Return True if the signature of a model's `forward` accepts these arguments."""
    try:
        inspect.signature(model.forward).bind(*given[0], **given[1])
    except TypeError:
        return False
    except ValueError:  # there is no signature
        return True
    return True


def takes_model(function: Callable[..., Any]) -> bool:
    """Return True if a function's first parameter is named `model` or annotated as a module.

    Args:
        function: Loss, as loss(model, batch), or what makes an optimizer.
    """
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None:
        return False
    kind = first.annotation
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return True
    return first.name == "model" or str(kind).rpartition(".")[2] == "Module"


def _samples(x: Any, target: Any) -> int:
    """Return N, the length of the first tensor with axes, or of labels along one of its first two axes."""
    found = next((t for t in tensors(x) if t.dim()), None)
    if found is None:
        raise ConfigError(f"batch: no tensor with samples in {type(x).__name__}; give (x, y), x or a dict")
    size = int(x.batch_sizes[0]) if isinstance(x, PackedSequence) else found.shape[0]
    if not size:
        raise ConfigError(f"batch: {described(found)} has no samples; give one at least")
    if isinstance(target, Tensor) and target.dim() == 1 and len(target) in found.shape[:2]:
        return len(target)  # also if time comes first
    return size


def _own_loss(output: Any) -> Any:
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise ConfigError("loss: none is given and the model's output has none; give loss(output, target)")
    return found


def _returned(value: Any) -> str:
    """Name what a loss returned in place of one number."""
    if isinstance(value, Tensor):
        return f"a {'complex ' * value.is_complex()}tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {cut(', '.join(map(str, value)))}"
    return f"{len(value)} values" if isinstance(value, tuple | list) else brief(value)


def _called(loss: Loss, output: Any, further: tuple[Any, ...]) -> Any:
    kind: Any = loss
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        name = kind.__name__
        raise ConfigError(f"loss: expected a function or a module; got the class {name}; type {name}()")
    try:
        return loss(output, *further)
    except GradscapeError:
        raise
    except Exception as error:
        given = ", ".join(described(value) for value in (output, *further))
        raise ConfigError(f"loss: failed on ({given}): {with_place(error)}") from error


def main_tensor(value: Any) -> Tensor | None:
    """Return the first floating tensor of two or more dimensions, otherwise of one; None without any.

    Args:
        value: Output of a layer.
    """
    found = [t for t in tensors(value) if t.is_floating_point() or t.is_complex()]
    return next((t for t in found if t.dim() > 1), next((t for t in found if t.dim() == 1), None))


def sample_axis(value: Tensor, size: int) -> int | None:
    """Return the axis of the samples, the first of the first two axes with their number; None without one.

    Args:
        value: Tensor of a batch.
        size: Number of samples.
    """
    return next((axis for axis in range(min(value.dim(), 2)) if value.shape[axis] == size), None)


def described(value: Any) -> str:
    """Describe a tensor as in `float32 (10, 3)`, anything else by the name of its type.

    Args:
        value: Any object.
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
