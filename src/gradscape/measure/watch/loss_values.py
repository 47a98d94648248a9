"""Values of the loss at every step, kept on their device until they are read."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 256  # values that are joined into one tensor
CHUNKS = 400  # tensors in memory: the last hundred thousand steps


class LossValues:
    """Loss of each step, the mean over the backward passes that the step used."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[list[int], Tensor | NDArray[np.float64]]] = deque(maxlen=CHUNKS)
        self._steps: list[int] = []
        self._values: list[Tensor] = []
        self._passes: list[Tensor] = []

    def add_pass(self, value: Tensor) -> None:
        """Add the loss of a backward pass.

        Args:
            value: Tensor without axes, on its device.
        """
        self._passes.append(value)

    def drop_passes(self) -> None:
        """Forget the passes since the last step, whose gradients were discarded."""
        self._passes = []

    def end_step(self, step: int) -> None:
        """Assign the passes since the last step to a step; a step without one has no value.

        Args:
            step: Number of the step, from 0.
        """
        if not self._passes:
            return
        self._steps.append(step)
        self._values.append(self._passes[0] if len(self._passes) == 1 else _stacked(self._passes).mean())
        self._passes = []
        if len(self._steps) == CHUNK:
            self._chunks.append((self._steps, _stacked(self._values)))
            self._steps, self._values = [], []

    def has_just_broken(self) -> bool:
        """Return True if the last value is not finite and the one before was; False for any other device.

        Only values in the host's memory are looked at: nothing waits.
        """
        last = self._values[-2:]
        if not last or last[-1].device.type != "cpu" or math.isfinite(last[-1]):
            return False
        return len(last) == 1 or math.isfinite(last[0])

    def read(self, last: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return (T,) steps and (T,) values, oldest first; waits for the device.

        Args:
            last: Number of last values that are enough; None for all.
        """
        skipped = 0 if last is None else max(0, len(self._chunks) - -(-last // CHUNK))
        chunks = range(skipped, len(self._chunks))
        for place in chunks:
            steps, values = self._chunks[place]
            if isinstance(values, Tensor):
                self._chunks[place] = steps, _on_host(values)
        recent = [(self._steps, _on_host(_stacked(self._values)))] if self._steps else []
        parts = [*(self._chunks[place] for place in chunks), *recent]
        steps_read = np.array([step for steps, _ in parts for step in steps], dtype=np.int64)
        values_read = np.concatenate([np.zeros(0), *(values for _, values in parts)])
        return (steps_read, values_read) if last is None else (steps_read[-last:], values_read[-last:])


def _stacked(values: list[Tensor]) -> Tensor:
    """Stack single numbers on the device of the first."""
    return torch.stack([value.to(values[0].device, torch.float32) for value in values])


def _on_host(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.cpu().double().numpy()
    return found
