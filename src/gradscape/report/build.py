"""Write a study's report: figures, tables, claims and the page that shows them.

    FOLDER/figures/NAME.{svg,png,pdf}   FOLDER/tables/NAME.{csv,md,tex}
    FOLDER/claims.json                  FOLDER/NAME.html, pages beside the report
    FOLDER/index.html, written last: what it links to is there

Every file is written aside and renamed, and follows from the study alone: no date, no path, no order
that could change. So building again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradscape.analysis.claims import Claim, answer, multiplicity
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, render
from gradscape.report.pages.study import page
from gradscape.report.tables import Table, to_csv, to_latex, to_markdown
from gradscape.storage.files import make_folder, make_inner, sweep_parts, write_bytes

TABLE_FORMATS: Mapping[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Page:
    """A page beside the report's, which links to it.

    Attributes:
        name: of its file.
        title: of the link.
        data: HTML that asks for no other file.
    """

    name: str
    title: str
    data: bytes


@dataclass(frozen=True)
class ReportParts:
    """What a study puts into its report, under the title that its `study.json` has.

    Attributes:
        figures, tables, claims: drawn, filled and checked from the study's record.
        lead: Ids of the claims that answer the title's question: the report begins with their sentences.
        answer: Paragraphs to begin with instead, where claims do not answer the question.
        pages: beside it.
        epochs: whose gradient statistics it needs: those of all epochs, or of each run's last.
        multiplicity: how many tests were made, and what that does to the claims, in words.
    """

    figures: Callable[[StudyRecord], Sequence[Figure]]
    tables: Callable[[StudyRecord], Sequence[Table]]
    claims: Callable[[StudyRecord], Sequence[Claim]]
    lead: tuple[str, ...] = ()
    answer: Callable[[StudyRecord], Sequence[str]] | None = None
    pages: Callable[[StudyRecord], Sequence[Page]] = lambda study: ()
    epochs: Literal["all", "last"] = "all"
    multiplicity: Callable[[StudyRecord, Sequence[Claim]], str] = lambda study, claims: multiplicity(claims)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: Path of its `index.html`.
        claims: Claims that were checked, in the page's order.
    """

    page: Path
    claims: tuple[Claim, ...]


def build(study: StudyRecord, parts: ReportParts, folder: Path) -> Report:
    """Write the report of `study` into `folder`.

    Args:
        study: what `gradscape.load` read; runs may be missing, unfinished or diverged.
        parts: what to draw, tabulate and claim.
        folder: made if it is not there; files of the same names are replaced, others left.

    Raises:
        StoreError: the folder cannot be written.

    Example:
        >>> build(gradscape.load("runs/batchnorm"), PARTS, Path("runs/batchnorm/report")).page
    """
    make_folder(folder)
    sweep_parts(folder)
    for inner in (folder / "figures", folder / "tables"):
        make_inner(inner)
        sweep_parts(inner)
    figures, tables, claims = parts.figures(study), parts.tables(study), parts.claims(study)
    drawn = {figure.name: _write_figure(figure, folder / "figures") for figure in figures}
    for table in tables:
        for ending, text in TABLE_FORMATS.items():
            write_bytes(folder / "tables" / f"{table.name}.{ending}", text(table).encode())
    write_bytes(folder / "claims.json", _claims_json(study, claims))
    pages = parts.pages(study)
    for each in pages:
        write_bytes(folder / each.name, each.data)
    beside = {each.name: each.title for each in pages}
    title, tests = str(study.asked["title"]), parts.multiplicity(study, claims)
    lead = parts.answer(study) if parts.answer else answer(claims, parts.lead)
    html = page(study, title, lead, figures, drawn, tables, claims, beside, tests)
    write_bytes(folder / "index.html", html.encode())
    return Report(folder / "index.html", tuple(claims))


def _write_figure(figure: Figure, folder: Path) -> str:
    """Write a figure's files; returns its SVG, which the page takes in."""
    files = render(figure)
    for ending, data in files.items():
        write_bytes(folder / f"{figure.name}.{ending}", data)
    return files["svg"].decode()


def _claims_json(study: StudyRecord, claims: Sequence[Claim]) -> bytes:
    """Verdict, rule, numbers, n and interval of every part."""
    values = {"study": study.study, "preset": study.preset, "claims": [claim.to_dict() for claim in claims]}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
