"""Page on which a loss over planes is seen from above, turned with the mouse, and told in numbers."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from gradscape.records.landscape import LandscapeRecord
from gradscape.records.run import StudyRecord
from gradscape.report.build import Page
from gradscape.report.figures.base import Figure, titled
from gradscape.report.figures.basin import first_landscapes
from gradscape.report.figures.landscape import contours
from gradscape.report.figures.turning import turning
from gradscape.report.pages.study import environment
from gradscape.report.pages.verdict import inlined


def landscape_page(records: Mapping[str, LandscapeRecord], title: str = "Loss landscape") -> str:
    """Return the page's text; the same arguments give the same text.

    Args:
        records: Record of dims 2 per name, all drawn on one scale; the name may be empty.
        title: Title of the page.

    Raises:
        ConfigError: A record is a slice.
    """
    caption = (
        "Filled contours of the loss; the cross marks the model's own weights, a line the training's path."
    )
    seen = Figure("contours", "Seen from above", caption, "", contours(records))
    text = (
        environment()
        .get_template("landscape.html.j2")
        .render(
            title=title,
            surfaces=Markup(turning(records)),
            figures=[seen],
            drawn=inlined([seen]),
            texts={name: str(record) for name, record in records.items()},
        )
    )
    return text + "\n"


def turning_pages(study: StudyRecord, groups: Mapping[str, Mapping[str, str]]) -> list[Page]:
    """Return a page for each group of roles, on which their surfaces can be turned.

    Args:
        study: Record of a study.
        groups: Label per role, for each figure.
    """
    pages = []
    for name, roles in groups.items():
        if records := first_landscapes(study, roles):
            title = titled(name, "Surfaces")
            data = landscape_page(records, title).encode()
            pages.append(Page(f"{name}.html", f"{title} to turn with the mouse", data))
    return pages
