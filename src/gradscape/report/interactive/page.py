"""The page with scripts: with its data in it a file of its own, without them it asks the server for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from markupsafe import Markup

from gradscape.report.interactive.runs import run_row
from gradscape.report.templates import environment

SHADES = 64  # colors of a map


def training_page(document: Mapping[str, Any], title: str) -> str:
    """Return the page of one training, with its data; the same arguments give the same text.

    Args:
        document: Result of `watch_document` or `run_document`.
        title: Title of the window.
    """
    row = run_row(document.get("id", ""), document.get("name", ""), state=document.get("state", ""))
    return _page(title, [row], {row["id"]: document}, shown=[document])


def live_page(title: str, runs: Sequence[Mapping[str, Any]], nonce: str, **more: Any) -> str:
    """Return the page that asks a server for all but the runs.

    Args:
        title: Title of the window.
        runs: Rows of the runs, see `run_row`.
        nonce: Word that the server's policy asks of scripts.
        more: Values of the page: `claims`, `events`; `unread`, number of runs still to be read, at least.
    """
    return _page(title, runs, {}, nonce=nonce, live=True, **more)


def runs_page(title: str, study: Mapping[str, Any]) -> str:
    """Return the page of a study's runs, with their data; the same arguments give the same text.

    Args:
        title: Title of the window.
        study: Result of `study_values`.
    """
    known = {name: value for name, value in study.items() if name not in ("runs", "trainings")}
    return _page(title, study["runs"], study["trainings"], **known)


def _page(
    title: str,
    runs: Sequence[Mapping[str, Any]],
    trainings: Mapping[str, Mapping[str, Any]],
    nonce: str = "",
    shown: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> str:
    """Return the page; `shown` are the trainings that browsers without scripts have instead of the runs."""
    page = environment().get_template("training.html.j2")
    data = page_data(title, runs=runs, trainings=trainings, **more)
    text = page.render(
        title=title,
        runs=runs,
        trainings=shown,
        data=data,
        nonce=nonce,
        notes=more.get("notes"),
        unread=more.get("unread"),
    )
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair in a name


def page_data(title: str, **values: Any) -> Markup:
    """Return the values that a page's script reads, as JSON for a script element.

    Args:
        title: Title of the runs.
        values: `runs`, `trainings`; `layouts`, `comparisons` and `notes` of a study; `claims` and `events`;
            `live`, True if a server is to be asked; `report`, number of claims of the report that the page
            begins with.
    """
    none: dict[str, Any] = {
        "runs": [],
        "trainings": {},
        "layouts": [],
        "comparisons": {},
        "notes": [],
        "claims": [],
        "events": [],
        "unread": 0,
    }
    return inlined({"title": title, "live": False, "report": None, "colors": _colors(), **none, **values})


def inlined(data: Mapping[str, Any]) -> Markup:
    """Return JSON that ends no script element, whatever texts are in it.

    Args:
        data: Plain values.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache
def _colors() -> dict[str, list[list[int]]]:
    """Return (red, green, blue) tables of the maps' colors: sizes, and cosines about 0."""
    from matplotlib import colormaps

    tables = {"size": colormaps["viridis"], "cosine": colormaps["RdBu"]}
    places = [number / (SHADES - 1) for number in range(SHADES)]
    return {
        name: [[round(255 * channel) for channel in colors(place)[:3]] for place in places]
        for name, colors in tables.items()
    }
