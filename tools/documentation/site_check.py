"""Check of the built site: every link within it leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "link": "href"}
_IN_STYLE = re.compile(r"""url\(\s*['"]?(https?:)?//|@import\s+['"](https?:)?//""")


class _Reader(HTMLParser):
    """Links, loaded things and anchors of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a tag refers to and what it is called."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in _LOADED and _LOADED[tag] in values and values.get("rel") not in ("index", "canonical"):
            self.loaded.append(values[_LOADED[tag]])


@cache
def _read(page: Path) -> _Reader:
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def complaints(site: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere and each thing that is loaded from elsewhere.

    Args:
        site: Folder of the built site.
    """
    for page in sorted(site.rglob("*.html")):
        name, read = page.relative_to(site), _read(page)
        for target in {*read.links, *read.loaded}:
            if urlsplit(target).scheme or target.startswith("//"):
                if target in read.loaded and not target.startswith("data:"):
                    yield f"{name}: loads {target} from elsewhere"
            elif not _leads(page, target):
                yield f"{name}: nothing is at {target}"
    for sheet in sorted(site.rglob("*.css")):
        if _IN_STYLE.search(sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(site)}: loads something from elsewhere"


def _leads(page: Path, target: str) -> bool:
    """Return whether a link within the site leads to a file, and to a place in it."""
    parts = urlsplit(unescape(target))
    file = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not file.is_file():
        return False
    if not parts.fragment or file.suffix != ".html":
        return True
    return unquote(parts.fragment) in _read(file).anchors
