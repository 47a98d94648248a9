"""Gradient noise scale while a model trains, from gradients that are computed anyway."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.gathered import is_sharded
from gradscape.measure.core.parameters import WatchedParameters
from gradscape.measure.watch.steps import all_of, leave_steps, listen_to_steps
from gradscape.records.noise_scale import NoiseScaleRecord

CAPACITY = 10_000  # steps that are kept, the last ones


@typed(every=1_000_000_000, batch_size=1_000_000_000)
def watch_noise(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | Any,
    batch_size: int = 1,
    every: int = 1,
) -> NoiseWatch:
    """Estimate the gradient noise scale of a training from now on; the training is not changed.

    The norm of a small batch's gradient is compared with that of a larger one: of each micro-batch with the
    sum that a step uses, where gradients are accumulated, and of each rank with the mean over ranks under
    DDP. Both are there anyway; what is added is a norm of each. A rank uses its own micro-batches' norms, and
    nothing is sent. Losses must be means over equal micro-batches; whether they are divided by their number
    does not matter. Gradients that a GradScaler has scaled remain so in `small` and `big`.

    Args:
        model: Module with parameters, possibly in DDP.
        optimizer: One or several optimizers of the model; a step is one of any of them.
        batch_size: Number of samples of a micro-batch on one rank; 1 to count in micro-batches.
        every: Number of steps from one reading to the next.

    Returns:
        Watch whose `record()` has the numbers; a `with` statement or `close` ends it.

    Raises:
        ConfigError: If a number is below 1, the model has no parameters that the optimizer trains, or they
            are sharded: gradients are reduced then before anything sees those of a rank. `gs.noise` takes
            such a model.

    Source: McCandlish et al. (2018), appendix A.1.

    Example:
        >>> meter = gs.watch_noise(model, optimizer, batch_size=8)
        >>> for _ in range(4):
        ...     (loss(model(x), y) / 4).backward()
        >>> optimizer.step()
        >>> int(meter.record().parts[0])  # and `noise_scale` over many steps
        4
    """
    for name, value in (("batch_size", batch_size), ("every", every)):
        if value < 1:
            raise ConfigError(f"{name}: expected a whole number, 1 or more; got {value}")
    optimizers = all_of(optimizer)
    parameters = WatchedParameters.of(model, optimizers).parameters
    if any(is_sharded(parameter) for parameter in parameters):
        raise ConfigError(
            "model: its parameters are sharded, and gradients are reduced before those of a rank are seen; "
            "type gs.noise(model, loss, batches)"
        )
    return NoiseWatch(model, optimizers, parameters, batch_size, every)


def _harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Decorate a hook so that an error ends the watch, never the training."""

    @wraps(hook)
    def guarded(self: NoiseWatch, *arguments: Any) -> None:
        if self.error:
            return
        try:
            hook(self, *arguments)
        except Exception as error:  # any type
            self.error = first_line(error)

    return guarded


