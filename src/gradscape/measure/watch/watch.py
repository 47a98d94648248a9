"""Watch a training: every layer's gradient and update, at every step or as often as the cost is negligible.

Tensor hooks on the parameters signal the begin of a backward pass, autograd's callback its end, and torch's
hooks on all optimizers every step. Readings stay on the device in a ring buffer until `Watch.history`. The
model, its gradients and the optimizers are never changed.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.optim import Optimizer

from gradscape._text import count_noun
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
from gradscape.records.display import Displayable, html_summary
from gradscape.records.gradients import FlowHistory, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 1_000_000  # parameters up to which a model is read at every step
BUDGET = 0.015  # fraction of the time for reading a larger model,
FIRST = 10  # after as many first steps, all of which are read, so that no verdict rests on one
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

    A row is a step of the training. Gradients are read at the end of a backward pass, reduced under DDP,
    before clipping. If `.grad` differs when the optimizer's step begins (set by hand, changed in place other
    than by clipping, or removed), the row contains the gradients that the step used. The same holds in other
    distributed training and under a GradScaler: unscaled, after any clipping. `FlowHistory.seen` says which.
    With accumulation, a row contains the sum that the step used. A step that a GradScaler skipped, or whose
    gradients were discarded, is marked as skipped.

    With several optimizers, each step joins the current row, unless its parameters have had a step in it
    already: then it begins the next row. A generator and a discriminator that take turns share a row; five
    steps of a critic and one of a generator make four rows of the critic alone and one of both; optimizers
    that step within the backward pass, one for each parameter, make one row. An optimizer that is added
    later, and parameters that are unfrozen or added later, are watched from their first step on, with a note.

    A watch of the same model that is still open ends: in a notebook, a cell may run again.

    Args:
        model: Module with parameters; possibly compiled, checkpointed or wrapped in DDP or FSDP2.
        optimizer: One or several optimizers of the model, possibly in a wrapper of Accelerate, Fabric or
            Opacus.
        every: Number of steps from one reading to the next. By default, every step of a model of at most a
            million parameters is read; of a larger one the first ten, then as many as take 1.5 % of the time.
        capacity: Number of rows in memory, the last ones; a row has eight numbers for each parameter tensor.
        activations: Whether to read every layer's output too, at the same steps: second moment, correlation
            of samples, dead and saturated units, values that are not finite. Of one module's calls in a pass,
            the first eight are read, and the 16th, 32nd, …. Outputs of compiled or scripted models are not
            read, with a note.

    Raises:
        ConfigError: If the model has no parameters, or the optimizer trains none of them or is none.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> loss(model(x), y).backward()  # the training goes on as it was
        >>> optimizer.step()
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
    """End an open watch of the model, with a note in both."""
    known = _watched.get(model)
    other = known() if known is not None else None
    if other is None or other.closed:
        return []
    other.notes.append(f"ended at step {other.steps}, when another watch of the model began")
    steps = other.steps
    other.close()
    return [f"an earlier watch of this model was still open, and ended when this one began ({steps} steps)"]


def _harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Decorate a hook so that an error ends the watch with a warning, never the training."""

    @wraps(hook)
    def guarded(self: Watch, *arguments: Any, **named: Any) -> None:
        if self.broken or self.closed:
            return
        try:
            hook(self, *arguments, **named)
        except Exception as error:  # any type: a watch must not stop a training
            self.broken = first_line(error)
            self._tell(f"the watch ended at step {self.steps}: {self.broken}")

    return guarded


