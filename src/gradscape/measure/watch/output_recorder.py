"""Record the layers' outputs of a training into rows: a hook after every layer, while rows are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.errors import first_line
from gradscape.measure.core.batch import main_tensor
from gradscape.measure.core.compiled_calls import CompiledCall, hooks_traced
from gradscape.measure.core.layer_trace import Running, Trace, unseen
from gradscape.measure.core.parameters import unwrapped
from gradscape.measure.watch.activations import Activations, in_backward, unreachable
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.records.activations import ActivationHistory


class OutputRecorder:
    """Hooks of the layers of a watched model, and the rows of outputs that they fill.

    Args:
        model: Watched model.
        capacity: Number of rows in memory; 0 to read no outputs.
        notes: Notes of the watch, to which this appends.
        on_error: Callback with the name of a layer and what went wrong; outputs are not read any more.
        sketch: Function that returns the sketch of an output, or None if none is wanted in this step.

    Attributes:
        activations: Readings; None if no outputs are read.
        spent: Seconds spent on reading, without waiting for the device.
    """

    def __init__(
        self,
        model: nn.Module,
        capacity: int,
        notes: list[str],
        on_error: Callable[[str], None],
        sketch: Callable[[Tensor], Tensor | None],
    ) -> None:
        self.notes, self.on_error = notes, on_error
        self.spent = 0.0
        self.trace = Trace(unwrapped(model), self._on_layer, self._on_compiled)
        self.activations = Activations(capacity, sketch) if capacity else None
        if capacity and (reason := unreachable(model)):
            notes.append(reason)
            self.activations = None
        self.sampled, self.traced = True, hooks_traced()
        self.compiled_root: Running | None = None
        self.follow(True)

    def follow(self, sampled: bool) -> None:
        """Hook the layers in a step that is read, and only then, unless that would compile them anew.

        Args:
            sampled: Whether the step that begins is read.
        """
        self.sampled = sampled
        if self.activations and (sampled or hooks_traced() != self.traced):
            self.trace.attach()
        else:
            self.trace.detach()

    def close(self) -> None:
        """Remove the hooks; the readings remain."""
        self.trace.detach()

    def _on_layer(self, call: Running, output: Any) -> None:
        """Read a layer's output, in a step that is read."""
        if self.activations is not None and self.sampled and not _is_opaque(call, output):
            activations, root = self.activations, self._root() or call
            recorded = torch.is_grad_enabled()
            self._safely(call.name, lambda: activations.read(call, output, recorded, root))

    def _on_compiled(self, call: CompiledCall) -> None:
        """Read a layer's output inside compiled code, in a step that is read."""
        root = self._root()
        if root is not None:
            self.trace.stack[-1].calls = True
        elif call.first or self.compiled_root is None:
            self.compiled_root = Running(call.name, call.module, ())
        root = root or self.compiled_root
        if self.activations is not None and self.sampled and root is not None and not unseen.get():
            activations, outermost = self.activations, root
            if not is_out_of_reach():
                self._safely(call.name, lambda: activations.read_compiled(call, outermost))

    def _root(self) -> Running | None:
        """Return the model's own call, or the outermost; an error may have left others below it."""
        stack = self.trace.stack
        roots = (each for each in reversed(stack) if each.module is self.trace.model)
        return next(roots, stack[0] if stack else None)

    def _safely(self, name: str, act: Callable[[], None]) -> None:
        """Read an output; an error ends the reading of activations, but not of gradients."""
        start = time.perf_counter()
        try:
            act()
        except Exception as error:
            self.activations = None
            self.on_error(f"{name}: {first_line(error)}")
        self.spent += time.perf_counter() - start

    def end_pass(self) -> None:
        """End a backward pass: see `Activations.end_pass`."""
        if self.activations:
            self.activations.end_pass()

    def settle(self) -> None:
        """End an earlier backward pass that FSDP2 has hidden: its gradients are not of watched parameters."""
        if self.activations and self.activations.reached and not in_backward():
            self.activations.end_pass()

    def add_row(self) -> None:
        """Add a row for the passes since the last step."""
        if self.activations:
            self.activations.add()

    def join_passes(self, row: bool) -> None:
        """Assign the passes since the last step to the current row.

        Args:
            row: Whether there is a current row.
        """
        if self.activations:
            self.activations.join(row)

    def end_row(self, names: Sequence[str], read: Collection[int]) -> None:
        """End the current row; add notes on layers that it lacks, once each.

        Args:
            names: Names of the watched parameters.
            read: Places of those with a gradient in the row; empty if no row was read.
        """
        if self.activations is None:
            return
        for note in self.activations.oddities([names[place] for place in read]) if read else ():
            if note not in self.notes:
                self.notes.append(note)
        self.activations.end_row()

    def take_sketches(self) -> dict[str, Tensor]:
        """Return the sketches of outputs since the last time, by layer."""
        return self.activations.take_sketches() if self.activations else {}

    def history(self, steps: Sequence[int]) -> ActivationHistory | None:
        """Return the rows of the last steps, or None if no outputs are read; waits for the device.

        Args:
            steps: Steps of the rows.
        """
        return self.activations.history(steps) if self.activations else None


def _is_opaque(call: Running, output: Any) -> bool:
    """Return True for a module with others inside that compiled code runs without a word of them."""
    values = main_tensor(output)
    node = None if values is None else values.grad_fn
    compiled = node is not None and "Compiled" in node.name()
    return compiled and any(True for _ in call.module.children())
