"""Record the gradients and updates of a training into rows: torch's hooks, and what each of them does.

Tensor hooks on the parameters signal the begin of a backward pass, autograd's callback its end, and torch's
hooks on all optimizers every step. Readings stay on the device in a ring buffer. The model, its gradients and
the optimizers are never changed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.optim import Optimizer

from gradscape.errors import TrainingStopped, first_line
from gradscape.measure.core.gradient_statistics import STATISTICS
from gradscape.measure.core.parameters import WatchedParameters, learning_rates
from gradscape.measure.watch.activations import in_backward
from gradscape.measure.watch.backward import leave_backward, listen_to_backward
from gradscape.measure.watch.base_weights import BaseWeights
from gradscape.measure.watch.batch_recorder import BatchRecorder, refusal_of_ids
from gradscape.measure.watch.clearing import Clearing
from gradscape.measure.watch.distribution_reader import DistributionReader
from gradscape.measure.watch.equal_units import EqualUnits
from gradscape.measure.watch.loss_recorder import LossRecorder
from gradscape.measure.watch.members import Members
from gradscape.measure.watch.output_recorder import OutputRecorder
from gradscape.measure.watch.pending_terms import refusal
from gradscape.measure.watch.ranks.watch_ranks import RankWatch
from gradscape.measure.watch.ring_buffer import Ring
from gradscape.measure.watch.schedule import Schedule
from gradscape.measure.watch.setting_rows import SettingRows
from gradscape.measure.watch.spike_keeper import SpikeKeeper
from gradscape.measure.watch.step_reading import StepReader, is_capturing
from gradscape.measure.watch.steps import leave_steps, listen_to_steps, running
from gradscape.measure.watch.transformer.reader import TransformerReader
from gradscape.measure.watch.untied import Untied
from gradscape.records.gradients import Clearings, FlowHistory, over
from gradscape.records.spike_rows import FlowRows

COLUMNS = (*STATISTICS, "weight", "update")
LEFT_OUT = "what flow.loss was given is left out"
NO_IDS = "what flow.batch was given is left out"


def _harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Decorate a hook so that an error ends the watch with a warning, never the training.

    One error passes: that by which `stop_on` ends the training, as its user wants.
    """

    @wraps(hook)
    def guarded(self: Recorder, *arguments: Any, **named: Any) -> None:
        if self.error or self.closed:
            return
        try:
            hook(self, *arguments, **named)
        except TrainingStopped:
            self.step_under_way, self.nested = None, 0
            raise
        except Exception as error:  # any type: a watch must not stop a training
            self.error = first_line(error)
            self.outputs.close()
            self.loss.close()
            self.transformer.close()
            self.batches.close()
            self.distributions.close()
            self._warn(f"the watch ended at step {self.steps}: {self.error}")

    return guarded


