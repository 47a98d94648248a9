"""Quantiles of every layer over the steps, for the panel of a layer on the page of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscape.records.distributions import QUANTITIES, DistributionHistory
from gradscape.report.interactive.cells import as_floats, every_kth

READINGS = 120  # of a layer: as many as a panel tells apart
BANDS = 12_000  # readings of all layers, at most, so that each quantity stays below half a megabyte


def distribution_bands(history: DistributionHistory | None, weights: Sequence[str]) -> list[dict[str, Any]]:
    """Return the quantiles (L, T, 7) of each quantity, of many readings every k-th and the last.

    Args:
        history: Readings of a training; None for none.
        weights: Names of the weight layers, which panels are of; every output has its bands.
    """
    if history is None or not len(history.steps):
        return []
    found = []
    for quantity, each in history.quantities.items():
        columns = [
            place
            for place, layer in enumerate(each.layers)
            if quantity == "activations" or layer in set(weights)
        ]
        shown = every_kth(len(history.steps), max(2, min(READINGS, BANDS // max(1, len(columns)))))
        values = each.values[shown][:, columns].transpose(1, 0, 2)
        layers = [each.layers[column] for column in columns]
        label = QUANTITIES[quantity]
        found.append(
            {"quantity": quantity, "label": label, "layers": layers, "steps": history.steps[shown].tolist()}
            | as_floats(values)
        )
    return found
