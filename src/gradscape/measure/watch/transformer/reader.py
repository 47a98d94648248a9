"""Reader of a transformer's numbers: which steps and passes it reads, and what checkpoints keep back.

The graph that a backward pass begins with has the queries and keys of every attention, so that the forward
pass needs no hook. A checkpointed part has none there: it runs again within the backward pass, and hooks that
exist only then read what it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradscape._text import join_names
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.graph.chain import is_opaque
from gradscape.measure.core.graph.node import kind
from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.core.graph.walk import Graph
from gradscape.measure.core.layer_trace import Hook, layer_kind
from gradscape.measure.core.parameters import unwrapped
from gradscape.measure.watch.activations import in_backward, is_hidden
from gradscape.measure.watch.safe_reader import SafeReader
from gradscape.measure.watch.schedule import SMALL
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.measure.watch.thinned_rows import Rows
from gradscape.measure.watch.transformer.passes import Pass
from gradscape.measure.watch.transformer.rows import LARGEST, history_of, merged
from gradscape.records.transformer import TransformerHistory

FIRST = 5  # first steps, all of which are read;
BUDGET = 0.003  # and the share of the time for further ones,
REGULAR = 50  # and of a small model every so many steps in any case
MOST = 100_000  # numbers in memory
PASSES = 4  # first backward passes of a step that are read
ALONE = 3  # steps without anything to read, after which a model is taken for none of that kind
NEAR = 64  # nodes before what a module is given in a checkpoint


class TransformerReader(SafeReader):
    """Numbers of the transformer that a watched model may be.

    Args:
        model: Watched model.
        every: Number of steps from one reading to the next that the user has chosen; None for none.
        notes: Notes of the watch, to which this appends.
        on_error: Callback with what went wrong; nothing of the kind is read any more.
    """

    def __init__(
        self, model: nn.Module, every: int | None, notes: list[str], on_error: Callable[[str], None]
    ) -> None:
        super().__init__(on_error)
        self.model, self.every, self.notes = unwrapped(model), every, notes
        self.owners = Owners(model)
        self.is_small = sum(parameter.numel() for parameter in model.parameters()) <= SMALL
        self.rows = Rows(MOST)
        self.closed = self.is_told = self.is_compiled = self.is_kept_back = False
        self.barren = 0  # steps without anything to read
        self.waiting: Pass | None = None  # until a gradient is the model's
        self.passes: list[Pass] = []
        self.handles: list[Any] = []

    def close(self) -> None:
        """End the reading; what was read remains."""
        self.closed, self.waiting = True, None
        self._unhook()

    def is_due(self, step: int) -> bool:
        """Return True if a step that is sampled is read.

        Args:
            step: Number of the step.
        """
        if self.closed or len(self.passes) >= PASSES:
            return False
        within = self.spent <= BUDGET * (time.perf_counter() - self.began)
        regular = step < FIRST or (self.is_small and step % REGULAR == 0)
        return self.every is not None or regular or within

    def before_backward(self, roots: Sequence[Tensor], step: int) -> None:
        """Read the graph that a backward pass begins with, perhaps another model's.

        Args:
            roots: Tensors that it begins with.
            step: Number of the current step.
        """
        self.waiting = None
        self._unhook()
        if self.is_due(step) and not is_out_of_reach():
            self._safely(lambda: self._read(roots))

    def _read(self, roots: Sequence[Tensor]) -> None:
        graph = Graph.before(roots)
        self.owners.begin()
        self.waiting = Pass()
        packed = self.waiting.read(graph, self.owners)
        opaque = [kind(edge) for edge in graph.edges if is_opaque(edge)]
        self.is_compiled = is_hidden(self.model) or any("Compiled" in name for name in opaque)
        self.is_kept_back = packed or any("Checkpoint" in name for name in opaque)
        if self.is_kept_back and not self.is_compiled:  # hooks would have compiled parts compiled again
            self._hook()
        if self.owners.own(graph):
            self.confirm()  # FSDP2 has no gradient of the parameters that were watched, but of gathered ones

    def confirm(self) -> None:
        """Take the numbers of the backward pass, whose gradients reach the model."""
        if self.waiting is None:
            return
        if not self.is_told and not self.is_kept_back:
            self._tell_unseen(self.waiting.attention)
        self.passes.append(self.waiting)
        self.waiting = None

    def end_step(self, step: int) -> None:
        """End a step of the training.

        Args:
            step: Number of the step.
        """
        self._unhook()
        self._safely(lambda: self._add_row(step))
        self.passes, self.waiting = [], None

    def _add_row(self, step: int) -> None:
        numbers = [found for each in self.passes if any((found := each.numbers()).values())]
        if numbers:
            self.rows.add(step, merged(numbers, LARGEST))
        elif self.passes and not self.rows.steps:
            self.barren += 1
            self.closed |= self.barren >= ALONE
            if self.closed and not self.is_told:
                self._tell_unseen(())

    # Within a checkpoint --------------------------------------------------------------------------------

    def _hook(self) -> None:
        """Hook all modules until the backward pass has ended."""
        hook = Hook(self._before_module)
        self.handles = [
            module.register_forward_pre_hook(hook, with_kwargs=True) for module in self.model.modules()
        ]

    def _unhook(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def end_pass(self) -> None:
        """End a backward pass."""
        self._unhook()

    def _before_module(self, _: nn.Module, positional: Any, named: Any) -> None:
        if in_backward() and torch.is_grad_enabled() and not self.closed:
            self._safely(lambda: self._read_again((positional, named)))

    def _read_again(self, given: Any) -> None:
        """Read what a module is given in a part that runs again; what another module was given is known."""
        values = [each for each in tensors(given) if each.grad_fn is not None]
        into = self.waiting if self.waiting is not None else self.passes[-1] if self.passes else None
        if into is not None and values:
            into.read(Graph.before(values, most=NEAR, rerun=True), self.owners)

    # What was seen --------------------------------------------------------------------------------------

    def _tell_unseen(self, attention: Iterable[str]) -> None:
        """Add a note on attention that is there by the names of classes, and was not recognized."""
        self.is_told = True
        seen = [label.partition(" (call ")[0] for label in attention]
        names = [
            name
            for name, module in self.owners.modules.items()
            if layer_kind(module) == "attention" and not any(_is_within(each, name) for each in seen)
        ]
        outer = [name for name in names if not any(_is_within(name, each) for each in names if each != name)]
        if outer:
            why = "no gradient passes through it, or its form is not recognized"
            if self.is_compiled or self.is_kept_back:
                why = "it is compiled" if self.is_compiled else "hooks keep the tensors of its backward pass"
            self.notes.append(f"attention of {join_names(outer)} is not read: {why}")

    def history(self) -> TransformerHistory | None:
        """Return what was read, or None if nothing was; waits for the device."""
        return history_of(self.rows) if self.rows.steps else None


def _is_within(name: str, outer: str) -> bool:
    """Return True for a module inside another one, or that one."""
    return f"{name}.".startswith(f"{outer}.") or not outer
