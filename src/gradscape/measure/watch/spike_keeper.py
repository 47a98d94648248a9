"""Keep the spikes of a loss with their batches and rows, before later rows replace these."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from gradscape.measure.watch.batch_recorder import BatchRecorder
from gradscape.measure.watch.loss_values import LossValues
from gradscape.records.spike_rows import AFTER, FlowRows, with_rows
from gradscape.records.spike_search import WINDOW, spikes_of
from gradscape.records.spikes import BatchPrint, Spike

MOST = 8  # spikes in memory
LOOKED_AT = 1_000  # last losses that are searched
OFTEN, SELDOM = 50, 250  # steps from one search to the next, as the rows in memory allow


class SpikeKeeper:
    """Spikes of a watch.

    Args:
        capacity: Number of rows in memory.
        values: Losses of all steps.
        batches: Batches of the last ones.
        rows: Function that returns the rows in memory; waits for the device.
    """

    def __init__(
        self, capacity: int, values: LossValues, batches: BatchRecorder, rows: Callable[[], FlowRows]
    ) -> None:
        self._interval = max(OFTEN, min(capacity // 4, SELDOM))
        self._values, self._batches, self._rows = values, batches, rows
        self._kept: deque[Spike] = deque(maxlen=MOST)
        self._until = -1  # step up to which spikes are decided
        self._pending: dict[int, BatchPrint | None] = {}

    def end_step(self, step: int) -> None:
        """Look for spikes now and then; waits for the device then.

        Args:
            step: Number of the step.
        """
        if (step + 1) % self._interval == 0:
            self.read()

    def read(self) -> tuple[Spike, ...]:
        """Return the last spikes, oldest first; those that are over, with all rows around them, are kept."""
        steps, values = self._values.read(LOOKED_AT)
        new = [each for each in spikes_of(steps, values, self._batches.few) if each.first > self._until]
        if not new:
            return tuple(self._kept)
        self._pending = {
            each.first: self._pending.get(each.first) or self._batches.read(each.first) for each in new
        }
        rows, found = self._rows(), []
        for each in new:
            spike = replace(with_rows(each, rows, steps, values), batch=self._pending[each.first])
            after = int((rows.steps >= each.first).sum())
            leaves = each.first < steps[0] + LOOKED_AT // 2 and len(steps) >= LOOKED_AT
            if (each.back is not None and after > AFTER) or leaves or after > len(rows.steps) // 2 > AFTER:
                self._kept.append(spike)
                self._until = each.first + (each.back or WINDOW)
            else:
                found.append(spike)
        return (*self._kept, *found)[-MOST:]
