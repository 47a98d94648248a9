"""Accuracy on the test set, of the last weights and of those that did best in validation."""

from __future__ import annotations

from collections.abc import Mapping

from gradscape.analysis.run_status import ended
from gradscape.records.run import StudyRecord
from gradscape.report.table_cells import seeds_ended, spread
from gradscape.report.tables import Table


def accuracies(study: StudyRecord, name: str, title: str, what: str, roles: Mapping[str, str]) -> Table:
    """A row for each role, labelled as `roles` says under the heading `what`."""
    rows = [
        (
            label,
            spread(study, role, tested(study, role, "last", "accuracy")),
            spread(study, role, tested(study, role, "best", "accuracy")),
            ", ".join(f"{epoch:g}" for epoch in tested(study, role, "best", "epoch").values()) or "–",
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


def tested(study: StudyRecord, role: str, which: str, field: str) -> dict[int, float]:
    """Seed → a number of the test with the last or the best-validation weights, of the role's ended runs."""
    return {
        seed: float(run.test[which][field]) for seed, run in ended(study, role).items() if which in run.test
    }
