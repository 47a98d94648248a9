"""Documents of many runs on one page: what the runs share stands there once, and numbers are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradscape._codec import encode
from gradscape.measure.diagnose.from_run import recorded
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord
from gradscape.report.interactive.cells import as_codes, every_kth
from gradscape.report.interactive.document import (
    TENSOR_NUMBERS,
    flow_maps,
    joined,
    judgement,
    rows_facts,
    run_curves,
    run_facts,
)

POINTS = 200  # of a curve
DIGITS = 5  # of a curve's number: the page writes three, and shows finer steps where a loss hardly moves


class Layouts:
    """Names, kinds, sizes and shapes of parameter tensors, each set once.

    Attributes:
        found: Sets as the page reads them; `weights` are the places of the weight layers.
    """

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.places: dict[tuple[Any, ...], int] = {}

    def place(self, history: FlowHistory) -> int:
        """Return the place of a training's set.

        Args:
            history: Rows of the training.
        """
        key = (history.layers, history.kinds, history.sizes, history.shapes)
        if key not in self.places:
            self.places[key] = len(self.found)
            names = ("layers", "kinds", "sizes", "shapes")
            self.found.append(encode({**dict(zip(names, key, strict=True)), "weights": history.weights}))
        return self.places[key]


def brief_document(
    run: RunRecord, diagnosis: Diagnosis | None, layouts: Layouts, most: int
) -> dict[str, Any]:
    """Return the document of a run that is one of many on a page; `opened` in `app.js` reads it.

    Args:
        run: Record with one epoch at least; without the gradients of every epoch there are no maps.
        diagnosis: Diagnosis of the run; None for none.
        layouts: Sets of parameter tensors that the page's runs have so far.
        most: Number of rows of a map.
    """
    curves = [
        {**curve, "series": [_short_series(each) for each in curve["series"]]} for curve in run_curves(run)
    ]
    found: dict[str, Any] = encode({**run_facts(run), **judgement(diagnosis), "curves": curves})
    history = recorded(run) if is_whole(run) else None
    if history is None:
        rows = {"row": "epoch", "rows": len(run.epochs), "at": run.epochs[-1].epoch, "every": 1, "steps": []}
        return {**found, **rows, "optimizers": [], "maps": []}
    shown = every_kth(len(history.steps), most)
    return {
        **found,
        **encode(rows_facts(history, shown)),
        "layout": layouts.place(history),
        "last": {name: as_codes(getattr(history, name)[-1]) for name in TENSOR_NUMBERS},
        "maps": flow_maps(history, shown, as_codes),
    }


def is_whole(run: RunRecord) -> bool:
    """Return True if a run was read with the gradients of every epoch.

    Args:
        run: Record of a run.
    """
    return run.flow is not None and bool(run.epochs) and len(run.flow.steps) == len(run.epochs)


def _short_series(series: dict[str, Any]) -> dict[str, Any]:
    """Return a curve of fewer points and digits."""
    found = joined(np.array(series["x"]), np.array(series["y"]), POINTS)
    brief = {
        name: values if name == "x" else [short(value) for value in values] for name, values in found.items()
    }
    return {"label": series["label"], **brief}


def short(value: float) -> float:
    """Return a number of `DIGITS` digits.

    Args:
        value: The number.
    """
    return float(f"{value:.{DIGITS}g}")
