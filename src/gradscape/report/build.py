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

from gradscape.files import make_folder, make_inner, sweep_parts, write_bytes
from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, multiplicity
from gradscape.report.figures import Figure, render
from gradscape.report.page import page
from gradscape.report.tables import Table, to_csv, to_latex, to_markdown

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
        answer: paragraphs that answer it from the study and its checked claims.
        figures, tables, claims: drawn, filled and checked from the study's record.
        pages: beside it.
        multiplicity: how many tests were made, and what that does to the claims, in words.
    """

    answer: Callable[[StudyRecord, Sequence[Claim]], Sequence[str]]
    figures: Callable[[StudyRecord], Sequence[Figure]]
    tables: Callable[[StudyRecord], Sequence[Table]]
    claims: Callable[[StudyRecord], Sequence[Claim]]
    pages: Callable[[StudyRecord], Sequence[Page]] = lambda study: ()
    multiplicity: Callable[[StudyRecord, Sequence[Claim]], str] = lambda study, claims: multiplicity(claims)


def build(study: StudyRecord, parts: ReportParts, folder: Path) -> Path:
    """Write the report of `study` into `folder` and return its `index.html`.

    Args:
        study: what `gradscape.load` read; runs may be missing, unfinished or diverged.
        parts: what to draw, tabulate and claim.
        folder: made if it is not there; files of the same names are replaced, others left.

    Raises:
        StoreError: the folder cannot be written.

    Example:
        >>> build(gradscape.load("runs/batchnorm"), PARTS, Path("runs/batchnorm/report"))
    """
    make_folder(folder)
    sweep_parts(folder)
    for inner in (folder / "figures", folder / "tables"):
        make_inner(inner)
        sweep_parts(inner)
    figures, tables, claims = parts.figures(study), parts.tables(study), parts.claims(study)
    drawn = {figure.name: write_figure(figure, folder / "figures") for figure in figures}
    for table in tables:
        for ending, text in TABLE_FORMATS.items():
            write_bytes(folder / "tables" / f"{table.name}.{ending}", text(table).encode())
    write_bytes(folder / "claims.json", claims_json(study, claims))
    pages = parts.pages(study)
    for each in pages:
        write_bytes(folder / each.name, each.data)
    beside = {each.name: each.title for each in pages}
    title, tests = str(study.asked["title"]), parts.multiplicity(study, claims)
    html = page(study, title, parts.answer(study, claims), figures, drawn, tables, claims, beside, tests)
    write_bytes(folder / "index.html", html.encode())
    return folder / "index.html"


def write_figure(figure: Figure, folder: Path) -> str:
    """Write a figure's files; returns its SVG, which the page takes in."""
    files = render(figure)
    for ending, data in files.items():
        write_bytes(folder / f"{figure.name}.{ending}", data)
    return files["svg"].decode()


def claims_json(study: StudyRecord, claims: Sequence[Claim]) -> bytes:
    """Verdict, rule, numbers, n and interval of every part."""
    values = {"study": study.study, "preset": study.preset, "claims": [claim.to_dict() for claim in claims]}
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
