"""Watch a training: every layer's gradient and update, at every step or as often as it costs next to nothing.

A tensor hook on the parameters tells when a backward pass begins, autograd's own callback when it has ended,
and the optimiser's hooks when a step is made. What is read stays on the device, in a ring of rows, until
`Watch.history`. The model, its gradients and the optimiser are only read.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradscape.arguments import typed
from gradscape.errors import ConfigError, brief, first_line
from gradscape.history import FlowHistory
from gradscape.measure.activations import Activations, is_compiled
from gradscape.measure.batches import unwrapped
from gradscape.measure.gradient_norms import STATISTICS, Scaled, local, norms, read_gradients
from gradscape.measure.ring import Ring
from gradscape.measure.subjects import Subjects, facts
from gradscape.measure.tracing import Running, Trace

SMALL = 1_000_000  # parameters: a model of no more is read at every step
BUDGET = 0.015  # of the time: what reading a larger one may take
COLUMNS = (*STATISTICS, "weight", "update")

_watched: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Watch]] = weakref.WeakKeyDictionary()


@typed(every=1_000_000_000, capacity=1_000_000)
def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    every: int | None = None,
    capacity: int = 1_000,
    activations: bool = False,
) -> Watch:
    """Watch every layer's gradient and update from now on; nothing else in the training changes.

    Gradients are read when a backward pass has ended, under DDP reduced, and before clipping; in other
    distributed training and under a GradScaler when the optimiser's step begins, reduced and unscaled.
    `FlowHistory.seen` says which it was.
    With accumulation a row holds the sum that the step used. A step that a GradScaler skipped, or whose
    gradients were thrown away, is marked as skipped.

    Args:
        model: any module with parameters; compiled, checkpointed or wrapped in DDP or FSDP2 as may be.
        optimizer: one or several that train it.
        every: read each so many steps. By default every step of a model of at most a million parameters, and
            of a larger one as often as takes 1.5 % of the time.
        capacity: rows that are kept, the last ones; a row has eight numbers for each parameter tensor.
        activations: read every layer's output too, at the same steps: second moment, correlation of samples,
            dead and saturated units, non-finite values. A compiled model's cannot be; a note says so.

    Raises:
        ConfigError: a model without parameters, an optimiser of other parameters, a model already watched.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> ...  # train
        >>> print(gs.diagnose(flow))
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: got {type(model).__name__}; type: gs.watch(model, optimizer)")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else listed(optimizer)
    other = _watched.get(model)
    if other is not None and (found := other()) is not None and not found.closed:
        raise ConfigError(
            f"{type(model).__name__} is being watched already: use what gs.watch returned then, or close() it"
        )
    if every is not None and every < 1:
        raise ConfigError(f"every: {every} is not a number of steps; give 1 or more")
    if capacity < 2:
        raise ConfigError(f"capacity: {capacity} rows are too few; give 2 or more")
    watcher = Watch(model, optimizers, every, capacity, activations)
    _watched[model] = weakref.ref(watcher)
    return watcher


def listed(optimizers: Any) -> list[Optimizer]:
    """Several optimisers, of which each is one.

    Raises:
        ConfigError: they are not.
    """
    try:
        found = list(optimizers)
    except TypeError:
        found = [optimizers]
    if not all(isinstance(each, Optimizer) for each in found):
        raise ConfigError(f"optimizer: expected one or several of torch.optim; got {brief(optimizers)}")
    return found


def harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """An error in a hook of ours ends the watch, with a warning, and never the training."""

    @wraps(hook)
    def guarded(self: Watch, *arguments: Any, **named: Any) -> None:
        if self.broken:
            return
        try:
            hook(self, *arguments, **named)
        except Exception as error:  # of any kind: nothing of ours is worth a training
            self.broken = first_line(error)
            self.tell(f"the watch ended at step {self.steps}: {self.broken}")

    return guarded


