"""Record the layers' outputs of a training into rows: a hook after every layer, while rows are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.errors import first_line
from gradscape.measure.core.layer_trace import Running, Trace
from gradscape.measure.core.parameters import unwrapped
from gradscape.measure.watch.activations import Activations, hidden
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
        self.trace = Trace(unwrapped(model), self._on_layer)
        self.activations = Activations(capacity, sketch) if capacity else None
        if capacity and (reason := hidden(model)):
            notes.append(reason)
            self.activations = None
        self.follow(True)

    def follow(self, sampled: bool) -> None:
        """Hook the layers in a step that is read, and only then.

        Args:
            sampled: Whether the step that begins is read.
        """
        if self.activations and sampled:
            self.trace.attach()
        else:
            self.trace.detach()

    def close(self) -> None:
        """Remove the hooks; the readings remain."""
        self.trace.detach()

    def _on_layer(self, call: Running, output: Any) -> None:
        """Read a layer's output; an error ends the reading of activations, but not of gradients."""
        if self.activations is None:
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
            self.on_error(f"{call.name}: {first_line(error)}")
        self.spent += time.perf_counter() - start

    def end_pass(self) -> None:
        """End a backward pass: see `Activations.end_pass`."""
        if self.activations:
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
