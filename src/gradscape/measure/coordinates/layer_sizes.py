"""Sizes of a network's outputs, layer by layer, and of their changes since this was first asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.measure.core.as_found import as_found
from gradscape.measure.core.batch import Batch, Loss, main_tensor
from gradscape.measure.core.layer_trace import Hook, Running, Trace, hooked, layer_kind, numbered
from gradscape.measure.core.preserve import random_state, same_buffers, seed_generators

OUTPUT = "(output)"  # the network's output, where no layer returns it
Sizes = tuple[float, float, float]


@dataclass
class Reading:
    """Sizes of one pass.

    Attributes:
        sizes: Of output, change and effective update, per layer in the order of calls.
        kinds: Kind per layer.
        last: Layer whose output is the network's, `OUTPUT` if no layer returns that; empty if it has none.
        readout: Last layer, if its output has the shape of the network's and is not that; otherwise empty.
        loss: Loss of the batch.
    """

    sizes: dict[str, Sizes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    last: str = ""
    readout: str = ""
    loss: float = math.nan


class LayerSizes:
    """Reader of the layers of a network that is trained: modules that hold parameters and call no other.

    Every pass is made with the same random numbers, so that dropout is no part of a change. Parameters,
    buffers, hooks and generators are left as found.

    Args:
        model: Network before its first step, whose parameters and outputs are kept.
        batch: Batch of every pass.
        loss: Loss, as of `gradscape.coordinate_check`.
        seed: Seed of the random numbers.
    """

    def __init__(self, model: nn.Module, batch: Batch, loss: Loss | None, seed: int) -> None:
        self.model, self.batch, self.loss, self.seed = model, batch, loss, seed
        self.weights = {id(p): p.detach().clone() for p in model.parameters()}
        self.first: dict[str, Tensor] = {}
        self.repeating = False

    @torch.no_grad()
    def read(self) -> Reading:
        """Return the sizes as they are now.

        Raises:
            ConfigError: The batch does not fit, or the loss fails.
        """
        reading, outputs = Reading(), dict[str, Tensor]()

        def seen(call: Running, output: Any) -> None:
            values = main_tensor(output)
            if self.repeating or values is None or not values.numel() or not _holds_parameters(call.module):
                return
            if torch._C._functorch.is_functorch_wrapped_tensor(values):  # it has no numbers of its own
                return
            count = 1
            while (name := numbered(call.name or type(call.module).__name__, count)) in outputs:
                count += 1
            outputs[name], reading.kinds[name] = values, layer_kind(call.module)
            reading.sizes[name] = self._sizes(name, values, call)

        final: list[Tensor | None] = []
        with random_state(), as_found(self.model), same_buffers(self.model):
            seed_generators(self.seed)
            # By a hook, since a loss(model, batch) returns something else than the network does.
            with Trace(self.model, seen) as trace, hooked([self.model], Hook(partial(_keep, final))):
                output = trace.forward(self.batch)
            reading.loss = float(self.batch.number(self.loss, output))
        self._read_last(reading, outputs, final[-1] if final else None)
        return reading

    def _read_last(self, reading: Reading, outputs: dict[str, Tensor], final: Tensor | None) -> None:
        """Add the network's output: the last of all, whichever layer returns it."""
        if final is None:
            return
        if returned := [name for name, values in outputs.items() if values is final]:
            reading.last = returned[-1]
            for held in (reading.sizes, reading.kinds):
                held[reading.last] = held.pop(reading.last)  # type: ignore[assignment]
            return
        last = next(reversed(outputs), "")
        if last and outputs[last].shape == final.shape:
            reading.readout = last
        reading.last, reading.kinds[OUTPUT] = OUTPUT, "output"
        reading.sizes[OUTPUT] = self._sizes(OUTPUT, final, None)

    def _sizes(self, name: str, values: Tensor, call: Running | None) -> Sizes:
        """Return the sizes of an output, of its change, and of the layer's own part of that."""
        if name not in self.first:
            self.first[name] = values.clone()  # what follows may change it in place
            return size_of(values), 0.0, math.nan if call is None else 0.0
        before = self.first[name]
        change = size_of(values - before) if values.shape == before.shape else math.nan
        return size_of(values), change, math.nan if call is None else self._effective(call)

    def _effective(self, call: Running) -> float:
        """Return the size of f(W, x) − f(W₀, x), with the same random numbers in both."""
        parameters = [p for p in call.module.parameters() if id(p) in self.weights]
        self.repeating = True
        try:
            with random_state():
                seed_generators(self.seed)
                now = main_tensor(call.repeat())
            with random_state(), _valued(parameters, [self.weights[id(p)] for p in parameters]):
                seed_generators(self.seed)
                then = main_tensor(call.repeat())
        finally:
            self.repeating = False
        alike = now is not None and then is not None and now.shape == then.shape
        return size_of(now - then) if alike else math.nan  # type: ignore[operator]


def _keep(held: list[Tensor | None], _: nn.Module, __: Any, output: Any) -> None:
    held.append(main_tensor(output))


def size_of(values: Tensor) -> float:
    """Return the mean of |x|, in float32 at least.

    Args:
        values: Tensor of any shape; of complex values the modulus counts.
    """
    sizes = values.detach().abs()
    wide = sizes.dtype if sizes.dtype is torch.float64 else torch.float32
    return float(sizes.mean(dtype=wide))


def _holds_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


@contextmanager
def _valued(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Give parameters other values until the block ends.

    In place: a recurrent layer holds its parameters under more names than those that could be replaced.
    """
    held = [p.detach().clone() for p in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data.copy_(value)
        yield
    finally:
        for parameter, value in zip(parameters, held, strict=True):
            parameter.data.copy_(value)
