"""Output of the layer before: whether a layer is given that very tensor, or what a function made of it."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from gradscape.measure.core.compiled_calls import local_part
from gradscape.measure.core.layer_statistics import moments, unused_share

EQUAL = 1e-5  # relative difference of second moments, summed in float32 in another order, of the same tensor


@dataclass(frozen=True, eq=False)
class LastOutput:
    """Output of the last layer.

    Attributes:
        memory: Reference to its memory, which does not keep it: another tensor may take the place.
        place: Address and version.
        shape: Shape.
        moment: Second moment, on its device; None if it was not read.
    """

    memory: weakref.ref[torch.UntypedStorage]
    place: tuple[int, int]
    shape: torch.Size
    moment: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor) -> LastOutput:
        """Return a record of a layer's output.

        Args:
            values: Output of the layer.
        """
        held = local_part(values)
        return cls(weakref.ref(held.untyped_storage()), (held.data_ptr(), held._version), held.shape)

    def is_at(self, given: Tensor) -> bool:
        """Return True if a tensor is that output, unchanged.

        Args:
            given: Input of a layer.
        """
        held = local_part(given)
        same = (held.data_ptr(), held._version) == self.place and held.shape == self.shape
        return same and self.memory() is not None


def unused_unless_output(last: LastOutput | None, given: Tensor, axis: int, size: int) -> Tensor:
    """Return the share of input units that are 0 throughout; NaN for the output of the last layer itself.

    Compiled code writes one tensor over another without a new version, so that the place tells nothing. The
    second moment does: what a function makes of a tensor has another one. Where that was not read, the
    share is NaN too.

    Args:
        last: Output of the last layer; None without any.
        given: Input of a layer.
        axis: Axis of its units.
        size: Number of samples.
    """
    share = unused_share(given, axis)
    if last is None or last.shape != given.shape:
        return share
    if last.moment is None:
        return torch.full_like(share, math.nan)
    moment = moments(given, size, correlation=False)[0]
    return torch.where((moment - last.moment).abs() <= EQUAL * moment, math.nan, share)
