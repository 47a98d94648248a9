"""Report of a study: figures, tables, claims and the page that shows them.

    FOLDER/figures/NAME.{svg,png,pdf}   FOLDER/tables/NAME.{csv,md,tex}
    FOLDER/claims.json                  FOLDER/NAME.html, pages beside the report
    FOLDER/index.html, written last: what it links to is there. Until then it says that the report is not done

Every file is written aside and renamed, and follows from the study alone: no date, no path, no order
that could change. Building again gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradscape.analysis.claims import Claim, answer, multiplicity
from gradscape.errors import ConfigError, brief
from gradscape.records.run import StudyRecord
from gradscape.report.drawing import Files, rendering
from gradscape.report.figures.base import Figure
from gradscape.report.interactive.study import Reader
from gradscape.report.pages.overview import Overview
from gradscape.report.pages.study import study_page
from gradscape.report.tables import Table, to_csv, to_latex, to_markdown
from gradscape.storage.files import (
    make_folder,
    make_inner,
    reading,
    refuse_foreign,
    refuse_link,
    sweep_parts,
    there,
    write_bytes,
)

_MARK = b'<meta name="generator" content="gradscape">'
# Shows the folder to be ours, so that the same command may go on after it was interrupted.
_UNFINISHED = (
    b'<!doctype html><meta charset="utf-8">'
    + _MARK
    + b"<title>Not done</title><p>This report is being built. "
    + b"If that was interrupted, give the same command again."
)
FILE_NAME = re.compile(r"\w[\w.-]{0,99}")
TABLE_FORMATS: Mapping[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Page:
    """A page that the report links to.

    Attributes:
        name: Name of its file.
        title: Title of the link.
        data: HTML that loads no other file.
    """

    name: str
    title: str
    data: bytes


@dataclass(frozen=True)
class ReportParts:
    """Contents of a study's report, under the title in its `study.json`.

    Attributes:
        figures, tables, claims: Functions from the study's record to what is drawn, filled and checked.
        lead: Ids of the claims that answer the title's question: the report begins with their sentences.
        answer: Paragraphs to begin with instead, where claims do not answer the question.
        pages: Function to the pages that the report links to.
        epochs: Epochs whose gradient statistics it needs: all, or each run's last.
        multiplicity: Function to a text on the number of tests, and its effect on the claims.
        overview: Roles of the first figure, which answers the question at a glance; None for none.
        paper: Title and source of the paper that the study reproduces, from which runs may depart; or empty.
    """

    figures: Callable[[StudyRecord], Sequence[Figure]]
    tables: Callable[[StudyRecord], Sequence[Table]]
    claims: Callable[[StudyRecord], Sequence[Claim]]
    lead: tuple[str, ...] = ()
    answer: Callable[[StudyRecord], Sequence[str]] | None = None
    pages: Callable[[StudyRecord], Sequence[Page]] = lambda study: ()
    epochs: Literal["all", "last"] = "all"
    multiplicity: Callable[[StudyRecord, Sequence[Claim]], str] = lambda study, claims: multiplicity(claims)
    overview: Overview | None = None
    paper: str = ""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: Path of its `index.html`.
        claims: Claims that were checked, in the page's order.
    """

    page: Path
    claims: tuple[Claim, ...]


def require_own(folder: Path) -> None:
    """Refuse a folder for a report that holds anything but an earlier one.

    Args:
        folder: Path of the folder; it need not be there.

    Raises:
        StoreError: The folder holds something else, or cannot be read.
    """
    page = folder / "index.html"
    with reading(folder):
        own = page.is_file() and _MARK in page.read_bytes()[:1_000]
    if not own:
        refuse_foreign(folder, "report")


def build(study: StudyRecord, parts: ReportParts, folder: Path, reader: Reader | None = None) -> Report:
    """Write the report of `study` into `folder`.

    Args:
        study: Record that `gradscape.load` returned; runs may be missing, unfinished or diverged.
        parts: Contents of the report.
        folder: Path of the folder, made if it is not there; files of the same names are replaced, others
            left.
        reader: Function that reads a run with the gradients of every epoch, where `study` has only the last.

    Raises:
        ConfigError: Two figures, tables or claims have one name, or a figure's or table's is no file's.
        StoreError: The folder cannot be written.

    Example:
        >>> build(gradscape.load("runs/batchnorm"), PARTS, Path("runs/batchnorm/report")).page
    """
    make_folder(folder)
    sweep_parts(folder)
    for inner in (folder / "figures", folder / "tables"):
        refuse_link(inner)
    figures = parts.figures(study)
    _require_own_names("figures", [figure.name for figure in figures])
    with rendering(figures) as files_of:
        tables, claims, pages = parts.tables(study), parts.claims(study), parts.pages(study)
        _require_own_names("tables", [table.name for table in tables])
        _require_own_names("claims", [claim.id for claim in claims])
        _begin(folder)
        for table in tables:
            for ending, text in TABLE_FORMATS.items():
                write_bytes(folder / "tables" / f"{table.name}.{ending}", text(table).encode())
        write_bytes(folder / "claims.json", _claims_json(study, claims))
        for each in pages:
            write_bytes(folder / each.name, each.data)
        drawn = {each.name: _write_figure(each.name, files_of(each), folder / "figures") for each in figures}
    beside = {each.name: each.title for each in pages}
    title, tests = str(study.asked["title"]), parts.multiplicity(study, claims)
    lead = parts.answer(study) if parts.answer else answer(claims, parts.lead)
    html = study_page(
        study, title, lead, figures, drawn, tables, claims, beside, tests, parts.overview, reader, parts.paper
    )
    write_bytes(folder / "index.html", html.encode())
    return Report(folder / "index.html", tuple(claims))


def _begin(folder: Path) -> None:
    """Make the folders of figures and tables, behind a page by which the report's own is known."""
    if not there(folder / "index.html"):
        write_bytes(folder / "index.html", _UNFINISHED)
    for inner in (folder / "figures", folder / "tables"):
        make_inner(inner)
        sweep_parts(inner)


def _require_own_names(what: str, names: Sequence[str]) -> None:
    """Refuse two figures, tables or claims of one name, and a figure's or table's that is no file's."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(
            f"{what}: two are named {twice[0]!r}; give each a name of its own in the study's file and type: "
            "gradscape report DIR --study FILE.py:STUDY"
        )
    for name in names if what != "claims" else ():
        if not FILE_NAME.fullmatch(name):
            raise ConfigError(
                f"{what}: {brief(name)} names files; expected up to 100 letters, digits, '-', '_' and '.'"
            )


def _write_figure(name: str, files: Files, folder: Path) -> str:
    """Write a figure's files; return its SVG for the page."""
    for ending, data in files.items():
        write_bytes(folder / f"{name}.{ending}", data)
    return files["svg"].decode()


def _claims_json(study: StudyRecord, claims: Sequence[Claim]) -> bytes:
    """JSON with verdict, rule, numbers, n and interval of every part."""
    values = {"study": study.study, "preset": study.preset, "claims": [claim.to_dict() for claim in claims]}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