class Recorder:
    """Machinery of a watch: its hooks, and the rows that they fill.

    Args:
        model: Watched model.
        optimizers: Optimizers of the model, without wrappers.
        every: Number of steps from one reading to the next; None to read by the cost.
        capacity: Number of rows in memory.
        activations: Whether to read every layer's output too.
        distributions: Whether to read distributions at some of the steps.
        criterion: Module of the loss; None if none is given.

    Attributes:
        notes: Remarks, as sentences.
        steps: Number of steps of the training so far; see `gradscape.watch` for several optimizers.
        closed: Whether the watch has ended.
        error: Error that ended it, or an empty string.
        passes: Number of backward passes that reached the parameters.
        ranks: Comparison of ranks; None unless requested.
        on_step: Callbacks after each complete step of the training.
        on_close: Callbacks before the watch is closed.
        row: Number of the current row, among all rows ever; None between rows.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        every: int | None,
        capacity: int,
        activations: bool,
        distributions: bool = False,
        criterion: nn.Module | None = None,
    ) -> None:
        watched = WatchedParameters.of(model, optimizers)
        self.model = model
        self.notes: list[str] = []
        self.steps, self.closed, self.error = 0, False, ""
        self.passes = 0
        self.ranks: RankWatch | None = None
        self.on_step: list[Callable[[], None]] = []
        self.on_close: list[Callable[[], None]] = []
        self.schedule = Schedule(every)
        self.reader = StepReader(model, self.notes)
        self.within_backward = self.unused = False
        self.step_under_way: Optimizer | None = None
        self.nested = 0  # number of steps within that one
        self.sampled = self.next_sampled = True
        self.row: int | None = None
        self.stepped: set[int] = set()  # indices of parameters with a step in the row
        self.ring = Ring(capacity, len(COLUMNS), watched.shards.sizes)
        self.distributions = DistributionReader(every, self.notes, self._on_distribution_error)
        if not distributions:
            self.distributions.close()
        self.outputs = OutputRecorder(
            model,
            capacity if activations else 0,
            self.notes,
            self._on_output_error,
            self.distributions.sketch_output,
        )
        if isinstance(criterion, torch.jit.ScriptModule):
            self.notes.append("the loss given is scripted, which takes no hooks: its graph alone is read")
            criterion = None
        self.loss = LossRecorder(model, criterion, self._on_loss_error)
        self.transformer = TransformerReader(model, every, self.notes, self._on_transformer_error)
        self.batches = BatchRecorder(model, self._on_batch_error)
        self.spikes = SpikeKeeper(capacity, self.loss.values, self.batches, self._flow_rows)
        self.clearing = Clearing()
        self.settings = SettingRows(capacity)
        self.untied = Untied(model)
        self.equal_units = EqualUnits(watched)
        self.base_weights = BaseWeights(model)
        self.handles: list[Any] = []
        self.members = Members(model, optimizers, watched, self.notes, self._change)
        self._follow()
        self.distributions.begin_step(0, sampled=True)
        listen_to_steps(self)
        listen_to_backward(self)

    def _follow(self) -> None:
        """Read the parameters that are watched now."""
        for handle in self.handles:
            handle.remove()
        watched = self.members.watched
        self.schedule.follow(watched.parameters, watched.shards)
        self.distributions.follow(watched)
        self.reader.follow(watched)
        self.handles = [
            parameter.register_hook(self._on_gradient)  # type: ignore[no-untyped-call]
            for parameter in watched.parameters
            if parameter.requires_grad
        ]

    def _change(self, old: WatchedParameters, where: list[int | None], unread: list[int]) -> None:
        """Move the rows to other parameters; see `members.OnChange`."""
        readings, watched = self.reader.readings, self.members.watched
        self.ring = self.ring.widened(where, watched.shards.sizes)
        self.settings.widen(where)
        self.clearing.forget()
        self.stepped = {now for now, before in enumerate(where) if before in self.stepped}
        self._follow()
        self.reader.readings.adopt(readings, where)
        self.reader.readings.read(unread)

    def close(self) -> None:
        """End the watch; its readings remain."""
        if self.closed:
            return
        for act in self.on_close:
            act()
        leave_steps(self)
        leave_backward(self)
        self.outputs.close()
        self.loss.close()
        self.transformer.close()
        self.batches.close()
        self.distributions.close()
        for handle in self.handles:
            handle.remove()
        self.steps += bool(self.stepped)
        self.remarks, self.left = self.members.remarks(), self.members.untrained()
        self.parted, self.adapters = self.untied.parted(), self.base_weights.facts()
        self.handles, self.row, self.closed = [], None, True
        self.reader.let_go()

    # The backward pass ----------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """True if the next step's row is read, which may be the next row if optimizers take turns."""
        return self.sampled or (bool(self.stepped) and self.next_sampled)

    @_harmless
    def before_backward(self, roots: Sequence[Tensor], scaled: bool) -> None:
        """Read the loss that a backward pass begins with.

        Args:
            roots, scaled: See `backward.Listener.before_backward`.
        """
        self.outputs.settle()
        self.loss.before_backward(roots, scaled, self.steps)
        if self.reading:
            self.transformer.before_backward(roots, self.steps)
        if self.sampled and not self.clearing.done:
            self.clearing.before_pass(self.members.watched.parameters)

    @_harmless
    def _on_gradient(self, _: Tensor) -> None:
        """React to a new gradient: the first one of a backward pass registers a callback for its end."""
        if self.within_backward:
            return
        self.within_backward = True
        self.passes += 1
        within_step = self.step_under_way is not None  # a closure may drop gradients, as LBFGS's does
        if self.unused and not self.stepped and not within_step and self._dropped():
            self.loss.values.drop_passes()
            if self.sampled:
                self.ring.add(self.steps)
                self.outputs.add_row()
                self.outputs.take_sketches()
        self.loss.confirm()
        self.transformer.confirm()
        self.unused = True
        Variable._execution_engine.queue_callback(self._after_backward)

    def _dropped(self) -> bool:
        """Return True if all gradients were discarded."""
        return all(parameter.grad is None for parameter in self.members.watched.parameters)

    @_harmless
    def _after_backward(self) -> None:
        """Read the gradients at the end of a backward pass, unless processes have not reduced them yet."""
        self.within_backward = False
        self.outputs.end_pass()
        self.transformer.end_pass()
        if self.sampled and not self.clearing.done:
            self.clearing.after_pass(self.members.watched.parameters)
        if self.stepped and not self.unused:  # steps were made within the pass
            self.outputs.join_passes(row=self.row is not None)
            if self._complete():
                self._end_row()
                return
        if not self.reading or self.reader.moment in ("step", "call"):
            return
        if self.reader.moment == "reduced":
            # DDP registered its callback after ours: a second one of ours runs after it.
            Variable._execution_engine.queue_callback(self._read_reduced)
        else:
            self.reader.read()

    @_harmless
    def _read_reduced(self) -> None:
        """Read gradients after DDP has reduced them."""
        self.reader.read()

    @_harmless
    def read(self, scale: Tensor | None = None) -> None:
        """Read gradients now: see `Watch.read_gradients`.

        Args:
            scale: Loss scale that the gradients still have.
        """
        self.reader.moment = "call"
        if self.reading:
            self.reader.read(scale)

    def tell(self, value: Tensor, output: Tensor | None, target: Tensor | None, name: str) -> None:
        """Take a loss that the training loop tells: see `Watch.loss`.

        Args:
            value, output, target, name: As of `Watch.loss`.
        """
        if not (reason := refusal(value, output, target, name)):
            self.loss.tell(value, output, target, name)
        elif not any(note.startswith(LEFT_OUT) for note in self.notes):
            self._warn(f"{LEFT_OUT}, at step {self.steps} first: {reason}")

    def tell_ids(self, ids: Any) -> None:
        """Take ids that the training loop tells: see `Watch.batch`.

        Args:
            ids: As of `Watch.batch`.
        """
        if not (reason := refusal_of_ids(ids)):
            self.batches.tell(ids)
        elif not any(note.startswith(NO_IDS) for note in self.notes):
            self._warn(f"{NO_IDS}, at step {self.steps} first: {reason}")

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
        self.loss.meet(optimizer)
        places = self._indices_of(optimizer)
        if not places:
            return
        self.step_under_way, self.nested = optimizer, 0
        self.outputs.settle()
        if not in_backward():
            self.within_backward = False  # also after a backward pass that ended in an error
        if not self.stepped.isdisjoint(places):
            self._end_row(self.next_sampled)
        if not self.sampled:
            return
        if not self.clearing.done:
            self.clearing.before_step(places)
        closure = any(callable(each) for each in (*arguments[1:], named.get("closure")))
        self.reader.begin(optimizer, places, closure, self.steps, self.ring.count)
        self.distributions.read_weights(places)
        if not closure:
            self.distributions.read_gradients(optimizer, places)

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
        places = self._indices_of(optimizer)
        self.members.own(optimizer, places)
        if self.sampled and self.reader.weights:
            start = time.perf_counter()
            self._fill(optimizer, places)
            self.reader.spent += time.perf_counter() - start
        self.reader.fresh = False
        self.stepped.update(places)
        if not self.within_backward:
            self.outputs.join_passes(row=self.row is not None)
            if self._complete():
                self._end_row()
            else:
                self.next_sampled = self._is_due(self.steps + 1)

    def _fill(self, optimizer: Optimizer, places: list[int]) -> None:
        """Write an optimizer's part into the current row, or into a new one."""
        values, skipped = self.reader.end(places), getattr(optimizer, "found_inf", None)
        if self.reader.closure:  # it has computed the gradients just now
            self.distributions.read_gradients(optimizer, places)
        if self.row is None:
            self.row = self.ring.add(self.steps)
            self.outputs.add_row()
        self.ring.fill(self.row, places, values, skipped)
        watched = self.members.watched.parameters
        rates = learning_rates(optimizer, [watched[place] for place in places])
        self.settings.fill(self.row, places, rates, self.reader.clip)
        if not self.clearing.done:
            self.clearing.after_step(watched, places)
        self.reader.readings.use(places)

    def _complete(self) -> bool:
        """Return True if every parameter with an optimizer has had its step."""
        return len(self.stepped) == len(self.members.owners)

    def _end_row(self, sampled: bool | None = None) -> None:
        """End a step of the training and decide whether to read the next."""
        marks = self.reader.readings.marks if self.row is not None else ()
        self.outputs.end_row(self.members.watched.names, marks)
        self.distributions.end_step(self.steps, self.outputs.take_sketches())
        self.stepped, self.row = set(), None
        self.loss.end_step(self.steps)
        self.transformer.end_step(self.steps)
        self.batches.end_step(self.steps)
        if not is_capturing():
            self.spikes.end_step(self.steps)
        self.steps += 1
        self.sampled = self._is_due(self.steps) if sampled is None else sampled
        self.distributions.begin_step(self.steps, self.sampled)
        self.outputs.follow(self.sampled)
        for act in self.on_step:
            act()

    def _is_due(self, step: int) -> bool:
        spent = self.reader.spent + self.outputs.spent - self.distributions.within
        return self.schedule.is_due(step, spent)

    def _indices_of(self, optimizer: Optimizer) -> list[int]:
        return self.members.indices_of(optimizer, self.steps, remembered=not self.sampled)

    # What was seen --------------------------------------------------------------------------------------

    def _warn(self, note: str) -> None:
        """Add a note and warn; a warning filter that raises must not stop the training."""
        self.notes.append(note)
        with suppress(Warning):
            warnings.warn(f"gradscape: {note}", stacklevel=3)

    def _on_loss_error(self, error: str) -> None:
        """Warn that nothing of the loss is read any more."""
        self._warn(f"the loss is not read, since step {self.steps}: {error}")

    def _on_transformer_error(self, error: str) -> None:
        """Warn that attention is not read any more."""
        self._warn(f"attention is not read, since step {self.steps}: {error}")

    def _on_batch_error(self, error: str) -> None:
        """Warn that batches are not read any more."""
        self._warn(f"batches are not read, since step {self.steps}: {error}")

    def _on_distribution_error(self, error: str) -> None:
        """Warn that distributions are not read any more."""
        self._warn(f"distributions are not read, since step {self.steps}: {error}")

    def _on_output_error(self, error: str) -> None:
        """Warn that outputs are not read any more."""
        self._warn(f"activations are not read, since step {self.steps}: {error}")

    def _flow_rows(self) -> FlowRows:
        """Return norms of gradients and updates in the rows in memory."""
        steps, _, rows = self.ring.read()
        sizes = self.members.watched.shards.sizes.cpu().numpy()
        gradients = rows[:, COLUMNS.index("rms")] * np.sqrt(sizes)
        return FlowRows(steps, self.members.watched.names, gradients, rows[:, COLUMNS.index("update")])

    def history(self, since: int = 0) -> FlowHistory:
        """Return the history: see `Watch.history`.

        Args:
            since: Number of rows to leave out, of all ever read.
        """
        steps, skipped, rows = self.ring.read(since)
        watched = self.members.watched
        sizes = tuple(int(size) for size in watched.shards.sizes.tolist())
        tables = {name: rows[:, column] for column, name in enumerate(COLUMNS)}
        return FlowHistory(
            layers=watched.names,
            kinds=watched.kinds,
            sizes=sizes,
            steps=steps,
            skipped=skipped,
            **tables,
            last_mean_abs=tables["mean_abs"],
            relative=over(tables["rms"] * np.sqrt(sizes), tables["weight"]),
            relative_update=over(tables["update"], tables["weight"]),
            optimizers=self.members.facts(),
            seen=self.reader.seen,
            notes=(
                *(self.remarks if self.closed else self.members.remarks()),
                *self.notes,
                *(self.ranks.notes if self.ranks is not None else ()),
            ),
            activations=self.outputs.history(steps.tolist()),
            row="step",
            shapes=tuple(tuple(parameter.shape) for parameter in watched.parameters),
            modules=watched.modules,
            transformer=self.transformer.history(),
            adapters=self.adapters if self.closed else self.base_weights.facts(),
            loss=replace(self.loss.history(), spikes=self.spikes.read(), small=tuple(self.batches.few)),
            rates=self.settings.rates(len(steps), self.ring.count, len(sizes)),
            clipped=self.settings.clipped(len(steps), self.ring.count),
            clearings=Clearings(self.clearing.kept, self.clearing.steps),
            dtypes=tuple(str(parameter.dtype).removeprefix("torch.") for parameter in watched.parameters),
            untrained=self.left if self.closed else self.members.untrained(),
            equal_units=self.equal_units.names,
            parted=self.parted if self.closed else self.untied.parted(),
            ranks=self.ranks.history() if self.ranks is not None else None,
            distributions=self.distributions.history(),
        )
