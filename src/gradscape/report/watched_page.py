"""One self-contained HTML page on a watched training: verdict, evidence, figures; no script, no request."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from gradscape.diagnosis import Diagnosis
from gradscape.errors import StoreError
from gradscape.history import FlowHistory
from gradscape.report.figures import render
from gradscape.report.inline import inline_svg
from gradscape.report.page import environment
from gradscape.report.watched_figures import figures
from gradscape.store import replace_bytes


def save_page(history: FlowHistory, diagnosis: Diagnosis, path: str | Path) -> Path:
    """Write a page that shows what was watched, and return its path; a page that was there is replaced whole.

    Args:
        history: of a watch.
        diagnosis: of it.
        path: of the HTML file; its folder must exist.

    Raises:
        StoreError: the file cannot be written.

    Example:
        >>> gs.save_page(flow.history(), gs.diagnose(flow), "watched.html")
    """
    path = Path(path)
    text = page(history, diagnosis)
    try:
        replace_bytes(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from None
    return path


def page(history: FlowHistory, diagnosis: Diagnosis) -> str:
    """The page's text; the same arguments give the same text."""
    drawn = figures(history, diagnosis)
    return (
        environment()
        .get_template("watched.html.j2")
        .render(
            history=history,
            diagnosis=diagnosis,
            figures=drawn,
            drawn={
                figure.name: Markup(inline_svg(render(figure)["svg"].decode(), figure.name))
                for figure in drawn
            },
            table=rows(history),
            sentence=lambda text: f"{text[:1].upper()}{text[1:]}.",
        )
        + "\n"
    )


def rows(history: FlowHistory) -> list[tuple[str, str, str, str, str]]:
    """Of each parameter tensor in the last row: name, elements, mean |∂L/∂W|, RMS, ‖ΔW‖/‖W‖."""
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
