"""Gradient flows that were never measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradscape.records.encoding import Values
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs


def made_flow(
    rows: Sequence[Sequence[float]] | Values,
    layers: Sequence[str] = (),
    kinds: Sequence[str] = (),
    first: int = 1,
    **tables: Sequence[Sequence[float]] | Values,
) -> FlowHistory:
    """A run's flow: all sizes are `rows`, an epoch each, but for those given; nothing is 0 or not finite.

    Without names it is of convolutions and, last, a linear layer.
    """
    sizes = np.array(rows, dtype=np.float64)
    none, count = np.zeros_like(sizes), sizes.shape[1]
    known = {**dict.fromkeys(EPOCH_TABLES, sizes), "zeros": none, "nonfinite": none, **tables}
    return flow_of_epochs(
        layers or [f"layer{place}.weight" for place in range(count)],
        kinds or ["conv"] * (count - 1) + ["linear"],
        [9] * count,
        range(first, first + len(sizes)),
        np.stack([np.array(known[name], dtype=np.float64) for name in EPOCH_TABLES], axis=1),
    )


ONE = made_flow([[1.0]])
