"""Curves of a transformer's numbers over the steps, for the page of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values
from gradscape.records.transformer import TransformerHistory, mean_of_heads


def transformer_curves(history: TransformerHistory | None) -> list[dict[str, Any]]:
    """Return the curves of what there is: attention, residual stream, output logits, routers.

    Args:
        history: Readings of a training; None for none.
    """
    if history is None or not len(history.steps):
        return []
    found, steps = [], history.steps
    if (heads := history.attention) is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            share = mean_of_heads(heads.entropy) / mean_of_heads(heads.uniform)
        lowest = {"lowest layer": np.fmin.reduce(share, axis=1), "mean of the layers": mean_of_heads(share)}
        found.append(_curve("attention entropy, of that of equal weights", steps, lowest))
        largest = np.fmax.reduce(heads.logit, axis=(1, 2))
        found.append(_curve("largest attention logit", steps, {"largest of all heads": largest}))
    if (stream := history.stream) is not None:
        ends = {"embedding": stream.size[:, 0], "end": stream.size[:, -1]}
        found.append(_curve("residual stream", steps, ends))
    if history.logits is not None:
        found.append(_curve("log Z of the output", steps, {"mean over tokens": history.logits.log_z}))
    if (routers := history.routers) is not None:
        loads = {"most loaded expert": np.fmax.reduce(routers.load, axis=(1, 2))}
        found.append(_curve("largest load of an expert", steps, loads))
    return found


def _curve(title: str, steps: NDArray[np.int64], series: dict[str, Values]) -> dict[str, Any]:
    lines = [
        {"label": label, "x": steps[known], "y": values[known]}
        for label, values in series.items()
        if (known := np.isfinite(values)).any()
    ]
    return {"title": title, "series": lines, "reference": None, "panel": True}
