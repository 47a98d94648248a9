"""Docstrings in reStructuredText: they are plain text with code between backticks, not markup."""

from __future__ import annotations

import re
from typing import Any

_ARRAY = re.compile(
    r"<em>numpy.ndarray</em><em>\[</em><em>tuple</em>.{0,80}?<em>numpy.dtype</em><em>\[</em><em>numpy.(\w+)</em>"
    r"<em>\]</em><em>\]</em>"
)
_CODE = re.compile(r"(`+)(.+?)\1")
_SPECIAL = re.compile(r"([\\*|]|_(?=\W|$)|\((?=\w\)))")  # "(L) …" would be an item of a list


def escape(_app: object, _what: str, _name: str, _thing: object, _options: Any, lines: list[str]) -> None:
    """Escape what reStructuredText would read as markup, in place; a listener of autodoc's event.

    Args:
        lines: Lines of a docstring, replaced in place.
    """
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith((">>>", "...")) or (in_example and bool(line.strip()))
        if not in_example:
            lines[number] = _escaped(line)


def shorten_types(_app: object, _page: str, _template: str, context: dict[str, Any], _: object) -> None:
    """Shorten the types of arrays in a page's HTML, in place; a listener of Sphinx's event.

    Args:
        context: Values of the page's template.
    """
    if "body" in context:
        context["body"] = _ARRAY.sub(r"<em>NDArray[\1]</em>", context["body"])


def _escaped(line: str) -> str:
    parts, last = [], 0
    for match in _CODE.finditer(line):
        parts += [_SPECIAL.sub(r"\\\1", line[last : match.start()]), f"``{match[2]}``"]
        last = match.end()
    return "".join([*parts, _SPECIAL.sub(r"\\\1", line[last:])])
