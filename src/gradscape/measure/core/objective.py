"""Loss as a function of a model's parameters, over fixed batches: the object of smoothness and curvature.

The model's own parameters and buffers are never written: copies replace them while a loss is evaluated, for
the loss too, which may use the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradscape._text import join_names
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.as_found import AsFound, standing_in
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.batches import fixed_batches
from gradscape.measure.core.containers import mapped
from gradscape.measure.core.gathered import GATHERED, gathered, is_sharded, leave_out_hooks
from gradscape.measure.core.layer_trace import Trace, layer_kind, unwatched
from gradscape.measure.core.leaves import leaves, refuse_own, told_of_backward
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.core.preserve import (
    autocast_alone,
    random_positions,
    random_state,
    refuse,
    same_loss,
    seed_generators,
)

NormStatistics = Literal["batch", "running"]
CACHED = 50  # samples whose activations stay in a processor's cache
SAME = 1e-5  # relative difference of a batch's loss and its parts' mean
ALIKE = 1e-3  # relative difference of parts' losses, below which every weighted mean of them is the same
SAME_GRADIENT = 1e-4  # difference of a batch's gradient and its parts' mean, over the norms of theirs


class Objective:
    """Mean of a loss over fixed batches, weighted by their samples.

    Dropout is off, and random numbers are the same in each pass. Tensors of less than 32 bits are cast to
    float32, and `torch.autocast` around the measurement is off.

    Args:
        model: Module; wrappers such as torch.compile, DistributedDataParallel and DataParallel are removed.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order, or
            loss(model, batch); returns a tensor of one number. None for a model whose output has a `loss`.
        batches: One batch, (x, y), x or a dict of the model's arguments, or several: a list, or a DataLoader
            for one pass.
        bn: Statistics of BatchNorm: `batch` of each batch as in training, `running` as in evaluation.

    Attributes:
        names: Names of the parameters that require a gradient.
        start: Copies of their values.
        buffers: Values by name in place of those of the model's own buffers and frozen parameters.
        whole: Batches.
        samples: Number of samples in all batches.
        notes: Remarks on the measurement, as sentences.

    Raises:
        ConfigError: If there are no batches, no parameter requires a gradient, a batch does not fit, or the
            loss is not one number.
    """

    def __init__(
        self, model: nn.Module, loss: Loss | None, batches: Any, bn: NormStatistics = "batch"
    ) -> None:
        if bn not in ("batch", "running"):
            raise ConfigError(f"bn: expected one of batch, running; got {brief(bn)}")
        self.model, self.loss, self.bn = unwrapped(model), loss, bn
        found, self.notes, self.widened = _looked_at(self.model)
        self.sharded = {n: gathered(p) for n, p in self.model.named_parameters() if is_sharded(p)}
        self.notes += [GATHERED] if self.sharded else []
        self.names = tuple(found)
        self.start = tuple(laid_out(self.sharded.get(name, p)) for name, p in found.items())
        self.size = sum(p.numel() for p in self.start)
        self.buffers: Mapping[str, Tensor] = {}
        self.found, self.leaves_known = AsFound(self.model), False
        self.own = {id(p): name for name, p in self.model.named_parameters()}
        self.norms = [module for module in self.model.modules() if layer_kind(module) == "norm"]
        fixed, notes = fixed_batches(batches)
        self.notes += notes
        given = [Batch.of(batch, self.model, loss) for batch in fixed]
        # Targets too: of one in bfloat16 a loss has three digits, or refuses a wider output.
        self.whole = tuple(
            replace(batch.mapped(laid_out), further=mapped(batch.further, _widened)) for batch in given
        )

    @property
    def samples(self) -> int:
        """Number of samples in all batches."""
        return sum(batch.size for batch in self.whole)

    @property
    def has_batchnorm(self) -> bool:
        """True if a module has statistics of batches, as LayerNorm has not."""
        return any(
            isinstance(each, _BatchNorm) or getattr(each, "running_mean", None) is not None
            for each in self.norms
        )

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """Batches in parts that fit in a processor's cache, if the loss is the mean over parts."""
        with torch.no_grad():
            return tuple(part for batch in self.whole for part in self.parts(batch))

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each batch; they sum to 1."""
        samples = self.samples
        return tuple(batch.size / samples for batch in self.batches)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the model itself, by name."""
        everyone = dict(self.model.named_parameters())
        return {name: everyone[name] for name in self.names}

    def each(self) -> Iterator[Objective]:
        """Yield an objective for each batch; all share the parameters' copies."""
        for batch in self.whole:
            yield self.changed(whole=(batch,))

    def changed(self, **attributes: Any) -> Objective:
        """Return the objective with changed attributes; both share the parameters' copies.

        Args:
            **attributes: New values of attributes, such as `whole`, `start` or `bn`.
        """
        one = copy.copy(self)
        vars(one).pop("batches", None)
        vars(one).update(attributes)
        return one

    def parts(self, batch: Batch) -> list[Batch]:
        """Split a batch into parts if its loss is their mean, otherwise return it whole.

        Args:
            batch: Batch of any size.
        """
        on_cpu = all(tensor.device.type == "cpu" for tensor in self.start)
        if batch.size <= CACHED or not on_cpu or (self.norms and self.bn == "batch"):
            return [batch]
        whole = float(self.evaluate(batch, self.start))
        try:
            cut = [batch.part(first, CACHED) for first in range(0, batch.size, CACHED)]
            losses = [float(self.evaluate(part, self.start)) for part in cut]
            mean = sum(part.size / batch.size * loss for part, loss in zip(cut, losses, strict=True))
            same = abs(mean - whole) <= SAME * abs(whole)
            if same and max(abs(loss - whole) for loss in losses) <= ALIKE * abs(whole):
                same = self._is_mean_gradient(batch, cut)
        except Exception:  # any type: a graph, offsets or labels that count samples cannot be split
            return [batch]
        return cut if same else [batch]

    def _is_mean_gradient(self, batch: Batch, cut: Sequence[Batch]) -> bool:
        """Return True if a batch's gradient is the mean over its parts, weighted by their samples.

        Losses do not tell where the last layer begins at 0: log C is the loss of each part, however a loss
        weights its samples.
        """
        left = self.gradient_of(batch, self.start)[1]
        scale = 0.0
        for part in cut:
            piece = part.size / batch.size * self.gradient_of(part, self.start)[1]
            left, scale = left - piece, scale + norm(piece)
        return scale > 0 and norm(left) <= SAME_GRADIENT * scale

    @contextmanager
    def at(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Give the model these parameters and the mode of measurement until the block ends.

        Backward passes belong inside: activation checkpoints call the model again.

        Args:
            parameters: Values of the parameters in `names`.
        """
        values = self.others() | dict(zip(self.names, parameters, strict=True))
        alone = autocast_alone(self.start[0].device.type)
        with (
            standing_in(self.model, values, self.found),
            same_loss(self.loss),
            random_state(),
            unwatched(),
            alone,
        ):
            seed_generators(0)
            for module in self.model.modules():
                module.training = False
                if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                    module.sparse = False  # a sparse gradient has no derivative
            for module in self.norms:
                module.training = self.bn == "batch"
            if self.sharded:
                leave_out_hooks(self.model)
            yield

    def evaluate(self, batch: Batch, parameters: Sequence[Tensor]) -> Tensor:
        """Return the loss of one batch, differentiable in the parameters.

        Args:
            batch: Batch to evaluate.
            parameters: Values of the parameters in `names`.
        """
        with self.at(parameters):
            return self.value(batch)

    def value(self, batch: Batch) -> Tensor:
        """Return the loss of one batch, inside `at`.

        Args:
            batch: Batch to evaluate.

        Raises:
            ConfigError: If it fails, or uses the model's own parameters without the model.
        """
        return self.loss_of(batch, self.output(batch))

    def output(self, batch: Batch) -> Any:
        """Return the model's output for a batch, inside `at`.

        Args:
            batch: Batch to evaluate.

        Raises:
            ConfigError: If it fails; the message has the layer, its input and the expected input.
        """
        try:
            return batch.output(self.model)
        except Exception:  # of the user's model, of any type
            self.explain(batch)
            raise

    def explain(self, batch: Batch) -> None:
        """Trace a failing batch through the model to locate the failure.

        Args:
            batch: Batch that failed.

        Raises:
            ConfigError: If it fails; the message has the layer, its input and the expected input.
        """
        with torch.no_grad(), Trace(self.model, lambda *_: None) as trace:
            try:
                trace.forward(batch)
            except ConfigError as error:
                if not self.widened or "type" not in str(error.__cause__):
                    raise
                raise ConfigError(
                    f"model: its {self.widened} parameters are computed in float32 here, and its forward "
                    f"casts to another type: cast to the layer's own, x.to(layer.weight.dtype) ({error})"
                ) from error

    def loss_of(self, batch: Batch, output: Any) -> Tensor:
        """Return the loss of an output, inside `at`.

        Args:
            batch: Batch of the output.
            output: Output of the model.
        """
        value = self._explained(batch, output, batch.loss)
        if value.requires_grad and not self.leaves_known:
            refuse_own(value, self.own)
            self.leaves_known = True
        return value

    def first_look(self) -> tuple[Any, bool, bool]:
        """Return the first batch's output; whether the loss uses the parameters too; whether a pass draws.

        Raises:
            ConfigError: If the batch does not fit, the loss fails, or it uses parameters without the model.
        """
        batch = self.batches[0]
        with torch.no_grad(), self.at(self.start):
            before = random_positions()
            output = self.output(batch)
            draws = random_positions() != before
        free = [p.detach().requires_grad_() for p in self.start]
        with torch.enable_grad(), self.at(free):
            before = random_positions()
            value = self._explained(batch, output, batch.number)
            draws |= random_positions() != before
        refuse_own(value, self.own)
        ids = {id(p) for p in free}
        return output, any(id(leaf) in ids for leaf in leaves(value)), draws

    def _explained(self, batch: Batch, output: Any, evaluate: Callable[[Loss | None, Any], Tensor]) -> Tensor:
        """Evaluate a loss; on failure, say so if it works in train mode."""
        try:
            return evaluate(self.loss, output)
        except ConfigError as error:
            try:
                with torch.no_grad():
                    batch.number(self.loss, batch.output(self.model.train()))
            except Exception:  # any type: the mode is not the reason
                raise error from error.__cause__
            raise ConfigError(
                "loss: works on the model's output in train mode alone, and this is measured in eval mode: "
                "give a loss(model, batch) that calls model.train(), and then the model"
            ) from error

    def others(self) -> dict[str, Tensor]:
        """Return copies of buffers, which a pass may write, and of frozen parameters."""
        mine = set(self.names)
        whole = dict(self.model.named_parameters()) | self.sharded
        frozen = {n: laid_out(self.buffers.get(n, p)) for n, p in whole.items() if n not in mine}
        buffers = {name: self.buffers.get(name, own) for name, own in self.model.named_buffers()}
        return frozen | {name: laid_out(buffer.detach().clone()) for name, buffer in buffers.items()}

    def gradient(self, parameters: Sequence[Tensor] | None = None) -> tuple[float, Tensor]:
        """Return the loss and its gradient (n,).

        Args:
            parameters: Values of the parameters in `names`; `start` by default.
        """
        given = self.start if parameters is None else parameters
        total, loss = torch.zeros_like(self.vector(self.start)), 0.0
        for weight, batch in zip(self.weights, self.batches, strict=True):
            value, found = self.gradient_of(batch, given)
            total += weight * found
            loss += weight * value
        return loss, total

    def gradient_of(self, batch: Batch, parameters: Sequence[Tensor]) -> tuple[float, Tensor]:
        """Return the loss of one batch and its gradient (n,).

        Args:
            batch: Batch to evaluate.
            parameters: Values of the parameters in `names`.
        """
        given = [p.detach().requires_grad_() for p in parameters]
        with self.at(given), torch.enable_grad(), _recurrent_backward(self.model, given[0].device):
            value = self.value(batch)
            with told_of_backward():
                found = torch.autograd.grad(value, given, materialize_grads=True)
        return float(value.detach()), self.vector(found)

    def vector(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate tensors like the parameters as one vector (n,), without a graph.

        Args:
            parts: Tensors like the parameters.
        """
        dense = (part.detach().to_dense() if part.is_sparse else part.detach() for part in parts)
        return torch.cat([part.reshape(-1) for part in dense])

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Split a vector into tensors like the parameters.

        Args:
            vector: Vector (n,).
        """
        cut = torch.split(vector, [p.numel() for p in self.start])
        return [laid_out(piece.view(p.shape)) for piece, p in zip(cut, self.start, strict=True)]

    def moved(self, direction: Tensor, distance: float) -> list[Tensor]:
        """Return start + distance · direction, as tensors like the parameters.

        Args:
            direction: Direction (n,).
            distance: Factor of the direction.
        """
        return [p + distance * d.to(p.dtype) for p, d in zip(self.start, self.pieces(direction), strict=True)]


def _looked_at(model: nn.Module) -> tuple[dict[str, nn.Parameter], list[str], str]:
    """Return the parameters that require a gradient, by name, notes on the others, and widened types."""
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
    if frozen := [strip_wrappers(name) for name in everyone if name not in found]:
        notes.append(f"frozen, held as they are: {join_names(frozen)}")
    if low := sorted({str(p.dtype).removeprefix("torch.") for p in everyone.values() if _narrow(p)}):
        notes.append(f"{', '.join(low)} parameters: computed in float32")
    return found, notes, ", ".join(low)


@contextmanager
def _recurrent_backward(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Disable cuDNN for recurrent layers, whose backward pass it lacks in eval mode."""
    if device.type != "cuda" or not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    with torch.backends.cudnn.flags(enabled=False):
        yield


def _narrow(values: Tensor) -> bool:
    return values.is_floating_point() and values.element_size() < 4


def _widened(values: Tensor) -> Tensor:
    """Return a tensor in float32 at least."""
    return values.float() if _narrow(values) else values


def laid_out(values: Tensor) -> Tensor:
    """Return a tensor in float32 at least, in the layout of fast convolutions: channels last on CPUs.

    Args:
        values: Tensor; sparse and nested ones keep their layout.
    """
    values = values.detach()
    values = _widened(values)
    if not values.is_floating_point() or values.is_nested or values.layout is not torch.strided:
        return values
    if values.dim() == 4 and values.device.type == "cpu":
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous()


def norm(vector: Tensor) -> float:
    """Return ‖v‖₂, computed in float64, since 1e-30² is 0 in float32.

    Args:
        vector: Tensor of any shape.
    """
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
