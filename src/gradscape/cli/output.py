"""Printing of records, as text or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradscape._printing import print_stderr
from gradscape._text import strip_controls

if TYPE_CHECKING:
    from pathlib import Path

    from gradscape._codec import Record


def to_json(values: object) -> str:
    """Return plain values as JSON for a person or a program.

    Args:
        values: Plain values.
    """
    return json.dumps(values, indent=1, ensure_ascii=False)


def print_record(record: Record, as_json: bool) -> None:
    """Print a record.

    Args:
        record: Record of a measurement.
        as_json: True for all of its values as JSON, False for its text.
    """
    print(to_json(record.to_dict()) if as_json else strip_controls(str(record)))


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
