"""Watch a training: every layer's gradient and update, at every step or as often as it costs next to nothing.

A tensor hook on the parameters tells when a backward pass begins, autograd's own callback when it has ended,
and torch's hooks on all optimizers when a step is made, whoever makes it. What is read stays on the device,
in a ring of rows, until `Watch.history`. The model, its gradients and the optimizers are only read.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.optim import Optimizer

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.gradient_statistics import STATISTICS
from gradscape.measure.core.layer_trace import Running, Trace
from gradscape.measure.core.parameters import (
    Subjects,
    facts,
    foreign,
    listed,
    named,
    not_watched,
    parameters_of,
    unwrapped,
)
from gradscape.measure.watch.activations import Activations, hidden, in_backward
from gradscape.measure.watch.ring_buffer import Ring
from gradscape.measure.watch.step_reading import StepReader
from gradscape.measure.watch.steps import all_of, each_of, is_private, leave, listen, running
from gradscape.records.gradients import FlowHistory, over

SMALL = 1_000_000  # parameters: a model of no more is read at every step
BUDGET = 0.015  # of the time: what reading a larger one may take,
FIRST = 10  # but for as many steps at its beginning: no verdict shall rest on one
COLUMNS = (*STATISTICS, "weight", "update")

_watched: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Watch]] = weakref.WeakKeyDictionary()


@typed(every=1_000_000_000, capacity=1_000_000)
def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | Any,
    every: int | None = None,
    capacity: int = 1_000,
    activations: bool = False,
) -> Watch:
    """Watch every layer's gradient and update from now on; nothing else in the training changes.

    A row is a step of the training. Gradients are read when a backward pass has ended, under DDP reduced, and
    before clipping. Where `.grad` is another by the time that the optimizer's step begins (put there by hand,
    or changed in place other than by clipping, or gone) a row holds what the step used; so it does in other
    distributed training and under a GradScaler, unscaled, after any clipping. `FlowHistory.seen` says which.
    With accumulation a row holds the sum that the step used. A step that a GradScaler skipped, or whose
    gradients were thrown away, is marked as skipped.

    Of several optimizers each step joins the row under way; one whose parameters have had their step in it
    begins the next row. So a generator and a discriminator that take turns share a row; of five steps of a
    critic and one of a generator four rows are of the critic alone and one of both; optimizers that step
    within the backward pass, one for each parameter, make a row of it. An optimizer that comes later, and
    parameters that are unfrozen or added later, are watched from their first step on; a note says so.

    Args:
        model: any module with parameters; compiled, checkpointed or wrapped in DDP or FSDP2 as may be.
        optimizer: one or several that train it, also in a wrapper of Accelerate, Fabric or Opacus.
        every: read each so many steps. By default every step of a model of at most a million parameters, and
            of a larger one the first ten, and then as often as takes 1.5 % of the time.
        capacity: rows that are kept, the last ones; a row has eight numbers for each parameter tensor.
        activations: read every layer's output too, at the same steps: second moment, correlation of samples,
            dead and saturated units, non-finite values. Of the calls of one module in a pass the first eight
            are read, and the 16th, 32nd, …. A compiled or scripted model's cannot be; a note says so.

    Raises:
        ConfigError: a model without parameters, or something else than an optimizer of some of them.

    A watch of the same model that is still open ends: in a notebook a cell may be run again.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> ...  # train
        >>> print(gs.diagnose(flow))
    """
    if every is not None and every < 1:
        raise ConfigError(f"every: {every} is not a number of steps; give 1 or more")
    if capacity < 2:
        raise ConfigError(f"capacity: {capacity} rows are too few; give 2 or more")
    optimizers = all_of(optimizer)
    subjects = Subjects.of(model, optimizers)
    replaced = _replace_open(model)
    watcher = Watch(model, optimizers, subjects, every, capacity, activations)
    watcher.notes += replaced
    watcher.reader.private = any(is_private(each) for each in each_of(optimizer))
    _watched[model] = weakref.ref(watcher)
    return watcher


def _replace_open(model: nn.Module) -> list[str]:
    """End the watch of a model that is still open, and say so in both."""
    known = _watched.get(model)
    other = known() if known is not None else None
    if other is None or other.closed:
        return []
    other.notes.append(f"ended at step {other.steps}, when another watch of the model began")
    steps = other.steps
    other.close()
    return [f"an earlier watch of this model was still open, and ended when this one began ({steps} steps)"]


def _harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """An error in a hook of ours ends the watch, with a warning, and never the training."""

    @wraps(hook)
    def guarded(self: Watch, *arguments: Any, **named: Any) -> None:
        if self.broken or self.closed:
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
        steps: of the training, so far; see `gradscape.watch` on several optimizers.
        closed: whether the watch has been ended.
        broken: the error that ended it, or nothing.
        after_row: called when a step of the training, and with it a row that was read, is whole.
        at_end: called before the watch is closed.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        subjects: Subjects,
        every: int | None,
        capacity: int,
        activations: bool,
    ) -> None:
        self.model, self.optimizers, self.every = model, tuple(optimizers), every
        self.notes: list[str] = []
        self.steps, self.closed, self.broken = 0, False, ""
        self.after_row: list[Callable[[], None]] = []
        self.at_end: list[Callable[[], None]] = []
        self.reader = StepReader(model, self.notes)
        self.within_backward = self.unused = False
        self.step_under_way: Optimizer | None = None
        self.nested = 0  # steps within that one
        self.sampled = self.next_sampled = True
        self.row: int | None = None  # the number in the ring of the row under way
        self.stepped: set[int] = set()  # places whose step is in it
        self.ring = Ring(capacity, len(COLUMNS), subjects.shards.sizes)
        self.began = time.perf_counter()
        self.activations = Activations(capacity) if activations else None
        self.trace = Trace(unwrapped(model), self.on_layer)
        if activations and (reason := hidden(model)):
            self.notes.append(reason)
            self.activations = None
        if self.activations:
            self.trace.attach()
        self.handles: list[Any] = []
        self.met = weakref.WeakSet(self.optimizers)
        self.follow(subjects)
        listen(self)

    def follow(self, subjects: Subjects) -> None:
        """Watch these parameters from now on."""
        for handle in self.handles:
            handle.remove()
        self.subjects = subjects
        self.small = sum(p.numel() for p in subjects.parameters) <= SMALL
        self.reader.follow(subjects)
        # By optimizer: the identities of its parameters, and the places of those that are watched.
        self.members: weakref.WeakKeyDictionary[Optimizer, tuple[tuple[int, ...], list[int]]]
        self.members = weakref.WeakKeyDictionary()
        self.owners: dict[int, Optimizer] = {}
        for optimizer in self.optimizers:
            self.own(optimizer, self.places_of(optimizer))
        self.handles = [
            parameter.register_hook(self.on_gradient)  # type: ignore[no-untyped-call]
            for parameter in subjects.parameters
            if parameter.requires_grad
        ]

    def close(self) -> None:
        """End the watch; what was read stays."""
        if self.closed:
            return
        for act in self.at_end:
            act()
        leave(self)
        self.trace.detach()
        for handle in self.handles:
            handle.remove()
        self.steps += bool(self.stepped)
        self.state = self.notes_now()
        self.handles, self.row, self.closed = [], None, True
        self.reader.let_go()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The backward pass ----------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """Whether the coming step's row is read; where optimizers take turns it may be the next row's."""
        return self.sampled or (bool(self.stepped) and self.next_sampled)

    @_harmless
    def on_gradient(self, _: Tensor) -> None:
        """A gradient is about to arrive: the first of a backward pass asks to be told of the pass's end."""
        if self.within_backward:
            return
        self.within_backward = True
        within_step = self.step_under_way is not None  # a closure may drop gradients, as LBFGS's does
        if self.unused and self.sampled and not self.stepped and not within_step and self.dropped():
            self.ring.add(self.steps)
            if self.activations:
                self.activations.add()
        self.unused = True
        Variable._execution_engine.queue_callback(self.after_backward)

    def dropped(self) -> bool:
        """Whether no gradient is left that a pass would add to."""
        return all(parameter.grad is None for parameter in self.subjects.parameters)

    @_harmless
    def after_backward(self) -> None:
        """The gradients are whole, unless processes have yet to share theirs."""
        self.within_backward = False
        if self.activations:
            self.activations.end_pass()
        if self.stepped and not self.unused:  # steps were made within the pass
            self.join_passes()
            if self.complete():
                self.end_row()
                return
        if not self.reading or self.reader.at_step or self.reader.told:
            return
        if (
            self.reader.reduced
        ):  # DDP asks to be told of the pass's end after we did: asked again, we come after it
            Variable._execution_engine.queue_callback(self.read_reduced)
        else:
            self.reader.read()

    @_harmless
    def read_reduced(self) -> None:
        """After DDP's own work at the pass's end."""
        self.reader.read()

    @_harmless
    def take(self, scale: Tensor | None = None) -> None:
        """Read gradients now, and from now on only here: for loops that know when they are whole but not yet
        clipped, such as after a GradScaler's `unscale_`.

        Args:
            scale: what they are still multiplied by.
        """
        self.reader.told = True
        if self.reading:
            self.reader.read(scale)

    # The optimizer's step -------------------------------------------------------------------------------

    @_harmless
    def before_step(self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Begin the next row where the optimizer has stepped in this one, and read what the step uses."""
        if self.step_under_way is not None and self.step_under_way in tuple(running())[1:]:
            self.nested += 1  # Lookahead's, SAM's: the whole of it is one step
            return
        places = self.places_of(optimizer)
        if not places:
            return
        self.step_under_way, self.nested = optimizer, 0
        if not in_backward():
            self.within_backward = False  # also after a backward pass that an error broke off
        if not self.stepped.isdisjoint(places):
            self.end_row(self.next_sampled)
        if not self.sampled:
            return
        closure = any(callable(each) for each in (*arguments[1:], named.get("closure")))
        self.reader.begin(optimizer, places, closure, self.steps, len(self.ring.steps))

    @_harmless
    def after_step(self, optimizer: Optimizer) -> None:
        """Read what the step did to the weights, and put it into the row."""
        if optimizer is not self.step_under_way and not self.nested:
            return
        if self.nested:
            self.nested -= 1
            return
        self.step_under_way, self.unused = None, False
        places = self.places_of(optimizer)
        self.own(optimizer, places)
        if self.sampled and self.reader.weights:
            start = time.perf_counter()
            self.fill(places, getattr(optimizer, "found_inf", None))
            self.reader.spent += time.perf_counter() - start
        self.reader.fresh = False
        self.stepped.update(places)
        if not self.within_backward:
            self.join_passes()
            if self.complete():
                self.end_row()
            else:
                self.next_sampled = self.due(self.steps + 1)

    def fill(self, places: list[int], skipped: Tensor | None) -> None:
        """Put an optimizer's part into the row under way, a new one if there is none."""
        values = self.reader.end(places)
        if self.row is None:
            self.row = self.ring.add(self.steps)
            if self.activations:
                self.activations.add()
        self.ring.fill(self.row, places, values, skipped)
        self.reader.readings.use(places)

    def complete(self) -> bool:
        """Whether every parameter that an optimizer trains has had its step."""
        return len(self.stepped) == len(self.owners)

    def end_row(self, sampled: bool | None = None) -> None:
        """A step of the training is whole; the next is read or not."""
        if self.activations:
            self.look_over(self.activations)
            self.activations.end_row()
        self.stepped, self.row = set(), None
        self.steps += 1
        self.sampled = self.due() if sampled is None else sampled
        if self.activations and self.sampled:
            self.trace.attach()
        else:
            self.trace.detach()
        for act in self.after_row:
            act()

    def due(self, step: int | None = None) -> bool:
        """Whether to read a step, by default the next."""
        step = self.steps if step is None else step
        if self.every is not None:
            return step % self.every == 0
        if self.small or step < FIRST:
            return True
        return self.reader.spent <= BUDGET * (time.perf_counter() - self.began)

    # Whose parameters -----------------------------------------------------------------------------------

    def places_of(self, optimizer: Optimizer) -> list[int]:
        """Places of the watched parameters that an optimizer trains, also of one that is new."""
        known = self.members.get(optimizer)
        if known is not None and not self.sampled:
            return known[1]
        theirs = tuple(id(p) for group in optimizer.param_groups for p in group["params"])
        thawed = any(parameter.requires_grad for parameter in self.subjects.frozen)
        if known is not None and known[0] == theirs and not thawed:
            return known[1]
        if thawed or known is not None or optimizer not in self.optimizers:
            self.look_again(optimizer, theirs)
        known = self.members[optimizer] = theirs, self.placed(theirs)
        return known[1]

    def placed(self, identities: Iterable[int]) -> list[int]:
        wanted = set(identities)
        return [place for place, p in enumerate(self.subjects.parameters) if id(p) in wanted]

    def look_again(self, optimizer: Optimizer, theirs: tuple[int, ...]) -> None:
        """An optimizer is new, trains other parameters than before, or some that were frozen are no more."""
        trains = {id(parameter) for parameter in self.model.parameters()} & set(theirs)
        if not trains:
            return
        if optimizer not in self.optimizers:
            if optimizer not in self.met:
                name = f"{type(optimizer).__name__}, which gs.watch was not given,"
                self.notes.append(f"{name} trains {len(trains)} tensors of the model since step {self.steps}")
            self.optimizers = (*self.optimizers, optimizer)
        self.met.add(optimizer)
        old = self.subjects
        subjects = Subjects.of(self.model, self.optimizers, {id(p) for p in old.parameters})
        if [id(p) for p in subjects.parameters] != [id(p) for p in old.parameters]:
            self.change_to(subjects)

    def change_to(self, subjects: Subjects) -> None:
        """Watch other parameters; the rows of those that stay, or have the name of one that was, stay."""
        old, readings = self.subjects, self.reader.readings
        by_id = {id(p): place for place, p in enumerate(old.parameters)}
        by_name = {(n, p.shape): i for i, (n, p) in enumerate(zip(old.names, old.parameters, strict=True))}
        where = [
            by_id.get(id(p), by_name.get((name, p.shape)))
            for name, p in zip(subjects.names, subjects.parameters, strict=True)
        ]
        new = [place for place, p in enumerate(subjects.parameters) if id(p) not in by_id]
        self.notes.append(f"watched since step {self.steps} only: {listed([subjects.names[i] for i in new])}")
        self.ring = self.ring.widened(where, subjects.shards.sizes)
        self.stepped = {now for now, before in enumerate(where) if before in self.stepped}
        self.follow(subjects)
        self.reader.readings.adopt(readings, where)
        self.reader.readings.read(new)

    def own(self, optimizer: Optimizer, places: list[int]) -> None:
        """It is who trains them now; one that trains nothing any more is let go, with its memory."""
        if all(self.owners.get(place) is optimizer for place in places):
            return
        self.owners |= dict.fromkeys(places, optimizer)
        owners = set(map(id, self.owners.values()))
        self.optimizers = tuple(each for each in self.optimizers if id(each) in owners)

    # Activations ----------------------------------------------------------------------------------------

    def on_layer(self, call: Running, output: Any) -> None:
        """A layer has run. An error ends the reading of activations; gradients are still watched."""
        if self.activations is None or self.broken:
            return
        start = time.perf_counter()
        stack = self.trace.stack
        try:
            # The model's own call, or the outermost; below it there may be what an error left.
            roots = (each for each in reversed(stack) if each.module is self.trace.model)
            root = next(roots, stack[0] if stack else call)
            self.activations.read(call, output, torch.is_grad_enabled(), root)
        except Exception as error:
            self.activations = None
            self.tell(f"activations are not read, since step {self.steps}: {call.name}: {first_line(error)}")
        self.reader.spent += time.perf_counter() - start

    def join_passes(self) -> None:
        if self.activations:
            self.activations.join(row=self.row is not None)

    def look_over(self, activations: Activations) -> None:
        """Note, once, which layers' outputs do not show."""
        if self.row is None or not self.reader.readings.marks:
            return
        names = [self.subjects.names[place] for place in self.reader.readings.marks]
        for note in activations.oddities(names):
            if note not in self.notes:
                self.notes.append(note)

    # What was seen --------------------------------------------------------------------------------------

    def tell(self, note: str) -> None:
        """Note it, and warn of it; a warning that was made an error is none of the training's."""
        self.notes.append(note)
        with suppress(Warning):
            warnings.warn(f"gradscape: {note}", stacklevel=3)

    def notes_now(self) -> list[str]:
        """What is odd about the model and its optimizers as they are."""
        found = named(self.model)
        trained = {key for optimizer in self.optimizers for key in parameters_of(optimizer)}
        watched = {id(parameter) for parameter in self.subjects.parameters}
        return [*not_watched(found, trained, watched), *foreign(self.model, found, trained)]

    def history(self, since: int = 0) -> FlowHistory:
        """What was read, oldest row first; waits for the device.

        Args:
            since: leave out so many of all rows ever read, such as those written already.
        """
        steps, skipped, rows = self.ring.read(since)
        owned = [
            [place for place, owner in self.owners.items() if owner is optimizer]
            for optimizer in self.optimizers
        ]
        sizes = tuple(int(size) for size in self.subjects.shards.sizes.tolist())
        tables = {name: rows[:, column] for column, name in enumerate(COLUMNS)}
        return FlowHistory(
            layers=self.subjects.names,
            kinds=self.subjects.kinds,
            sizes=sizes,
            steps=steps,
            skipped=skipped,
            **tables,
            last_mean_abs=tables["mean_abs"],
            relative=over(tables["rms"] * np.sqrt(sizes), tables["weight"]),
            relative_update=over(tables["update"], tables["weight"]),
            optimizers=tuple(facts(o, sorted(m)) for o, m in zip(self.optimizers, owned, strict=True)),
            seen=self.reader.seen,
            notes=(*(self.state if self.closed else self.notes_now()), *self.notes),
            activations=self.activations.history(steps.tolist()) if self.activations else None,
            row="step",
            shapes=tuple(tuple(parameter.shape) for parameter in self.subjects.parameters),
            modules=self.subjects.modules,
        )