class Watch(Displayable):
    """Running watch; `gradscape.watch` makes it, a `with` statement or `close` ends it.

    Attributes:
        subjects: Watched parameters.
        notes: Remarks, as sentences.
        steps: Number of steps of the training so far; see `gradscape.watch` for several optimizers.
        closed: Whether the watch has ended.
        broken: Error that ended it, or an empty string.
        after_row: Callbacks after each complete step of the training.
        at_end: Callbacks before the watch is closed.
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
        self.nested = 0  # number of steps within that one
        self.sampled = self.next_sampled = True
        self.row: int | None = None  # number of the current row in the ring
        self.stepped: set[int] = set()  # indices of parameters with a step in it
        self.ring = Ring(capacity, len(COLUMNS), subjects.shards.sizes)
        self.began = time.perf_counter()
        self.activations = Activations(capacity) if activations else None
        self.trace = Trace(unwrapped(model), self._on_layer)
        if activations and (reason := hidden(model)):
            self.notes.append(reason)
            self.activations = None
        if self.activations:
            self.trace.attach()
        self.handles: list[Any] = []
        self.met = weakref.WeakSet(self.optimizers)
        self._follow(subjects)
        listen(self)

    def _follow(self, subjects: Subjects) -> None:
        """Watch other parameters from now on."""
        for handle in self.handles:
            handle.remove()
        self.subjects = subjects
        self.small = sum(p.numel() for p in subjects.parameters) <= SMALL
        self.reader.follow(subjects)
        # By optimizer: ids of its parameters, and indices of the watched ones.
        self.members: weakref.WeakKeyDictionary[Optimizer, tuple[tuple[int, ...], list[int]]]
        self.members = weakref.WeakKeyDictionary()
        self.owners: dict[int, Optimizer] = {}
        for optimizer in self.optimizers:
            self._own(optimizer, self._places_of(optimizer))
        self.handles = [
            parameter.register_hook(self._on_gradient)  # type: ignore[no-untyped-call]
            for parameter in subjects.parameters
            if parameter.requires_grad
        ]

    def close(self) -> None:
        """End the watch; its readings remain."""
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
        """True if the next step's row is read, which may be the next row if optimizers take turns."""
        return self.sampled or (bool(self.stepped) and self.next_sampled)

    @_harmless
    def _on_gradient(self, _: Tensor) -> None:
        """React to a new gradient: the first one of a backward pass registers a callback for its end."""
        if self.within_backward:
            return
        self.within_backward = True
        within_step = self.step_under_way is not None  # a closure may drop gradients, as LBFGS's does
        if self.unused and self.sampled and not self.stepped and not within_step and self._dropped():
            self.ring.add(self.steps)
            if self.activations:
                self.activations.add()
        self.unused = True
        Variable._execution_engine.queue_callback(self._after_backward)

    def _dropped(self) -> bool:
        """Return True if all gradients were discarded."""
        return all(parameter.grad is None for parameter in self.subjects.parameters)

    @_harmless
    def _after_backward(self) -> None:
        """Read the gradients at the end of a backward pass, unless processes have not reduced them yet."""
        self.within_backward = False
        if self.activations:
            self.activations.end_pass()
        if self.stepped and not self.unused:  # steps were made within the pass
            self._join_passes()
            if self._complete():
                self._end_row()
                return
        if not self.reading or self.reader.at_step or self.reader.told:
            return
        if self.reader.reduced:  # DDP registered its callback after ours: a second one of ours runs after it
            Variable._execution_engine.queue_callback(self._read_reduced)
        else:
            self.reader.read()

    @_harmless
    def _read_reduced(self) -> None:
        """Read gradients after DDP has reduced them."""
        self.reader.read()

    @_harmless
    def take(self, scale: Tensor | None = None) -> None:
        """Read gradients now, and from now on only by this method.

        This suits loops that know when gradients are complete but not yet clipped, such as after a
        GradScaler's `unscale_`.

        Args:
            scale: Loss scale that the gradients still have.
        """
        self.reader.told = True
        if self.reading:
            self.reader.read(scale)

    # The optimizer's step -------------------------------------------------------------------------------

    @_harmless
    def before_step(self, optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Begin the next row if the optimizer has stepped in this one, and read the step's gradients.

        Args:
            optimizer, arguments, named: See `Listener.before_step`.
        """
        if self.step_under_way is not None and self.step_under_way in tuple(running())[1:]:
            self.nested += 1  # Lookahead, SAM: the outer step counts
            return
        places = self._places_of(optimizer)
        if not places:
            return
        self.step_under_way, self.nested = optimizer, 0
        if not in_backward():
            self.within_backward = False  # also after a backward pass that ended in an error
        if not self.stepped.isdisjoint(places):
            self._end_row(self.next_sampled)
        if not self.sampled:
            return
        closure = any(callable(each) for each in (*arguments[1:], named.get("closure")))
        self.reader.begin(optimizer, places, closure, self.steps, len(self.ring.steps))

    @_harmless
    def after_step(self, optimizer: Optimizer) -> None:
        """Read the update of the weights into the row.

        Args:
            optimizer: See `Listener.after_step`.
        """
        if optimizer is not self.step_under_way and not self.nested:
            return
        if self.nested:
            self.nested -= 1
            return
        self.step_under_way, self.unused = None, False
        places = self._places_of(optimizer)
        self._own(optimizer, places)
        if self.sampled and self.reader.weights:
            start = time.perf_counter()
            self._fill(places, getattr(optimizer, "found_inf", None))
            self.reader.spent += time.perf_counter() - start
        self.reader.fresh = False
        self.stepped.update(places)
        if not self.within_backward:
            self._join_passes()
            if self._complete():
                self._end_row()
            else:
                self.next_sampled = self._due(self.steps + 1)

    def _fill(self, places: list[int], skipped: Tensor | None) -> None:
        """Write an optimizer's part into the current row, or into a new one."""
        values = self.reader.end(places)
        if self.row is None:
            self.row = self.ring.add(self.steps)
            if self.activations:
                self.activations.add()
        self.ring.fill(self.row, places, values, skipped)
        self.reader.readings.use(places)

    def _complete(self) -> bool:
        """Return True if every parameter with an optimizer has had its step."""
        return len(self.stepped) == len(self.owners)

    def _end_row(self, sampled: bool | None = None) -> None:
        """End a step of the training and decide whether to read the next."""
        if self.activations:
            self._look_over(self.activations)
            self.activations.end_row()
        self.stepped, self.row = set(), None
        self.steps += 1
        self.sampled = self._due() if sampled is None else sampled
        if self.activations and self.sampled:
            self.trace.attach()
        else:
            self.trace.detach()
        for act in self.after_row:
            act()

    def _due(self, step: int | None = None) -> bool:
        """Return True if a step is to be read, by default the next."""
        step = self.steps if step is None else step
        if self.every is not None:
            return step % self.every == 0
        if self.small or step < FIRST:
            return True
        return self.reader.spent <= BUDGET * (time.perf_counter() - self.began)

    # Whose parameters -----------------------------------------------------------------------------------

    def _places_of(self, optimizer: Optimizer) -> list[int]:
        """Return the indices of the watched parameters that an optimizer trains, even of a new one."""
        known = self.members.get(optimizer)
        if known is not None and not self.sampled:
            return known[1]
        theirs = tuple(id(p) for group in optimizer.param_groups for p in group["params"])
        thawed = any(parameter.requires_grad for parameter in self.subjects.frozen)
        if known is not None and known[0] == theirs and not thawed:
            return known[1]
        if thawed or known is not None or optimizer not in self.optimizers:
            self._look_again(optimizer, theirs)
        known = self.members[optimizer] = theirs, self._placed(theirs)
        return known[1]

    def _placed(self, identities: Iterable[int]) -> list[int]:
        wanted = set(identities)
        return [place for place, p in enumerate(self.subjects.parameters) if id(p) in wanted]

    def _look_again(self, optimizer: Optimizer, theirs: tuple[int, ...]) -> None:
        """Update the watched parameters for a new optimizer, new parameters or unfrozen ones."""
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
            self._change_to(subjects)

    def _change_to(self, subjects: Subjects) -> None:
        """Watch other parameters; rows of parameters with the same identity or name remain."""
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
        self._follow(subjects)
        self.reader.readings.adopt(readings, where)
        self.reader.readings.read(new)

    def _own(self, optimizer: Optimizer, places: list[int]) -> None:
        """Record an optimizer as the owner of parameters, and release optimizers that own none."""
        if all(self.owners.get(place) is optimizer for place in places):
            return
        self.owners |= dict.fromkeys(places, optimizer)
        owners = set(map(id, self.owners.values()))
        self.optimizers = tuple(each for each in self.optimizers if id(each) in owners)

    # Activations ----------------------------------------------------------------------------------------

    def _on_layer(self, call: Running, output: Any) -> None:
        """Read a layer's output; an error ends the reading of activations, but not of gradients."""
        if self.activations is None or self.broken:
            return
        start = time.perf_counter()
        stack = self.trace.stack
        try:
            # The model's own call, or the outermost; an error may have left others below it.
            roots = (each for each in reversed(stack) if each.module is self.trace.model)
            root = next(roots, stack[0] if stack else call)
            self.activations.read(call, output, torch.is_grad_enabled(), root)
        except Exception as error:
            self.activations = None
            self._tell(f"activations are not read, since step {self.steps}: {call.name}: {first_line(error)}")
        self.reader.spent += time.perf_counter() - start

    def _join_passes(self) -> None:
        if self.activations:
            self.activations.join(row=self.row is not None)

    def _look_over(self, activations: Activations) -> None:
        """Add notes on layers without readings, once each."""
        if self.row is None or not self.reader.readings.marks:
            return
        names = [self.subjects.names[place] for place in self.reader.readings.marks]
        for note in activations.oddities(names):
            if note not in self.notes:
                self.notes.append(note)

    # What was seen --------------------------------------------------------------------------------------

    def _tell(self, note: str) -> None:
        """Add a note and warn; a warning filter that raises must not stop the training."""
        self.notes.append(note)
        with suppress(Warning):
            warnings.warn(f"gradscape: {note}", stacklevel=3)

    def notes_now(self) -> list[str]:
        """Return notes on the current model and optimizers."""
        found = named(self.model)
        trained = {key for optimizer in self.optimizers for key in parameters_of(optimizer)}
        watched = {id(parameter) for parameter in self.subjects.parameters}
        return [*not_watched(found, trained, watched), *foreign(self.model, found, trained)]

    def history(self, since: int = 0) -> FlowHistory:
        """Return the readings, oldest row first; waits for the device.

        Args:
            since: Number of rows to leave out, of all ever read, such as those already written.
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

    def plot(self, ax: Axes | None = None, statistic: str = "mean_abs") -> Axes:
        """Draw layer × step as a map; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
            statistic: See `FlowHistory.plot`.
        """
        return self.history().plot(ax, statistic)

    def to_dict(self) -> dict[str, Any]:
        """Return the history as plain lists, numbers and texts."""
        return self.history().to_dict()

    def __repr__(self) -> str:
        end = ", ended" if self.closed else ""
        return f"<Watch: {count_noun(len(self.subjects.names), 'parameter tensor')}, step {self.steps}{end}>"

    def __str__(self) -> str:
        return str(self.history())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the diagnosis so far, and the map of gradients."""
        import gradscape  # diagnoses stand on watches: see `Displayable.save_html`

        history = self.history()
        verdict = history.lack or str(gradscape.diagnose(history))
        return html_summary(history, f"{verdict}\n{history}")
