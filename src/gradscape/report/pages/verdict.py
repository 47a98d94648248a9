"""Base of the pages on a verdict: findings, figures, one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gradscape._text import count_noun
from gradscape.records.diagnosis import Diagnosis
from gradscape.report.figures.base import Figure, render
from gradscape.report.svg import inline_svg
from gradscape.report.templates import environment


def rendered(template: str, diagnosis: Diagnosis, figures: Sequence[Figure], **values: Any) -> str:
    """Return a page's text; the same arguments give the same text.

    Args:
        template: File name of the template.
        diagnosis: Diagnosis that the page shows.
        figures: Figures of the page.
        values: Other variables of the template.
    """
    page = environment().get_template(template)
    text = page.render(
        **{"title": capital(diagnosis.heading), **values},
        diagnosis=diagnosis,
        figures=figures,
        drawn=inlined(figures),
        sentence=_sentence,
        capital=capital,
        count_noun=count_noun,
    )
    return text + "\n"


def inlined(figures: Sequence[Figure]) -> dict[str, Markup]:
    """Return the `<svg>` element of each figure, per name.

    Args:
        figures: Figures of a page.
    """
    texts = {figure.name: render(figure, ("svg",))["svg"].decode() for figure in figures}
    return {name: Markup(inline_svg(svg, name)) for name, svg in texts.items()}


def capital(text: str) -> str:
    """Return a text that begins with a capital letter.

    Args:
        text: Text for a heading.
    """
    return f"{text[:1].upper()}{text[1:]}"


def _sentence(text: str) -> str:
    return f"{capital(text)}."
