"""Base of the pages on a verdict: findings, figures, one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gradscape._text import counted
from gradscape.errors import StoreError
from gradscape.records.diagnosis import Diagnosis
from gradscape.report.figures.base import Figure, render
from gradscape.report.pages.study import environment
from gradscape.report.svg import inline_svg
from gradscape.storage.files import replace_bytes


def rendered(template: str, diagnosis: Diagnosis, figures: Sequence[Figure], **values: Any) -> str:
    """Return a page's text; the same arguments give the same text.

    Args:
        template: File name of the template.
        diagnosis: Diagnosis that the page shows.
        figures: Figures of the page.
        values: Other variables of the template.
    """
    drawn = {
        figure.name: Markup(inline_svg(render(figure)["svg"].decode(), figure.name)) for figure in figures
    }
    page = environment().get_template(template)
    text = page.render(
        diagnosis=diagnosis, figures=figures, drawn=drawn, sentence=_sentence, counted=counted, **values
    )
    return text + "\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def written(path: Path, text: str) -> Path:
    """Write a page whole, replacing one that was there, and return its path.

    Args:
        path: Path of the HTML file.
        text: Text of the page.

    Raises:
        StoreError: The file cannot be written.
    """
    try:
        replace_bytes(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from None
    return path
