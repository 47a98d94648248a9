"""A loss as a function of a model's parameters, over fixed batches: what smoothness and curvature look at.

The model's own tensors are never written, nor are its buffers: it is called with copies of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, SequentialSampler

from gradscape.errors import ConfigError, brief
from gradscape.measure.batches import Batch, Loss, unwrapped
from gradscape.measure.subjects import listed, plain
from gradscape.measure.tracing import Trace, layer_kind, unwatched
from gradscape.measure.untouched import random_state, same_buffers
from gradscape.words import counted

Statistics = Literal["batch", "running"]
CACHED = 50  # samples whose activations stay in a processor's cache
SAME = 1e-5  # relative difference of a batch's loss and its parts' mean


class Objective:
    """The mean of a loss over fixed batches, each weighted by its samples.

    Dropout is off, and random numbers are the same in each pass. Tensors of less than 32 bits are computed
    with in float32.

    Args:
        model: a module; wrappers of torch.compile and DistributedDataParallel are taken off.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn; a tensor of one number. None for
            a model whose output has a `loss`.
        batches: one batch, (x, y), x or a dict of the model's arguments, or several: a list, or a DataLoader,
            of which one pass is kept.
        bn: whether BatchNorm takes each batch's own statistics, as in training, or the running ones.

    Attributes:
        names: of the parameters that have a gradient.
        start: their values, as copies.
        whole: the batches.
        samples: in all of them.
        notes: what is to be known of how it was measured, in words.

    Raises:
        ConfigError: no batches, none of the parameters has a gradient, a batch that does not fit, a loss that
            is not one number.
    """

    def __init__(self, model: nn.Module, loss: Loss | None, batches: Any, bn: Statistics = "batch") -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model: got {type(model).__name__}; give a torch Module")
        if bn not in ("batch", "running"):
            raise ConfigError(f"bn: {brief(bn)} is not one of batch, running")
        self.model, self.loss, self.bn = unwrapped(model), loss, bn
        found, self.notes = looked_at(self.model)
        self.names, self.start = tuple(found), tuple(laid_out(p) for p in found.values())
        self.size = sum(p.numel() for p in self.start)
        self.normalised = any(layer_kind(module) == "norm" for module in self.model.modules())
        self.whole = tuple(Batch.of(batch).mapped(widened) for batch in self.fixed(batches))

    @property
    def samples(self) -> int:
        return sum(batch.size for batch in self.whole)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """As they are evaluated: in parts that stay in a processor's cache, if the loss is their mean."""
        with torch.no_grad():
            return tuple(part for batch in self.whole for part in self.parts(batch))

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each, summing to 1."""
        return tuple(batch.size / self.samples for batch in self.batches)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's own, by name."""
        everyone = dict(self.model.named_parameters())
        return {name: everyone[name] for name in self.names}

    def each(self) -> Iterator[Objective]:
        """The loss of every batch alone; all share the parameters' copies."""
        for batch in self.whole:
            yield self.changed(whole=(batch,))

    def changed(self, **attributes: Any) -> Objective:
        """The same of other batches or statistics; it shares the parameters' copies."""
        one = copy.copy(self)
        vars(one).pop("batches", None)
        vars(one).update(attributes)
        return one

    def fixed(self, batches: Any) -> list[Any]:
        """One or more batches, kept: what shuffles or augments is asked once."""
        if isinstance(batches, tuple) and len(batches) != 2:
            raise ConfigError(
                f"batches: got {len(batches)} values; give (x, y), x, a dict, or several batches as a list"
            )
        if isinstance(batches, Tensor | Mapping | tuple) or is_pair(batches):
            return [batches]
        if not isinstance(batches, Iterable):
            raise ConfigError(
                f"batches: got {type(batches).__name__}; give a batch, several, or a DataLoader"
            )
        found = list(batches)
        if not found:
            raise ConfigError("batches: there is none; give one at least")
        if isinstance(batches, DataLoader):
            drawn = "" if isinstance(batches.sampler, SequentialSampler) else ", in the order it drew then"
            self.notes.append(f"{counted(len(found), 'batch', 'batches')} of one pass of the loader{drawn}")
        return found

    def parts(self, batch: Batch) -> list[Batch]:
        """A batch in parts of which its loss is the mean; whole where it is not, or samples act together."""
        on_cpu = all(tensor.device.type == "cpu" for tensor in self.start)
        if batch.size <= CACHED or not on_cpu or (self.normalised and self.bn == "batch"):
            return [batch]
        whole = float(self.evaluate(batch, self.start))
        cut = [batch.part(first, CACHED) for first in range(0, batch.size, CACHED)]
        mean = sum(part.size / batch.size * float(self.evaluate(part, self.start)) for part in cut)
        return cut if abs(mean - whole) <= SAME * abs(whole) else [batch]

    def evaluate(self, batch: Batch, parameters: Sequence[Tensor]) -> Tensor:
        """The loss of one batch, differentiable in these parameters."""
        return self.loss_of(batch, self.output(batch, parameters))

    def output(self, batch: Batch, parameters: Sequence[Tensor]) -> Any:
        """What the model makes of a batch.

        Raises:
            ConfigError: it fails; names the layer, what it was given and what it wants.
        """
        values = self.others() | dict(zip(self.names, parameters, strict=True))
        with as_measured(self.model, self.bn), random_state():
            torch.manual_seed(0)
            try:
                with unwatched():
                    return functional_call(self.model, values, batch.positional, dict(batch.named))
            except Exception:  # of any kind
                self.explain(batch)
                raise

    def explain(self, batch: Batch) -> None:
        """Pass a batch that fails through the model by layers, which tells where it does.

        Raises:
            ConfigError: names the layer, what it was given and what it wants.
        """
        with torch.no_grad(), same_buffers(self.model), Trace(self.model, lambda *_: None) as trace:
            trace.forward(batch)

    def loss_of(self, batch: Batch, output: Any) -> Tensor:
        return batch.loss(self.loss, output)

    def others(self) -> dict[str, Tensor]:
        """Copies of what has no gradient: buffers, which a pass may write, and what is frozen."""
        mine = set(self.names)
        frozen = {n: widened(p.detach()) for n, p in self.model.named_parameters() if n not in mine}
        return frozen | {name: widened(b.detach().clone()) for name, b in self.model.named_buffers()}

    def gradient(self, parameters: Sequence[Tensor] | None = None) -> tuple[float, Tensor]:
        """The loss, and its gradient as one vector."""
        given = self.start if parameters is None else parameters
        total, loss = torch.zeros_like(self.vector(self.start)), 0.0
        for weight, batch in zip(self.weights, self.batches, strict=True):
            value, found = self.gradient_of(batch, given)
            total += weight * found
            loss += weight * value
        return loss, total

    def gradient_of(self, batch: Batch, parameters: Sequence[Tensor]) -> tuple[float, Tensor]:
        """The loss of one batch, and its gradient as one vector."""
        given = [p.detach().requires_grad_() for p in parameters]
        with torch.enable_grad(), recurrent_backward(self.model, given[0].device):
            value = self.evaluate(batch, given)
            found = torch.autograd.grad(value, given, materialize_grads=True)
        return float(value.detach()), self.vector(found)

    def vector(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors like the parameters as one vector, without a graph."""
        dense = (part.detach().to_dense() if part.is_sparse else part.detach() for part in parts)
        return torch.cat([part.reshape(-1) for part in dense])

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """A vector as tensors like the parameters."""
        cut = torch.split(vector, [p.numel() for p in self.start])
        return [laid_out(piece.view(p.shape)) for piece, p in zip(cut, self.start, strict=True)]

    def moved(self, direction: Tensor, distance: float) -> list[Tensor]:
        """The parameters, that far along a direction."""
        return [p + distance * d.to(p.dtype) for p, d in zip(self.start, self.pieces(direction), strict=True)]


def looked_at(model: nn.Module) -> tuple[dict[str, nn.Parameter], list[str]]:
    """The parameters that have a gradient, by name, and what is to be said of all."""
    everyone = dict(model.named_parameters())
    for name, parameter in everyone.items():
        if is_lazy(parameter):
            raise ConfigError(f"{name} has no shape yet: call the model on a batch once, first")
        if parameter.is_complex():
            raise ConfigError(f"{name} is complex: only real parameters can be looked at here")
        if parameter.is_inference():
            raise ConfigError(f"{name} was made in torch.inference_mode(), which allows no gradient")
    found = {name: p for name, p in everyone.items() if p.requires_grad}
    if not found:
        raise ConfigError(f"no parameter of {type(model).__name__} has a gradient: unfreeze some")
    notes = []
    if frozen := [plain(name) for name in everyone if name not in found]:
        notes.append(f"frozen, held as they are: {listed(frozen)}")
    if low := sorted({str(p.dtype).removeprefix("torch.") for p in everyone.values() if narrow(p)}):
        notes.append(f"{', '.join(low)} parameters: computed in float32")
    return found, notes


@contextmanager
def recurrent_backward(model: nn.Module, device: torch.device) -> Iterator[None]:
    """cuDNN's recurrent layers have no backward pass in eval mode; others have."""
    if device.type != "cuda" or not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    with torch.backends.cudnn.flags(enabled=False):
        yield


def is_pair(batches: Any) -> bool:
    """Whether a list is [x, y], as a DataLoader gives a batch."""
    return isinstance(batches, list) and len(batches) == 2 and all(isinstance(b, Tensor) for b in batches)


@contextmanager
def as_measured(model: nn.Module, bn: Statistics) -> Iterator[None]:
    """Everything in eval mode, norms in train mode for a batch's own statistics; as found afterwards."""
    found = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in found:
            module.training = bn == "batch" and layer_kind(module) == "norm"
        yield
    finally:
        for module, training in found:
            module.training = training


def narrow(values: Tensor) -> bool:
    return values.is_floating_point() and values.element_size() < 4


def widened(value: Any) -> Any:
    """Any tensors in a batch's argument, those of less than 32 bits in float32."""
    if isinstance(value, Tensor):
        return laid_out(value.float() if narrow(value) else value)
    if isinstance(value, Mapping):
        return {name: widened(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return tuple(widened(each) for each in value)
    return value


def laid_out(values: Tensor) -> Tensor:
    """As convolutions are fastest: channels last on a processor."""
    values = values.detach()
    values = values.float() if narrow(values) else values
    if values.dim() == 4 and values.is_floating_point() and values.device.type == "cpu":
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous() if values.is_floating_point() else values


def norm(vector: Tensor) -> float:
    """‖v‖₂, in float64: squares of 1e-30 are 0 in float32."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
