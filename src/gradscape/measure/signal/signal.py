"""Signal and gradient through a network before training, layer by layer, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError, first_line, with_place
from gradscape.measure.core.batch import Batch, Loss, main_tensor, unwrapped
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.layer_statistics import moments
from gradscape.measure.core.layer_trace import Running, Trace, unwatched
from gradscape.measure.core.leaves import same_gradients
from gradscape.measure.core.preserve import leaves_loss, random_state, seed_generators, untouched
from gradscape.measure.signal.functional import Functions
from gradscape.measure.signal.jacobian import Singular, singular_values, twice_differentiable
from gradscape.measure.signal.layer_reader import Layer, Reader, weight_gradient
from gradscape.records.signal import Jacobian, SignalRecord


@leaves_loss
def signal(
    model: nn.Module | Callable[[], nn.Module],
    batch: Any,
    loss: Loss | None,
    seeds: int = 3,
    jacobian_samples: int = 8,
) -> SignalRecord:
    """Measure how signal and gradient pass through a network, as it is or as a factory makes it.

    This takes one forward and one backward pass per seed, and about a hundred backward passes over a few
    samples for the Jacobian. The network runs in its current mode; new modules are in train mode, where
    BatchNorm uses the batch's statistics. The model and the state of all random generators are preserved.

    Args:
        model: Module, or a factory without arguments, called after `torch.manual_seed(seed)`.
        batch: (x, y), x, or a dict of the model's arguments; samples along the first or the second axis.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order; returns a
            tensor of one number. None for a model whose output has a `loss`.
        seeds: Number of seeds 0, 1, … for a factory; a module is measured once.
        jacobian_samples: Number of samples for the singular values; 0 for none.

    Raises:
        ConfigError: If a factory raises or makes no module, the batch does not fit, or the loss fails.

    Source: Schoenholz et al. (2017) for q, c and χ; Pennington et al. (2017) for the Jacobian.

    Example:
        >>> print(signal(make_model, (x, y), loss))
    """
    if seeds < 1:
        raise ConfigError(f"seeds: expected 1 or more; got {seeds}")
    if jacobian_samples < 0:
        raise ConfigError(f"jacobian_samples: expected 0 or more; got {jacobian_samples}")
    runs = []
    for seed in range(1 if isinstance(model, nn.Module) else seeds):
        with random_state():
            seed_generators(seed)
            network = unwrapped(model if isinstance(model, nn.Module) else call_factory(model))
            samples = Batch.of(batch, network, loss)
            with untouched(network), unwatched():
                runs.append(_measured(network, samples, loss, jacobian_samples))
    return _joined(runs, samples, jacobian_samples)


def call_factory(factory: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """Return the module that a factory makes.

    Args:
        factory: Function that makes a module.
        arguments: Arguments of the function.

    Raises:
        ConfigError: If it raises, or makes something other than a module.
    """
    if not callable(factory):
        raise ConfigError(
            f"make_model: expected a module or a function making one; got {type(factory).__name__}"
        )
    name = getattr(factory, "__name__", type(factory).__name__)
    called = f"{name}({', '.join(map(repr, arguments))})"
    try:
        model = factory(*arguments)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"make_model: {called} raised {with_place(error)}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"make_model: expected a torch Module from {called}; got {type(model).__name__}")
    return model


@dataclass
class _Run:
    """Results of one seed."""

    layers: list[Layer]
    origin: str
    loss: float
    inputs: tuple[float, float]
    singular: Singular
    notes: list[str]


def _measured(model: nn.Module, batch: Batch, loss: Loss | None, jacobian_samples: int) -> _Run:
    """Measure one network; its buffers and gradients may change."""
    reader = Reader(batch.size)
    free, source = batch.differentiable()
    with torch.enable_grad():
        try:
            output = _passed(model, free, reader)
        except ConfigError:
            if source is None:
                raise
            # Some models call requires_grad_() on their input, which works for leaves only.
            free, source, reader = batch, None, Reader(batch.size)
            output = _passed(model, free, reader)
        value = free.loss(loss, output)
        with same_gradients(value, model):
            value.backward()  # type: ignore[no-untyped-call]
    for layer in reader.layers:
        layer.weight_gradient = weight_gradient(layer.module)
    singular, notes = _jacobian(model, batch, jacobian_samples)
    inputs = (math.nan, math.nan)
    first_input = next((t for t in tensors(batch.given) if t.is_floating_point()), None)
    if first_input is not None:
        first, second = moments(first_input, batch.size)
        inputs = (float(first), float(second))
    return _Run(reader.layers, reader.origin, float(value.detach()), inputs, singular, notes)


def _passed(model: nn.Module, batch: Batch, reader: Reader) -> Any:
    """Run a forward pass that the reader records, and return its output."""
    with Trace(model, reader.read) as trace, Functions(trace):
        return trace.forward(batch)


NOT_IN_GRAPH = "not have been used in the graph"  # of autograd's message, which names no cause
CUT_OFF = (
    "no gradient comes from the output back to the input: detach(), .data, torch.no_grad() or an operation "
    "without a second derivative is between"
)
UNKNOWN = Singular(math.nan, math.nan, math.nan, math.nan, "not measured")


def _jacobian(model: nn.Module, batch: Batch, samples: int) -> tuple[Singular, list[str]]:
    """Measure singular values of output by input, or by the first layer's output if inputs are integers."""
    if not samples:
        return UNKNOWN, []
    few = batch.part(0, samples)
    free, source = few.differentiable()
    firsts: list[Tensor] = []

    def seen(_: Running, output: Any) -> None:
        values = main_tensor(output)
        if source is None and not firsts and values is not None:
            firsts.append(values if values.requires_grad else values.requires_grad_())

    try:
        with twice_differentiable(model), torch.enable_grad(), Trace(model, seen) as trace:
            output, start = main_tensor(trace.forward(free)), source if source is not None else firsts[0]
            if output is None or not output.requires_grad:
                return UNKNOWN, ["Jacobian not measured: the output does not depend on the input"]
            singular = singular_values(output, start, few.size)
    except Exception as error:  # such as an operation without a second derivative
        if NOT_IN_GRAPH in str(error):
            return UNKNOWN, [f"Jacobian not measured: {CUT_OFF}"]
        return UNKNOWN, [f"Jacobian not measured: {first_line(error)}"]
    notes = [] if source is not None else ["Jacobian by the first layer's output: inputs are integers"]
    return singular, notes


