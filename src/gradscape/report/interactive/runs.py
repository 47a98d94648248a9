"""Rows of runs for the page's table."""

from __future__ import annotations

from typing import Any

from gradscape._codec import encode


def run_row(identity: str, name: str, **values: Any) -> dict[str, Any]:
    """Return a run's row.

    Args:
        identity: Name by which the page asks for the training.
        name: Name to show.
        values: `state`; `share` of what is to do, 0 to 1; `progress` in words; `spark`: some losses;
            `verdict` and `grade`; `best` validation accuracy; `left`, seconds; `heard`, since 1970; `reason`
            of its state; `has`, True if there is something to look at. None or empty where not known. Of a
            study's report also `roles` and the `minutes` that it took.
    """
    row = {
        "id": identity,
        "name": name,
        "state": "",
        "share": None,
        "progress": "",
        "spark": [],
        "verdict": None,
        "grade": None,
        "best": None,
        "left": None,
        "heard": None,
        "reason": "",
        "has": True,
        **values,
    }
    found: dict[str, Any] = encode(row)
    return found
