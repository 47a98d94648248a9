"""Command that compares two trainings: runs, or the logs of watches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.output import print_record, save_page
from gradscape.config.fields import option
from gradscape.config.options import FilePath, Options, checked_path

TRAINING = "folder of a run or a watch, or a file that JsonLines wrote"


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """Other seeds of both trainings, and form of what is printed."""

    seeds_of_a: tuple[str, ...] = option((), "other seeds of A")
    seeds_of_b: tuple[str, ...] = option((), "other seeds of B")
    page: FilePath | None = option(None, "file for an HTML page with a figure")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--page", self.page, ".html")


def compare(
    a: Annotated[str, Parameter(name="A", help=TRAINING)],
    b: Annotated[str, Parameter(name="B", help=TRAINING)],
    /,
    *,
    options: Annotated[CompareOptions, FLAT] = CompareOptions(),
) -> int:
    """Find where two trainings first differ beyond what seeds explain.

    Args:
        a, b: Path of the folder of a run or a watch, or of a file that `JsonLines` wrote.
        options: Other seeds, and form of what is printed.

    Returns:
        1 if they differ, else 0.

    Raises:
        ConfigError: One is a study, or they have no step in common.
        StoreError: A folder or file cannot be read, or is damaged.
    """
    from gradscape.analysis.comparison import compare as measure

    sides = [[_read("A", a)], [_read("B", b)]]
    sides[0] += [_read("--seeds-of-a", each) for each in options.seeds_of_a]
    sides[1] += [_read("--seeds-of-b", each) for each in options.seeds_of_b]
    comparison = measure(sides[0][0], sides[1][0], sides[0][1:], sides[1][1:])
    print_record(comparison, options.json)
    save_page(comparison, options.page)
    return int(comparison.differs)


def _read(name: str, text: str) -> Any:
    """Return the record of a run, the history of a watch, or the rows of a file."""
    path = checked_path(text, name)
    if Path(path).is_file():
        from gradscape.integrations import read_jsonl

        return read_jsonl(path)
    from gradscape.storage.study_folder import load

    return load(path)
