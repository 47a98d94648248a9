"""Cells of a table about a study's roles: the paper's notation, with an interval over seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from gradscape.analysis.outcomes import Final, count_states, ended, final, members, window
from gradscape.records.run import StudyRecord
from gradscape.report.tables import Table, bracketed
from gradscape.stats.student_t import Interval, interval

BRACKET = "The bracket is the standard deviation over those epochs in units of the last digit"


def ours(study: StudyRecord, role: str, field: str) -> str:
    """Return a cell in the paper's notation: mean over seeds, jitter over epochs, ± 95 % interval over seeds.

    Args:
        study: Record of a study.
        role: Name of the role.
        field: Name of an `EpochRecord` field.
    """
    ends = {seed: final(run, field) for seed, run in ended(study, role).items() if run.state == "done"}
    return spread(study, role, {seed: end.mean for seed, end in ends.items()}, _jitter(list(ends.values())))


def beside_paper(study: StudyRecord, role: str, fields: Iterable[str], paper: Iterable[str]) -> list[str]:
    """Return cells of a row: each field's, and the paper's beside it.

    Args:
        study: Record of a study.
        role: Name of the role.
        fields: Names of `EpochRecord` fields.
        paper: Cell of the paper for each field.
    """
    pairs = zip(fields, paper, strict=True)
    return [cell for field, theirs in pairs for cell in (ours(study, role, field), theirs)]


def beside_paper_headings(names: Iterable[str]) -> list[str]:
    """Return headings of such cells: each name, and the same of the paper.

    Args:
        names: Names of the columns.
    """
    return [text for name in names for text in (name, f"{name} (paper)")]


def spread(study: StudyRecord, role: str, values: Mapping[int, float], deviation: float | None = None) -> str:
    """Return mean (with its bracket) and interval of a role's numbers, or why there are none.

    Args:
        study: Record of a study.
        role: Name of the role.
        values: Number per seed.
        deviation: Standard deviation over epochs, for the bracket.
    """
    if not values:
        return count_states(study, role) or "–"
    found = interval(list(values.values()))
    return bracketed(found.mean, deviation) + plus_minus(found, ".3f")


def with_interval(study: StudyRecord, role: str, values: Sequence[float]) -> str:
    """Return mean and 95 % interval of a role's numbers of any size, or why there are none.

    Args:
        study: Record of a study.
        role: Name of the role.
        values: Numbers, one per seed; those that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return count_states(study, role) or "–"
    over = interval(finite)
    return _decimal(f"{over.mean:.3g}") + _decimal(plus_minus(over, ".2g"))


def _decimal(text: str) -> str:
    """Write a number below a million without an exponent: 170 for 1.7e+02."""
    return re.sub(r"\d(?:\.\d+)?e\+0[0-5]", lambda number: f"{float(number[0]):.0f}", text)


def plus_minus(found: Interval, form: str) -> str:
    """Return the text after a mean: half its interval, never as 0, or that several values are all equal.

    Equal values are no proof that the next would be: there is no interval to make of them.

    Args:
        found: Interval over seeds.
        form: Format of the number, such as `.3f`.
    """
    if found.half is None:
        return f" (all {found.n} equal)" if found.n > 1 else ""
    text = format(found.half, form)
    return f" ± {text if float(text) else format(found.half, '.1g')}"


def _jitter(ends: Sequence[Final]) -> float | None:
    """Root mean square over seeds of the deviation over epochs."""
    known = [end.deviation for end in ends if end.deviation is not None]
    return math.sqrt(fmean([deviation**2 for deviation in known])) if known else None


def averaged(study: StudyRecord, roles: Sequence[str]) -> str:
    """Return the description of such cells, with the number of epochs in their means.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    return (
        f"{window(study, roles).capitalize()} and over seeds. {BRACKET}; ± is the 95 % interval over seeds "
        "(Student t). The paper has one seed."
    )


def seeds_ended(study: StudyRecord, role: str) -> str:
    """Return the number of runs that are done, of all.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    runs = members(study, role)
    done = sum(run is not None and run.state == "done" for run in runs.values())
    return f"{done} of {len(runs)}"


def accuracies(study: StudyRecord, name: str, title: str, what: str, roles: Mapping[str, str]) -> Table:
    """Return a table of test accuracy, a row for each role.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the table.
        what: Heading of the rows.
        roles: Label per role.
    """
    rows = [
        (
            label,
            spread(study, role, _tested(study, role, "last", "accuracy")),
            spread(study, role, _tested(study, role, "best", "accuracy")),
            ", ".join(f"{epoch:g}" for epoch in _tested(study, role, "best", "epoch").values()) or "–",
            seeds_ended(study, role),
        )
        for role, label in roles.items()
    ]
    columns = (what, "last weights", "best-validation weights", "best epoch, by seed", "seeds")
    caption = (
        "Accuracy on the test set; ± is the 95 % interval over seeds (Student t). "
        "Rows that share runs repeat their numbers."
    )
    return Table(name, title, caption, columns, tuple(rows), words=(what,))


def _tested(study: StudyRecord, role: str, which: str, field: str) -> dict[int, float]:
    """Seed → a number of the test with the last or the best-validation weights, of the ended runs."""
    return {
        seed: float(run.test[which][field]) for seed, run in ended(study, role).items() if which in run.test
    }
