"""What a sweep's report shows: the points and what became of their runs."""

from __future__ import annotations

from gradscape.records import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.runs import counted
from gradscape.report.tables import Table


def points(study: StudyRecord) -> Table:
    rows = tuple((role, str(len(study.of(role))), counted(study, role)) for role in study.roles)
    return Table(
        "points", "Points", "Runs of each point.", ("point", "runs", ""), rows, ("left", "right", "left")
    )


PARTS = ReportParts(
    question="Sweep",
    answer=lambda study, claims: [str(study)],
    figures=lambda study: (),
    tables=lambda study: (points(study),),
    claims=lambda study: (),
)
