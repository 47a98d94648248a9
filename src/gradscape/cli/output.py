"""Printing of records, as text or in a form for programs."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscape._codec import json_text
from gradscape._printing import print_stderr
from gradscape._text import strip_controls
from gradscape.config.fields import option
from gradscape.config.options import FilePath, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape._codec import Record


@dataclass(frozen=True, kw_only=True)
class Form(Options):
    """Form of a verdict: its text, or one for programs."""

    json: bool = option(False, "everything as JSON: gradscape schema prints what is in it")
    markdown: bool = option(False, "a report of 8,000 bytes at most, for an issue or an assistant")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chosen()

    def chosen(self, other: str = "text") -> str:
        """Return `json`, `markdown`, or another form.

        Args:
            other: Form that another flag names; `text` for none.

        Raises:
            ConfigError: Several are asked for.
        """
        asked = [name for name in ("json", "markdown") if getattr(self, name) and name != other]
        named = [*(f"--{name}" for name in asked), *([f"--format {other}"] if other != "text" else [])]
        if len(named) > 1:
            raise ConfigError(f"{named[0]}: expected one form; got {' and '.join(named)}")
        return asked[0] if asked else other


def to_json(values: object) -> str:
    """Return plain values as JSON for a person or a program.

    Args:
        values: Plain values.
    """
    return json_text(values)


def prints_aside() -> redirect_stdout[Any]:
    """Return a context in which what a user's code prints goes to standard error: it is no result."""
    return redirect_stdout(sys.stderr)


def print_record(record: Record, as_json: bool) -> None:
    """Print a record.

    Args:
        record: Record of a measurement.
        as_json: True for all of its values as JSON, False for its text.
    """
    print(to_json(record.to_dict()) if as_json else strip_controls(str(record)))


def print_text(text: str) -> None:
    """Print a text of several lines as it is, and one newline at its end.

    Args:
        text: Text without anything that a terminal obeys.
    """
    print(text.rstrip("\n"), flush=True)


def save_text(flag: str, file: FilePath, text: str) -> None:
    """Write a file as a whole, and print where it is.

    Args:
        flag: Flag that names the file, for messages.
        file: Path of the file.
        text: Contents.

    Raises:
        ConfigError: The file cannot be written.
    """
    from gradscape.storage.files import replace_bytes

    path = Path(file)
    try:
        replace_bytes(path, f"{text.rstrip(chr(10))}\n".encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(f"{flag}: cannot write {path}: {error.strerror}; give another place") from error
    print_stderr(f"written: {path}")


def save_page(record: Record, file: Path | str | None) -> None:
    """Write the page of a record, and print where it is.

    Args:
        record: Record of a measurement.
        file: Path of the page; None for none.

    Raises:
        StoreError: The page cannot be written.
    """
    if file:
        from gradscape.report.pages.save import save_html

        print_stderr(f"page: {save_html(record, file)}")