def _joined(runs: list[_Run], batch: Batch, jacobian_samples: int) -> SignalRecord:
    """Join the seeds as rows of one record.

    Raises:
        ConfigError: If the factory makes other layers with another seed.
    """
    names = [tuple(layer.name for layer in run.layers) for run in runs]
    if len(set(names)) > 1:
        raise ConfigError("make_model: expected the same layers with every seed; got others; type: seeds=1")
    first, layers = runs[0], runs[0].layers

    def table(field: str) -> Any:
        return np.array([[getattr(layer, field) for layer in run.layers] for run in runs])

    def column(values: list[float]) -> Any:
        return np.array(values, dtype=np.float64)

    singular = [run.singular for run in runs]
    return SignalRecord(
        layers=names[0],
        kinds=tuple(layer.kind for layer in layers),
        widths=tuple(layer.width for layer in layers),
        **{field: table(field) for field in FIELDS},
        origin=next((run.origin for run in runs if run.origin), ""),
        input_second_moment=column([run.inputs[0] for run in runs]),
        input_correlation=column([run.inputs[1] for run in runs]),
        loss=column([run.loss for run in runs]),
        jacobian=Jacobian(
            largest=column([s.largest for s in singular]),
            largest_error=column([s.largest_error for s in singular]),
            smallest=column([s.smallest for s in singular]),
            mean_square=column([s.mean_square for s in singular]),
            mean_square_error=column([s.error for s in singular]),
            samples=min(jacobian_samples, batch.size),
            how=first.singular.how,
        ),
        samples=batch.size,
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )


FIELDS = (
    "second_moment", "correlation", "dead", "saturated", "nonfinite", "gradient", "weight_gradient",
)  # fmt: skip
