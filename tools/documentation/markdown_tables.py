"""Tables of Markdown for pages that are made from the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown.

    Args:
        head: Heading of each column.
        rows: Cells of each row.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Return a text as a cell of a table: on one line, its bars escaped.

    Args:
        text: Text, which may be Markdown.
    """
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return a text as code in Markdown; an empty one stays empty.

    Args:
        text: Text or number.
    """
    return f"`{text}`" if str(text) else ""
