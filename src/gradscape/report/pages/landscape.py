"""Page on which a loss over planes is turned, seen from above, and told in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradscape.records.landscape import LandscapeRecord, is_uneven
from gradscape.records.run import StudyRecord
from gradscape.report.build import Page
from gradscape.report.figures.base import Figure, titled
from gradscape.report.figures.basin import first_landscapes, top_of
from gradscape.report.figures.landscape import common_levels, contour_panel, short_number
from gradscape.report.figures.turning import packed_plotly, turning
from gradscape.report.pages.verdict import inlined
from gradscape.report.templates import environment


def landscape_page(records: Mapping[str, LandscapeRecord], title: str = "Loss landscape") -> str:
    """Return the page's text; the same arguments give the same text.

    Args:
        records: Record of dims 2 per name, all drawn on one scale; the name may be empty.
        title: Title of the page.

    Raises:
        ConfigError: A record is a slice.
    """
    return _page(title, {"": records})


def _page(title: str, groups: Mapping[str, Mapping[str, LandscapeRecord]], top: float = np.inf) -> str:
    """Return a page with a part for each titled group of records, each on a scale of its own up to `top`."""
    parts = [
        _part(f"surfaces-{number}", heading, records, top)
        for number, (heading, records) in enumerate(groups.items(), start=1)
    ]
    page = environment().get_template("landscape.html.j2")
    return page.render(title=title, parts=parts, plotly=packed_plotly()) + "\n"


def _part(name: str, title: str, records: Mapping[str, LandscapeRecord], top: float) -> dict[str, Any]:
    """Return the values of a part."""
    levels = common_levels(records.values(), top=top)
    losses = [record.loss[0] for record in records.values()]
    seen = [
        Figure(f"{name}-contours-{number}", label or "The loss", "", "", contour_panel(record, levels))
        for number, (label, record) in enumerate(records.items(), start=1)
    ]
    return {
        "name": name,
        "title": title,
        "surfaces": [
            {"name": label, "figure": figure, "directions": records[label].directions}
            for label, figure in turning(records, top=top).items()
        ],
        "figures": seen,
        "uneven": is_uneven(levels),
        "cut": any((each[np.isfinite(each)] > levels[-1]).any() for each in losses),
        "top": short_number(float(levels[-1])),
        "drawn": inlined(seen),
        "texts": {label: str(record) for label, record in records.items()},
    }


def turning_pages(study: StudyRecord, groups: Mapping[str, Mapping[str, str]]) -> list[Page]:
    """Return the page on which the surfaces of groups of roles can be turned; none if nothing was measured.

    Args:
        study: Record of a study.
        groups: Label per role, for each figure.
    """
    measured = {titled(name, "Surfaces"): first_landscapes(study, roles) for name, roles in groups.items()}
    there = {title: records for title, records in measured.items() if records}
    title = "Surfaces to turn"
    return [Page("surfaces.html", title, _page(title, there, top_of(study)).encode())] if there else []