class NoiseWatch:
    """Running estimate of the gradient noise scale; `gradscape.watch_noise` returns it.

    Args:
        model: Watched model.
        optimizers: Its optimizers, without wrappers.
        parameters: Parameters that they train.
        batch_size: Number of samples of a micro-batch.
        every: Number of steps from one reading to the next.

    Attributes:
        error: Error that ended the watch, though not the training; empty if none did.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        parameters: Sequence[nn.Parameter],
        batch_size: int,
        every: int,
    ) -> None:
        self.optimizers, self.parameters = tuple(optimizers), tuple(parameters)
        self.batch_size, self.every, self.error = batch_size, every, ""
        wrapper = next((each for each in model.modules() if isinstance(each, DistributedDataParallel)), None)
        self.ranks = 1 if wrapper is None else torch.distributed.get_world_size(wrapper.process_group)
        self._steps, self._alone = 0, 0
        self._within, self._norms = False, list[Tensor]()
        self._small = list[Tensor]()
        self._big: Tensor | None = None
        self._rows: deque[tuple[int, int, Tensor, Tensor]] = deque(maxlen=CAPACITY)
        self._handles = [p.register_hook(self._on_gradient) for p in parameters]  # type: ignore[no-untyped-call]
        listen_to_steps(self)

    @_harmless
    def _on_gradient(self, gradient: Tensor) -> None:
        """Take the gradient of a micro-batch, before it is added to others or averaged over ranks."""
        if self._steps % self.every:
            return
        self._norms.append(_norm(gradient))
        if not self._within:
            self._within = True
            Variable._execution_engine.queue_callback(self._after_pass)

    @_harmless
    def _after_pass(self) -> None:
        norms, self._norms, self._within = self._norms, [], False
        self._small.append(_square(norms))
        if self.ranks > 1:  # DDP registered its callback after ours: a second one of ours runs after it
            Variable._execution_engine.queue_callback(self._read_big)
        else:
            self._read_big()

    @_harmless
    def _read_big(self) -> None:
        """Read the gradient that the step will use if this is its last pass, before any clipping."""
        self._big = _square([_norm(p.grad) for p in self.parameters if p.grad is not None])

    def before_step(self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Ignore the start of a step; see `steps.Listener`.

        Args:
            optimizer, arguments, named: As of the protocol.
        """

    @_harmless
    def after_step(self, optimizer: Optimizer) -> None:
        """Keep the norms of a step.

        Args:
            optimizer: Optimizer that made the step.
        """
        if optimizer not in self.optimizers:
            return
        passes = len(self._small)
        if self._big is not None and passes * self.ranks > 1:
            # A pass has a share of the sum: a micro-batch's own gradient is `passes` times as large.
            small = passes * torch.stack(self._small).sum()
            self._rows.append((self._steps, passes * self.ranks, small, self._big))
        self._alone += self._big is not None and passes * self.ranks == 1
        self._small, self._big, self._within = [], None, False
        self._steps += 1

    def record(self) -> NoiseScaleRecord:
        """Return the norms so far and what follows from them; waits for the device.

        Steps whose gradients are not finite are left out, with a note.
        """
        rows = [(step, parts, float(small), float(big)) for step, parts, small, big in self._rows]
        finite = [row for row in rows if math.isfinite(row[2]) and math.isfinite(row[3])]
        steps, parts, small, big = zip(*finite, strict=True) if finite else ((), (), (), ())
        return NoiseScaleRecord(
            np.array(steps, dtype=np.int64),
            np.array(parts, dtype=np.int64),
            np.array(small, dtype=np.float64),
            np.array(big, dtype=np.float64),
            self.batch_size,
            self.ranks,
            tuple(self._notes(len(rows) - len(finite))),
        )

    def _notes(self, broken: int) -> list[str]:
        alone = count_noun(self._alone, "step")
        return [
            *([f"{count_noun(broken, 'step')} left out: gradients are not finite"] if broken else []),
            *([f"{alone} had a single part, with which there is nothing to compare"] if self._alone else []),
            *([f"ended at step {self._steps}: {self.error}"] if self.error else []),
        ]

    def close(self) -> None:
        """End the watch; its readings remain."""
        leave_steps(self)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> NoiseWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _norm(gradient: Tensor) -> Tensor:
    """Return ‖g‖₂, in float32 at least."""
    held = gradient.detach()
    held = held.coalesce().values() if held.is_sparse else held
    narrow = held.dtype in (torch.float16, torch.bfloat16)
    norm: Tensor = torch.linalg.vector_norm(held, dtype=torch.float32 if narrow else None)
    return norm


def _square(norms: Sequence[Tensor]) -> Tensor:
    """Return the sum of squares of norms, in float64."""
    device = norms[0].device
    return torch.stack([each.to(device, torch.float64) for each in norms]).square().sum()
