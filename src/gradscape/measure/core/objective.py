"""A loss as a function of a model's parameters, over fixed batches: what smoothness and curvature look at.

The model's own tensors are never written, nor are its buffers: while a loss is evaluated, copies stand in
their place, for the loss too, which may use the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from gradscape._text import counted
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.as_found import AsFound, standing_in
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.containers import is_graph, is_record
from gradscape.measure.core.layer_trace import Trace, layer_kind, unwatched
from gradscape.measure.core.leaves import leaves, refuse_own, told_of_backward
from gradscape.measure.core.parameters import listed, plain
from gradscape.measure.core.preserve import random_state, refuse

Statistics = Literal["batch", "running"]
CACHED = 50  # samples whose activations stay in a processor's cache
SAME = 1e-5  # relative difference of a batch's loss and its parts' mean


class Objective:
    """The mean of a loss over fixed batches, each weighted by its samples.

    Dropout is off, and random numbers are the same in each pass. Tensors of less than 32 bits are computed
    with in float32.

    Args:
        model: a module; wrappers of torch.compile, DistributedDataParallel and DataParallel are taken off.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch); a tensor of
            one number. None for a model whose output has a `loss`.
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
        if bn not in ("batch", "running"):
            raise ConfigError(f"bn: {brief(bn)} is not one of batch, running")
        self.model, self.loss, self.bn = unwrapped(model), loss, bn
        found, self.notes = _looked_at(self.model)
        self.names, self.start = tuple(found), tuple(laid_out(p) for p in found.values())
        self.size = sum(p.numel() for p in self.start)
        self.found, self.leaves_known = AsFound(self.model), False
        self.own = {id(p): name for name, p in self.model.named_parameters()}
        self.norms = [module for module in self.model.modules() if layer_kind(module) == "norm"]
        given = [Batch.of(batch, self.model, loss) for batch in self.fixed(batches)]
        self.whole = tuple(batch.mapped(laid_out) for batch in given)

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
        if type(batches) is tuple and len(batches) > 2 and all(isinstance(each, Tensor) for each in batches):
            return [batches]
        if type(batches) is tuple and len(batches) != 2:
            raise ConfigError(
                f"batches: got {len(batches)} values; give (x, y), x, a dict, or several batches as a list"
            )
        if isinstance(batches, Tensor | Mapping | tuple) or _is_pair(batches) or _is_one(batches):
            return [batches]
        if not isinstance(batches, Iterable):
            raise ConfigError(
                f"batches: got {type(batches).__name__}; give a batch, several, or a DataLoader"
            )
        with random_state(), _loader_state(batches):  # what a training's loader will draw stays
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
        if batch.size <= CACHED or not on_cpu or (self.norms and self.bn == "batch"):
            return [batch]
        whole = float(self.evaluate(batch, self.start))
        try:
            cut = [batch.part(first, CACHED) for first in range(0, batch.size, CACHED)]
            mean = sum(part.size / batch.size * float(self.evaluate(part, self.start)) for part in cut)
        except Exception:  # of any kind: a graph, offsets or labels that count samples cannot be cut
            return [batch]
        return cut if abs(mean - whole) <= SAME * abs(whole) else [batch]

    @contextmanager
    def at(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Have the model stand at these parameters, as it is measured, until the block ends.

        Backward passes belong inside: activation checkpoints call the model again.
        """
        values = self.others() | dict(zip(self.names, parameters, strict=True))
        with standing_in(self.model, values, self.found), random_state(), unwatched():
            torch.manual_seed(0)
            for module in self.model.modules():
                module.training = False
                if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                    module.sparse = False  # a sparse gradient has no derivative
            for module in self.norms:
                module.training = self.bn == "batch"
            yield

    def evaluate(self, batch: Batch, parameters: Sequence[Tensor]) -> Tensor:
        """The loss of one batch, differentiable in these parameters."""
        with self.at(parameters):
            return self.value(batch)

    def value(self, batch: Batch) -> Tensor:
        """The loss of one batch, where the model stands.

        Raises:
            ConfigError: it fails, or reads the model's own parameters from elsewhere than the model.
        """
        return self.loss_of(batch, self.output(batch))

    def output(self, batch: Batch) -> Any:
        """What the model makes of a batch, where it stands.

        Raises:
            ConfigError: it fails; names the layer, what it was given and what it wants.
        """
        try:
            return batch.output(self.model)
        except Exception:  # of any kind
            self.explain(batch)
            raise

    def explain(self, batch: Batch) -> None:
        """Pass a batch that fails through the model by layers, which tells where it does.

        Raises:
            ConfigError: names the layer, what it was given and what it wants.
        """
        with torch.no_grad(), Trace(self.model, lambda *_: None) as trace:
            trace.forward(batch)

    def loss_of(self, batch: Batch, output: Any) -> Tensor:
        """The loss of an output, where the model stands."""
        value = self.told(batch, output, batch.loss)
        if value.requires_grad and not self.leaves_known:
            refuse_own(value, self.own)
            self.leaves_known = True
        return value

    def first_look(self) -> tuple[Any, bool]:
        """What the model makes of the first batch, and whether the loss reads the model's parameters besides.

        Raises:
            ConfigError: the batch does not fit, the loss fails, or reads them from elsewhere than the model.
        """
        batch = self.batches[0]
        with torch.no_grad(), self.at(self.start):
            output = self.output(batch)
        free = [p.detach().requires_grad_() for p in self.start]
        with torch.enable_grad(), self.at(free):
            value = self.told(batch, output, batch.number)
        refuse_own(value, self.own)
        ids = {id(p) for p in free}
        return output, any(id(leaf) in ids for leaf in leaves(value))

    def told(self, batch: Batch, output: Any, evaluate: Callable[[Loss | None, Any], Tensor]) -> Tensor:
        """A loss, or in one line why it fails: also that it works in train mode alone."""
        try:
            return evaluate(self.loss, output)
        except ConfigError as error:
            try:
                with torch.no_grad():
                    batch.number(self.loss, batch.output(self.model.train()))
            except Exception:  # of any kind: the mode is not why
                raise error from error.__cause__
            raise ConfigError(
                "loss: works on the model's output in train mode alone, and this is measured in eval mode: "
                "give a loss(model, batch) that calls model.train(), and then the model"
            ) from error

    def others(self) -> dict[str, Tensor]:
        """Copies of what has no gradient: buffers, which a pass may write, and what is frozen."""
        mine = set(self.names)
        frozen = {n: laid_out(p) for n, p in self.model.named_parameters() if n not in mine}
        return frozen | {name: laid_out(b.detach().clone()) for name, b in self.model.named_buffers()}

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
        with self.at(given), torch.enable_grad(), _recurrent_backward(self.model, given[0].device):
            value = self.value(batch)
            with told_of_backward():
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


def _looked_at(model: nn.Module) -> tuple[dict[str, nn.Parameter], list[str]]:
    """The parameters that have a gradient, by name, and what is to be said of all."""
    refuse(model)
    everyone = dict(model.named_parameters())
    for name, parameter in everyone.items():
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
    if low := sorted({str(p.dtype).removeprefix("torch.") for p in everyone.values() if _narrow(p)}):
        notes.append(f"{', '.join(low)} parameters: computed in float32")
    return found, notes


@contextmanager
def _recurrent_backward(model: nn.Module, device: torch.device) -> Iterator[None]:
    """cuDNN's recurrent layers have no backward pass in eval mode; others have."""
    if device.type != "cuda" or not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    with torch.backends.cudnn.flags(enabled=False):
        yield


@contextmanager
def _loader_state(batches: Any) -> Iterator[None]:
    """Leave a loader's own generators as found."""
    places = (batches, getattr(batches, "sampler", None))
    held = {id(g): g for each in places if isinstance(g := getattr(each, "generator", None), torch.Generator)}
    states = [(generator, generator.get_state()) for generator in held.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _is_one(batches: Any) -> bool:
    """Whether it is one batch, though it can be iterated over."""
    return is_graph(batches) or is_record(batches)


def _is_pair(batches: Any) -> bool:
    """Whether a list is [x, y], as a DataLoader gives a batch."""
    return isinstance(batches, list) and len(batches) == 2 and all(isinstance(b, Tensor) for b in batches)


def _narrow(values: Tensor) -> bool:
    return values.is_floating_point() and values.element_size() < 4


def laid_out(values: Tensor) -> Tensor:
    """As convolutions are fastest: channels last on a processor; sparse and nested ones as they are."""
    values = values.detach()
    values = values.float() if _narrow(values) else values
    if not values.is_floating_point() or values.is_nested or values.layout is not torch.strided:
        return values
    if values.dim() == 4 and values.device.type == "cpu":
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous()


def norm(vector: Tensor) -> float:
    """‖v‖₂, in float64: squares of 1e-30 are 0 in float32."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
