"""Scripts of the gallery, in its order, and what each must print."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from places import GALLERY

from gradscape.records.diagnosis import GRADES


@dataclass(frozen=True)
class Entry:
    """Script of the gallery.

    Attributes:
        path: Its path.
        about: What it is about: a heading of the gallery.
        prints: Texts that it must print.
    """

    path: Path
    about: str
    prints: tuple[str, ...]

    @property
    def docstring(self) -> str:
        """Title, an empty line, and what is seen."""
        return ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8"))) or ""

    @property
    def slug(self) -> str:
        """Name of its page."""
        return self.path.stem.replace("_", "-")

    @property
    def title(self) -> str:
        """First line of the docstring."""
        return self.docstring.partition("\n")[0]

    @property
    def code(self) -> str:
        """Source below the docstring."""
        text = self.path.read_text(encoding="utf-8")
        lines = text.splitlines()[ast.parse(text).body[0].end_lineno :]
        return "\n".join(lines).strip()

    @property
    def verdicts(self) -> list[str]:
        """Verdicts of a fault that it must print."""
        words = [text.rpartition(": ")[2].partition(",")[0] for text in self.prints]
        return [word for word in words if GRADES.get(word, "info") != "info"]


@cache
def entries() -> tuple[Entry, ...]:
    """Return the scripts in the gallery's order."""
    given = yaml.safe_load((Path(__file__).parent / "gallery.yaml").read_text(encoding="utf-8"))
    return tuple(
        Entry(GALLERY / f"{name}.py", about, tuple(prints))
        for about, scripts in given.items()
        for name, prints in scripts.items()
    )
