"""Statistics read from every gradient, and checks that the optimizer's step will use the same gradients."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gradscape.measure.core.gradient_statistics import STATISTICS, Scaled, Shards, held, read_gradients
from gradscape.measure.core.pieces import magnitudes

MEANS = [STATISTICS.index(name) for name in ("mean_abs", "max_abs", "rms")]
BROKEN = STATISTICS.index("nonfinite")


class Readings:
    """Latest statistics of the gradients of all parameters, each read at its own time.

    Args:
        parameters: Watched parameters.
        shards: Process groups over which they are sharded.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], shards: Shards) -> None:
        self.parameters, self.shards = parameters, shards
        self.values = shards.sizes.new_full((len(STATISTICS), len(parameters)), math.nan)
        # By index: weak reference to the gradient that was read, and its version.
        self.marks: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        # By index, for the agreement: of the last reading, and of the last step.
        self.now: dict[int, Scaled] = {}
        self.before: dict[int, Scaled] = {}

    def is_read(self, place: int) -> bool:
        """Return True if `.grad` is the tensor that was read, unchanged.

        Args:
            place: Index of the parameter.
        """
        gradient, mark = self.parameters[place].grad, self.marks.get(place)
        if gradient is None or mark is None:
            return gradient is None and mark is None
        return mark[0]() is gradient and mark[1] == gradient._version

    def altered(self, places: Iterable[int]) -> list[int]:
        """Return the parameters whose `.grad` is another tensor than was read, or has changed since.

        Args:
            places: Indices of parameters.
        """
        return [place for place in places if not self.is_read(place)]

    def rewritten(self, places: Sequence[int]) -> list[int]:
        """Return the parameters whose sum of |∂L/∂W| differs from the reading; waits for the device.

        Args:
            places: Indices of parameters.
        """
        there = [place for place in places if place in self.marks]
        if not there:
            return []
        gradients = [held(self.parameters[place].grad) for place in there]  # type: ignore[arg-type]
        now = magnitudes(gradients) / self.shards.sizes[there]
        then = self.values[MEANS[0], there]
        same = (now - then).abs() <= 1e-6 * then
        changed = ~(same | (now.isnan() & then.isnan()) | (now == then))
        return [place for place, other in zip(there, changed.tolist(), strict=True) if other]

    def written_upon(self, places: Iterable[int]) -> bool:
        """Return True if each `.grad` is the tensor that was read, perhaps changed in place.

        Args:
            places: Indices of parameters.
        """
        return all(
            (mark := self.marks.get(place)) is not None and mark[0]() is self.parameters[place].grad
            for place in places
        )

    def read(self, places: Iterable[int], scale: Tensor | None = None) -> None:
        """Read the current gradients and store the statistics.

        Args:
            places: Indices of parameters.
            scale: Loss scale that the gradients still have.
        """
        values, found = self.read_now(places, scale)
        self.take(list(places), values, found)

    def read_now(
        self, places: Iterable[int], scale: Tensor | None = None
    ) -> tuple[Tensor, dict[int, Scaled]]:
        """Return the statistics (statistics, parameters) of the current gradients, and what is kept of them.

        Args:
            places: Indices of parameters; without a gradient, statistics are NaN.
            scale: Loss scale that the gradients still have.
        """
        places = list(places)
        gradients = {i: g for i in places if (g := self.parameters[i].grad) is not None}
        values = self.values.new_full((len(STATISTICS), len(places)), math.nan)
        if not gradients:
            return values, {}
        there = list(gradients)
        last = [self.before.get(i) for i in there]
        found, scaled = read_gradients(list(gradients.values()), self.shards.part(there), last)
        if scale is not None:
            found[:3] /= scale
        values[:, [places.index(i) for i in there] if len(there) < len(places) else slice(None)] = found
        return values, dict(zip(there, scaled, strict=True))

    def take(self, places: Sequence[int], values: Tensor, found: dict[int, Scaled]) -> None:
        """Store a reading.

        Args:
            places: Indices of parameters.
            values: Statistics (statistics, parameters).
            found: What is kept of the gradients, by index.
        """
        self.values[:, places] = values
        for place in places:
            gradient = self.parameters[place].grad
            if gradient is None:
                self.marks.pop(place, None)
                self.now.pop(place, None)
            else:
                self.marks[place] = weakref.ref(gradient), gradient._version
                self.now[place] = found[place]

    def use(self, places: Iterable[int]) -> None:
        """Mark gradients as used by a step: the next row's agreement compares with them.

        Args:
            places: Indices of parameters.
        """
        for place in places:
            if place in self.now:
                self.before[place] = self.now[place]

    def adopt(self, other: Readings, where: Sequence[int | None]) -> None:
        """Copy the readings of the same parameters at other indices.

        Args:
            other: Earlier readings.
            where: Index in the other readings for each parameter; None for a new one.
        """
        for now, before in enumerate(where):
            if before is not None and other.parameters[before] is self.parameters[now]:
                self.values[:, now] = other.values[:, before]
                if before in other.marks:
                    self.marks[now] = other.marks[before]
                    self.now[now] = other.now[before]
                if before in other.before:
                    self.before[now] = other.before[before]


def scaled_down(then: Tensor, now: Tensor, half: bool) -> Tensor:
    """Return True, as a tensor on the device, if clipping explains the change of gradients.

    Clipping by norm multiplies mean, largest and RMS of all by one factor of at most 1. Clipping by value
    does not change gradients below a limit, and makes the limit the largest element of the others. Elements
    that are not finite remain so, and make others NaN.

    Args:
        then: Statistics (statistics, parameters) before.
        now: Statistics (statistics, parameters) afterwards.
        half: Whether some gradients have two bytes per number.
    """
    tolerance = 0.05 if half else 1e-4
    before, after = then[MEANS], now[MEANS]
    factor = after / before
    same = (factor - factor[:1]).abs() <= tolerance * factor[:1]
    both_zero = (before == 0) & (after == 0)
    by_norm = ((same & (factor > 0) & (factor <= 1 + tolerance)) | both_zero).all()
    limit = after[1].max()
    left = ((factor - 1).abs() <= tolerance) | both_zero
    cut = (after[1] >= limit * (1 - tolerance)) & (factor <= 1 + tolerance).all(0) & (limit > 0)
    by_value = (left.all(0) | cut).all() & torch.tensor(then.shape[1] > 1, device=then.device)
    broken = (then[BROKEN] == 1).any() & (now[BROKEN] == 1).any()
    return by_norm | by_value | broken
