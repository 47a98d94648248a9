"""Page on a watched training: verdict, evidence and figures, without scripts and requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.report.figures.watch import figures
from gradscape.report.pages.verdict import rendered, written


@typed()
def save_page(history: Any, diagnosis: Diagnosis, path: str | Path) -> Path:
    """Write a page that shows a watch, and return its path; a page that was there is replaced whole.

    Args:
        history: Watch, or the history that it returned.
        diagnosis: Diagnosis of the history.
        path: Path of the HTML file; its folder must exist.

    Raises:
        ConfigError: `history` is neither.
        StoreError: The file cannot be written.

    Example:
        >>> gs.save_page(flow, gs.diagnose(flow), "watched.html")
    """
    if callable(getattr(history, "history", None)):
        history = history.history()  # a watch's type is not imported: it needs torch
    if not isinstance(history, FlowHistory):
        raise ConfigError(f"history: expected what gs.watch returned; got {brief(history)}")
    return written(Path(path), page(history, diagnosis))


def page(history: FlowHistory, diagnosis: Diagnosis) -> str:
    """Return the page's text; the same arguments give the same text.

    Args:
        history: Rows of the watch.
        diagnosis: Diagnosis of the rows.
    """
    return rendered(
        "watched.html.j2", diagnosis, figures(history, diagnosis), history=history, table=_rows(history)
    )


def _rows(history: FlowHistory) -> list[tuple[str, str, str, str, str]]:
    """Rows of each parameter tensor at the last step: name, elements, mean |∂L/∂W|, RMS, ‖ΔW‖/‖W‖."""
    if not len(history.steps):
        return []
    update = history.relative_update
    return [
        (
            name,
            f"{history.sizes[column]:,}",
            *(f"{values[-1, column]:.2e}" for values in (history.mean_abs, history.rms, update)),
        )  # type: ignore[misc]
        for column, name in enumerate(history.layers)
    ]
