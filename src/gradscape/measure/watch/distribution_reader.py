"""Read the distributions of gradients, weights and activations at some of the steps that a watch reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from gradscape._text import join_names
from gradscape.measure.core.gathered import own_part
from gradscape.measure.core.parameters import WatchedParameters
from gradscape.measure.core.sketch import bounds, quantiles, shares, sketch
from gradscape.measure.watch.safe_reader import SafeReader
from gradscape.measure.watch.schedule import Schedule
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.measure.watch.summaries import is_readable
from gradscape.measure.watch.thinned_rows import Rows
from gradscape.records.distributions import (
    QUANTILES,
    WIDTH,
    DistributionHistory,
    Histograms,
    LayerQuantiles,
    histogram_of,
)

BUDGET = 0.01  # fraction of the time for reading the distributions of a large model,
FIRST = 5  # after as many first steps, all of which are read,
REGULAR = 20  # and of a small model every so many
MOST = 2_000_000  # numbers in memory
AT_ONCE = 256  # tensors whose sketches are merged and evaluated at once
Sketches = dict[str, Tensor]  # by layer


class DistributionReader(SafeReader):
    """Distributions of a watched model's tensors.

    Args:
        every: Number of steps from one reading to the next that the user has chosen; None for none.
        notes: Notes of the watch, to which this appends.
        on_error: Callback with what went wrong; nothing of the kind is read any more.

    Attributes:
        is_on: Whether the current step is read.
        within: Seconds spent within the reading of layers' outputs.
    """

    def __init__(self, every: int | None, notes: list[str], on_error: Callable[[str], None]) -> None:
        super().__init__(on_error)
        self.notes, self.schedule = notes, Schedule(every, BUDGET, FIRST, REGULAR)
        self.is_on = self.closed = False
        self.within = 0.0
        self._rows = Rows(MOST)
        self._layers: dict[str, dict[str, None]] = {}  # by quantity, in the order of their first readings
        self._last = -1  # step of the last reading
        self._latest: dict[str, Sketches] = {}  # its sketches by quantity, on their device
        self._sketches: dict[str, Sketches] = {}  # those of the current step
        self._left_out: set[str] = set()

    def follow(self, watched: WatchedParameters) -> None:
        """Read other parameters from now on.

        Args:
            watched: Watched parameters.
        """
        self.watched = watched
        self.schedule.follow(watched.parameters, watched.shards)

    def close(self) -> None:
        """End the reading; what was read remains."""
        self.is_on, self.closed, self._sketches = False, True, {}

    def begin_step(self, step: int, sampled: bool) -> None:
        """Decide whether a step is read.

        Args:
            step: Number of the step that begins.
            sampled: Whether the watch reads it.
        """
        self.is_on = not self.closed and sampled and self.schedule.is_due(step, self.spent)

    def read_weights(self, places: Sequence[int]) -> None:
        """Read weights.

        Args:
            places: Indices of parameters.
        """
        if self.is_on and not is_out_of_reach():
            parameters = self.watched.parameters
            tensors = {place: parameters[place].detach() for place in places}
            self._safely(lambda: self._read("weights", tensors))

    def read_gradients(self, optimizer: Optimizer, places: Sequence[int]) -> None:
        """Read the gradients that a step uses.

        Args:
            optimizer: Optimizer that makes the step.
            places: Indices of its parameters.
        """
        if self.is_on and not is_out_of_reach():
            parameters, scale = self.watched.parameters, getattr(optimizer, "grad_scale", None)
            gradients = {place: g for place in places if (g := parameters[place].grad) is not None}
            self._safely(lambda: self._read("gradients", gradients, scale))

    def _read(self, quantity: str, tensors: Mapping[int, Tensor], scale: Tensor | None = None) -> None:
        """Make the sketches of tensors, by their indices; those of sharded ones are joined over the ranks."""
        places = [place for place, tensor in tensors.items() if is_readable(own_part(tensor))]
        self._note_left_out(set(tensors) - set(places))
        found = self._sketches.setdefault(quantity, {})
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            local = sketch([tensors[place] for place in part], scale)
            whole = self.watched.shards.part(part).total(local.T.contiguous()).T
            found |= {self.watched.names[place]: row for place, row in zip(part, whole, strict=True)}

    def _note_left_out(self, places: set[int]) -> None:
        """Add a note on tensors that have no elements to read, once for each."""
        names = {self.watched.names[place] for place in places} - self._left_out
        self._left_out |= names
        if names:
            why = "they are on meta, quantized or nested"
            self.notes.append(f"distributions of {join_names(sorted(names))} are not read: {why}")

    def sketch_output(self, output: Tensor) -> Tensor | None:
        """Return the sketch of a layer's output, (COLUMNS,); None if the step is not read.

        Args:
            output: Output of a layer, as far as this process holds it.
        """
        if not self.is_on or not is_readable(output):
            return None
        start, found = time.perf_counter(), []
        self._safely(lambda: found.append(sketch([output.detach()])[0]))
        self.within += time.perf_counter() - start
        return found[0] if found else None

    def end_step(self, step: int, outputs: Sketches) -> None:
        """End a step of the training.

        Args:
            step: Number of the step.
            outputs: Sketches of the layers' outputs in it.
        """
        if outputs:
            self._sketches["activations"] = outputs
        if self._sketches:
            self._safely(lambda: self._add_row(step))
        self._sketches = {}

    def _add_row(self, step: int) -> None:
        numbers = {}
        for quantity, sketches in self._sketches.items():
            layers = self._layers.setdefault(quantity, {})
            layers |= dict.fromkeys(sketches)
            numbers[quantity] = {"": _numbers(sketches, tuple(layers))}
        self._rows.add(step, numbers)
        self._last, self._latest = step, self._sketches

    def history(self) -> DistributionHistory | None:
        """Return what was read, or None if nothing was; waits for the device."""
        if not self._rows.steps:
            return None
        named = {quantity: self._quantiles(quantity) for quantity in ("gradients", "weights", "activations")}
        outputs = named.pop("activations")
        steps = np.array(self._rows.steps, dtype=np.int64)
        return DistributionHistory(steps, **named, activations=outputs if outputs.layers else None)

    def _quantiles(self, quantity: str) -> LayerQuantiles:
        layers = tuple(self._layers.get(quantity, ()))
        table = self._rows.table(quantity, WIDTH)  # (10, T, 1, L), or empty
        shape = (WIDTH, len(self._rows.steps), len(layers))
        return LayerQuantiles.of(layers, np.moveaxis(table.reshape(shape), 0, -1))

    def histograms(self) -> Histograms | None:
        """Return the histograms of the last reading, or None if there was none; waits for the device."""
        if self._last < 0:
            return None
        edges = bounds().numpy()
        found = {
            quantity: {
                layer: histogram
                for layer, counts in zip(sketches, _on_host(tuple(sketches.values())), strict=True)
                if (histogram := histogram_of(counts, edges)) is not None
            }
            for quantity, sketches in self._latest.items()
        }
        return Histograms(self._last, found)


def _numbers(sketches: Sketches, layers: Sequence[str]) -> Tensor:
    """Return quantiles and shares (10, layers), NaN of layers without a sketch; a few hundred at once."""
    columns = {layer: column for column, layer in enumerate(layers)}
    names, device = list(sketches), next(iter(sketches.values())).device
    found = torch.full((WIDTH, len(layers)), torch.nan, device=device)
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        stacked = torch.stack([sketches[name].to(device) for name in part])
        numbers = torch.cat([quantiles(stacked, QUANTILES), shares(stacked)], dim=1)
        found[:, [columns[name] for name in part]] = numbers.T
    return found


def _on_host(sketches: Sequence[Tensor]) -> NDArray[np.int64]:
    device = sketches[0].device
    found: NDArray[np.int64] = torch.stack([each.to(device, torch.int64) for each in sketches]).cpu().numpy()
    return found