class Watch:
    """A watch under way; `gradscape.watch` makes it, a `with` statement or `close` ends it.

    Attributes:
        subjects: the watched parameters.
        notes: what was found odd, in words.
        steps: of the last optimiser, so far.
        closed: whether the watch has been ended.
        broken: the error that ended it, or nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        every: int | None,
        capacity: int,
        activations: bool,
    ) -> None:
        self.subjects = Subjects.of(model, optimizers)
        self.notes = list(self.subjects.notes)
        self.optimizers, self.every = tuple(optimizers), every
        self.small = sum(p.numel() for p in self.subjects.parameters) <= SMALL
        self.steps, self.closed, self.broken = 0, False, ""
        self.ring = Ring(capacity, len(COLUMNS), self.subjects.shards.sizes)
        # Whether DDP shares gradients within the backward pass: they are read after that.
        self.reduced = any(isinstance(module, DistributedDataParallel) for module in model.modules())
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.at_step = distributed and not self.reduced
        self.told = False  # whether gradients are read by `take` alone
        self.within_backward = self.within_step = self.unused = False
        self.latest: Tensor | None = None  # the statistics of the gradients that the next step will use
        self.places: list[int] = []  # of the parameters that have those gradients,
        self.scaled: Scaled | None = None  # and the gradients scaled
        self.before: tuple[list[int], Scaled | None] = ([], None)  # the two, of the row before
        self.weights = [torch.empty_like(local(p.detach())) for p in self.subjects.parameters]
        self.began, self.spent, self.sampled = time.perf_counter(), 0.0, True
        self.activations = Activations(capacity) if activations else None
        self.trace = Trace(unwrapped(model), self.on_layer)
        if activations and is_compiled(model):
            self.notes.append("the model is compiled, which calls no hooks: its activations are not read")
            self.activations = None
        if self.activations:
            self.trace.attach()
        self.handles: list[Any] = [
            *(p.register_hook(self.on_gradient) for p in self.subjects.parameters),  # type: ignore[no-untyped-call]
            *(optimizer.register_step_pre_hook(self.before_step) for optimizer in self.optimizers),
            *(optimizer.register_step_post_hook(self.after_step) for optimizer in self.optimizers),
        ]

    def close(self) -> None:
        """End the watch; what was read stays."""
        self.trace.detach()
        for handle in self.handles:
            handle.remove()
        self.handles, self.weights, self.closed = [], [], True
        self.scaled, self.before = None, ([], None)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @harmless
    def on_gradient(self, _: Tensor) -> None:
        """A gradient is about to arrive: the first of a backward pass asks to be told of the pass's end."""
        if self.within_backward:
            return
        self.within_backward = True
        if all(p.grad is None for p in self.subjects.parameters):  # nothing is accumulated upon
            if self.unused and self.sampled and not self.within_step:
                self.add(torch.full_like(self.ring.rows[0], math.nan), skipped=True)
            self.latest = None
        Variable._execution_engine.queue_callback(self.after_backward)

    @harmless
    def after_backward(self) -> None:
        """The gradients are whole, unless processes have yet to share theirs."""
        self.within_backward, self.unused = False, True
        if self.activations:
            self.activations.end_pass()
        if not self.sampled or self.at_step or self.told:
            return
        if self.reduced:  # DDP asks to be told of the pass's end after we did: asked again, we come after it
            Variable._execution_engine.queue_callback(self.read_reduced)
        else:
            self.read()

    @harmless
    def read_reduced(self) -> None:
        """After DDP's own work at the pass's end."""
        self.read()

    @harmless
    def take(self, scale: Tensor | None = None) -> None:
        """Read gradients now, and from now on only here: for loops that know when they are whole but not yet
        clipped, such as after a GradScaler's `unscale_`.

        Args:
            scale: what they are still multiplied by.
        """
        self.told = True
        if self.sampled:
            self.read(scale)

    @harmless
    def before_step(self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Read what could not be read before, and keep the weights to see what the step does to them."""
        self.within_backward = False  # also after a backward pass that an error broke off
        self.within_step = True  # a closure may drop gradients and find others, as LBFGS's does
        if not self.sampled:
            return
        if not self.told:
            self.read_late(optimizer, closure=len(arguments) > 1 or "closure" in named)
        start = time.perf_counter()
        places = self.subjects.members[id(optimizer)]
        with torch.no_grad():
            torch._foreach_copy_([self.weights[i] for i in places], self.held(places))
        self.spent += time.perf_counter() - start

    def read_late(self, optimizer: Optimizer, closure: bool) -> None:
        """Read what the end of the backward pass was too early for; a closure's pass is yet to come."""
        if not self.at_step and called_by_scaler():
            self.at_step = True
            self.notes.append("a GradScaler is at work: gradients are read after it has unscaled them")
        if self.at_step or (self.latest is None and not closure):
            self.read(getattr(optimizer, "grad_scale", None))

    @harmless
    def after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Read what the step did to the weights, and finish the row."""
        if self.sampled and self.latest is not None:
            start = time.perf_counter()
            places = self.subjects.members[id(optimizer)]
            self.add(self.row(places), getattr(optimizer, "found_inf", None))
            self.before = (self.places, self.scaled)
            self.spent += time.perf_counter() - start
        self.within_step = self.unused = False
        if optimizer is self.optimizers[-1]:
            self.steps += 1
            self.sampled = self.due()
            self.prepare_activations()

    def add(self, row: Tensor, skipped: Tensor | bool | None) -> None:
        """A row of the ring, and one of activations."""
        self.ring.add(self.steps, row, skipped)
        if self.activations:
            self.activations.add()

    def prepare_activations(self) -> None:
        """Hooks on the layers for the steps that are read, and none for others."""
        if self.activations and self.sampled:
            self.activations.end_step()
            self.trace.attach()
        else:
            self.trace.detach()

    def on_layer(self, call: Running, output: Any) -> None:
        """A layer has run. An error ends the reading of activations; gradients are still watched."""
        if self.activations is None or self.broken:
            return
        start = time.perf_counter()
        try:
            self.activations.read(call, output, recorded=torch.is_grad_enabled())
        except Exception as error:
            self.activations = None
            self.tell(f"activations are not read, since step {self.steps}: {call.name}: {first_line(error)}")
        self.spent += time.perf_counter() - start

    def tell(self, note: str) -> None:
        """Note it, and warn of it; a warning that was made an error is none of the training's."""
        self.notes.append(note)
        with suppress(Warning):
            warnings.warn(f"gradscape: {note}", stacklevel=3)

    @torch.no_grad()
    def row(self, places: Sequence[int]) -> Tensor:
        """(columns, parameters): what was read of an optimiser's parameters; NaN for others."""
        assert self.latest is not None
        shards = self.subjects.shards.part(places)
        before = [self.weights[i] for i in places]
        weight = norms(before, shards)
        torch._foreach_sub_(before, self.held(places))
        moved = torch.stack([weight, norms(before, shards)])
        row = torch.full_like(self.ring.rows[0], math.nan)
        row[:, places] = torch.cat([self.latest[:, places], moved])
        return row

    def held(self, places: Sequence[int]) -> list[Tensor]:
        return [local(self.subjects.parameters[i].detach()) for i in places]

    def read(self, scale: Tensor | None = None) -> None:
        """Gradients as they are now; those that a fused optimiser has yet to unscale over their scale."""
        start = time.perf_counter()
        gradients = {i: p.grad for i, p in enumerate(self.subjects.parameters) if p.grad is not None}
        self.latest = None
        if gradients:
            self.places = list(gradients)
            shards = self.subjects.shards.part(self.places)
            last = self.before[1] if self.before[0] == self.places else None
            values, self.scaled = read_gradients(list(gradients.values()), shards, last)
            if scale is not None:
                values[:3] /= scale
            self.latest = values.new_full((len(STATISTICS), len(self.subjects.parameters)), math.nan)
            self.latest[:, self.places] = values
        self.spent += time.perf_counter() - start

    def due(self) -> bool:
        """Whether to read the next step."""
        if self.every is not None:
            return self.steps % self.every == 0
        if self.small:
            return True
        return self.spent <= BUDGET * (time.perf_counter() - self.began)

    def history(self, since: int = 0) -> FlowHistory:
        """What was read, oldest row first; waits for the device.

        Args:
            since: leave out so many of all rows ever read, such as those written already.
        """
        steps, skipped, rows = self.ring.read(since)
        return FlowHistory(
            layers=self.subjects.names,
            kinds=self.subjects.kinds,
            sizes=tuple(int(size) for size in self.subjects.shards.sizes.tolist()),
            steps=steps,
            skipped=skipped,
            **{name: rows[:, column] for column, name in enumerate(COLUMNS)},
            optimizers=tuple(facts(o, self.subjects.members[id(o)]) for o in self.optimizers),
            seen=self.seen,
            notes=tuple(self.notes),
            activations=self.activations.history(steps.tolist()) if self.activations else None,
            row="step",
            shapes=tuple(tuple(parameter.shape) for parameter in self.subjects.parameters),
            modules=self.subjects.modules,
        )

    @property
    def seen(self) -> str:
        if self.told:
            return "when the training loop told, reduced and unscaled, before any clipping"
        if self.at_step:
            return "when the step began, reduced and unscaled, after any clipping"
        return f"after the backward pass{', reduced' if self.reduced else ''}, before any clipping"


def called_by_scaler() -> bool:
    """Whether a GradScaler makes the optimiser's step: in a loop's own code nothing else tells."""
    frame = sys._getframe(3)
    for _ in range(8):
        if isinstance(frame.f_locals.get("self"), torch.amp.GradScaler):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False
