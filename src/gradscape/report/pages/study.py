"""Page of a study: figures as inline SVG, tables and claims, which need no script; and its runs.

Nothing is loaded from elsewhere. With scripts the runs are sorted, opened and compared as on the live page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from gradscape._text import apart
from gradscape.analysis.claims import Claim, Evidence
from gradscape.analysis.outcomes import describe_status, seeds_in_words
from gradscape.records.role import Role, identities, roles_by_run
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import Figure
from gradscape.report.interactive.forest import forest
from gradscape.report.interactive.page import page_data
from gradscape.report.interactive.study import Reader, study_values
from gradscape.report.pages.overview import Overview, drawn_overview
from gradscape.report.svg import inline_svg
from gradscape.report.tables import Table
from gradscape.report.templates import environment

ROWS = 60  # most rows of a table on the page: its files have all
BADGES = {"holds": "✓", "does not hold": "✕", "undecided": "?", "not testable": "∅", "not measured": "–"}


def study_page(
    study: StudyRecord,
    question: str,
    answer: Sequence[str],
    figures: Sequence[Figure],
    drawn: Mapping[str, str],
    tables: Sequence[Table],
    claims: Sequence[Claim],
    beside: Mapping[str, str] = MappingProxyType({}),
    multiplicity: str = "",
    overview: Overview | None = None,
    reader: Reader | None = None,
    paper: str = "",
) -> str:
    """Return the report's page as HTML; the same arguments give the same text.

    Args:
        study: Record of the study, for runs, notes and versions.
        question: Title of the page.
        answer: Paragraphs; the first is the answer in a sentence.
        figures: Figures in order; neighbors of one group stand together.
        drawn: Text of the SVG file per figure name.
        tables: Tables in order.
        claims: Claims in order.
        beside: Title per file name of pages to link to.
        multiplicity: Number of tests that were made, in words.
        overview: Roles of the first figure; None for none.
        reader: Function that reads a run with the gradients of every epoch, where `study` has only the last.
        paper: Paper from which the runs may depart.

    Example:
        >>> html = study_page(study, "Why?", ["Because."], [], {}, [], [])
    """
    runs = study_values(study, reader)
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            paper=paper,
            question=question,
            answer=answer,
            groups=[(name, list(members)) for name, members in groupby(figures, key=lambda one: one.group)],
            drawn={name: Markup(inline_svg(svg, name)) for name, svg in drawn.items()},
            tables=tables,
            claims=claims,
            beside=beside,
            badges=BADGES,
            multiplicity=multiplicity,
            overview=overview and drawn_overview(study, overview),
            summary=_summary(study),
            rows=ROWS,
            runs=_run_rows(study),
            provenance=_provenance(study),
            shown=_shown,
            forest=forest,
            data=page_data(question, **runs, report=len(claims)),
            nonce="",
        )
    )
    return text.encode("utf-8", "replace").decode() + "\n"  # half a surrogate pair in a name


def _summary(study: StudyRecord) -> list[str]:
    """Preset, data, seeds and number of runs that are done."""
    asked = identities(study.roles)
    done = sum(identity in study.runs and study.runs[identity].state == "done" for identity in asked)
    seeds = [len(role.runs) for role in study.roles.values()] or [0]
    return [
        f"{'sweep' if study.study == 'sweep' else 'preset'} {study.preset}",
        f"data {study.asked.get('data', '–')}",
        *({study.asked.get("precision", "fp32")} - {"fp32"}),
        seeds_in_words(seeds),
        f"{done} of {len(asked)} runs done",
    ]


def _run_rows(study: StudyRecord) -> list[dict[str, str]]:
    """Rows of the table of runs, one line each; in a long one those that are not done come first."""
    roles = roles_by_run(study.roles)
    there = [_run_row(run, roles.get(run.identity, [])) for run in study.runs.values()]
    empty = {"roles": "", "seed": "", "state": describe_status(None), "epochs": "", "minutes": ""}
    rows = there + [{"run": identity, **empty} for identity in roles if identity not in study.runs]
    return sorted(rows, key=lambda row: row["state"] == "done") if len(rows) > ROWS else rows


def _run_row(run: RunRecord, roles: Sequence[Role]) -> dict[str, str]:
    return {
        "run": run.identity,
        "roles": ", ".join(role.name for role in roles),
        "seed": str(run.seed),
        "state": describe_status(run) or run.state,
        "epochs": f"{len(run.epochs)} of {run.config['epochs']}",
        "minutes": f"{sum(run.curve('seconds')) / 60:.1f}",
    }


ENVIRONMENT = (
    "versions",
    "device",
    "processor",
    "threads",
    "computed_in",
    "fallback",
    "fused",
    "host",
    "attempts",
)


def _provenance(study: StudyRecord) -> list[tuple[str, str]]:
    """Values of the runs' status on where they ran: every distinct one, in the order of the runs."""
    found: dict[str, dict[str, None]] = {}
    for run in study.runs.values():
        for name in ENVIRONMENT:
            if run.status.get(name):
                found.setdefault(name, {})[_worded(run.status[name])] = None
    return [(name.replace("_", " "), "; ".join(values)) for name, values in found.items()]


def _worded(value: Any) -> str:
    """Return a status value in words: `torch 2.13.0, numpy 2.4.6` for a mapping."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    return str(value)


def _shown(part: Evidence) -> list[tuple[int, str]]:
    """Seeds and their numbers in text."""
    return [(seed, apart(value, part.limits)) for seed, value in part.numbers]
