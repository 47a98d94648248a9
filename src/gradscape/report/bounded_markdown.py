"""Markdown of bounded length: texts are escaped; of what does not fit the gravest is kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gradscape._text import count_noun, strip_controls

MOST = 8_000  # bytes in UTF-8
JOINER = "\u2060"  # has no width: it parts what GitHub would make a link or call somebody by
_RESERVED = 300  # bytes for the line on what was left out
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINKS = re.compile(r"(@|:(?=//)|\bwww(?=\.))", re.IGNORECASE)
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "\\`*_[]|~$#"},
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}


def escape(text: object, most: int = 400) -> str:
    r"""Return a text for the inside of a line, with nothing in it that Markdown or HTML would obey.

    Args:
        text: Text of anybody; what breaks lines becomes a space.
        most: Number of bytes of the result, at most.

    Example:
        >>> escape("a|b <script>\n# c")
        'a\\|b &lt;script&gt; \\# c'
    """
    line = strip_controls(_SURROGATES.sub("\ufffd", " ".join(str(text).split())))
    pieces = [_SPECIAL.get(sign, sign) for sign in _LINKS.sub(rf"\1{JOINER}", line)]
    if sum(map(_size, pieces)) <= most:
        return "".join(pieces)
    room, kept = most - _size("…"), list[str]()
    for piece in pieces:
        room -= _size(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept).rstrip() + "…"


def row(*cells: str) -> str:
    """Return a row of a table.

    Args:
        cells: Texts of the cells, escaped.
    """
    return f"| {' | '.join(cells)} |"


def header(*columns: str) -> str:
    """Return the first two lines of a table.

    Args:
        columns: Headings; those that end in a colon stand right.
    """
    rules = ["---:" if column.endswith(":") else ":---" for column in columns]
    return f"{row(*(column.rstrip(':') for column in columns))}\n{row(*rules)}"


@dataclass(frozen=True)
class Item:
    """Piece of a section that is kept or left out as a whole.

    Attributes:
        text: Lines in Markdown.
        rank: Rank among all pieces of the report: the lower, the sooner it is kept.
        noun: Word for one of them, where it is counted when left out.
    """

    text: str
    rank: float
    noun: str = "line"


@dataclass(frozen=True)
class Section:
    """Part of a report under a heading of its own.

    Attributes:
        heading: Heading with its signs, as `## Notes`; empty for none.
        items: Pieces in the order in which they stand.
        table: Header of the table whose rows the items are; empty where they are no rows.
    """

    heading: str
    items: Sequence[Item]
    table: str = ""

    @property
    def opening(self) -> str:
        """Text before the first item."""
        return "".join(f"{part}\n\n" for part in (self.heading,) if part) + (
            f"{self.table}\n" if self.table else ""
        )


def bounded(sections: Sequence[Section], most: int = MOST) -> str:
    """Return a report; of what has no room in it the pieces of the lowest ranks are kept.

    A piece that does not fit takes those of its section along that rank behind it.

    Args:
        sections: Sections in order.
        most: Number of bytes, at most.
    """
    order = sorted(
        ((item.rank, place, number) for place, section in enumerate(sections)
         for number, item in enumerate(section.items)),
    )  # fmt: skip
    room, kept, full, left = most - _RESERVED, dict[int, set[int]](), set[int](), Counter[str]()
    for _, place, number in order:
        section, item = sections[place], sections[place].items[number]
        cost = _size(item.text) + 1 + (0 if place in kept else _size(section.opening) + 1)
        if place in full or cost > room:
            full.add(place)
            left[item.noun] += 1
            continue
        room -= cost
        kept.setdefault(place, set()).add(number)
    parts = []
    for place, section in enumerate(sections):
        items = "\n".join(section.items[number].text for number in sorted(kept.get(place, ())))
        parts += [f"{section.opening}{items}".rstrip("\n") + "\n"] if items else []
    return "\n".join([*parts, *_omission(left, most)])


def _omission(left: Counter[str], most: int) -> list[str]:
    """Return the line on what was left out, in a list; an empty list where nothing was."""
    if not left:
        return []
    words = ", ".join(count_noun(number, noun) for noun, number in left.items())
    return [f"Left out, to stay within {most:,} bytes: {words}.\n"]


def _size(text: str) -> int:
    return len(text.encode())
