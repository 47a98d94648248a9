"""Tables of docs/statistics.md: how often intervals cover, and claims and looks are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tables import RESULTS, result

SEEDS = ("2", "3", "5")


def simulated() -> Any:
    return result(f"{RESULTS}/intervals.json")


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def right(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 0) -> str:
    """A table whose columns but the first so many are numbers."""
    marks = ["---"] * words + ["---:"] * (len(head) - words)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def coverage() -> str:
    rows = [(kind, *(percent(found[n]) for n in SEEDS)) for kind, found in simulated()["coverage"].items()]
    return right(("values", *(f"n = {n}" for n in SEEDS)), rows, words=1)


def claim_errors() -> str:
    rows = [
        (
            str(row["parts"]),
            str(row["n"]),
            percent(row["wrong, all null"], 1),
            percent(row["wrong, one null"], 1),
            percent(row["holds"]),
            percent(row["does not hold"]),
        )
        for row in simulated()["claims"]
    ]
    head = (
        "parts", "n", "wrong, all null", "wrong, one null", '"holds" where all hold',
        '"does not hold" where one does not',
    )  # fmt: skip
    return right(head, rows)


def looks() -> str:
    found = simulated()
    rows = [
        (
            str(row["fewest"]) if row["fewest"] == row["most"] else f"{row['fewest']} … {row['most']}",
            f"{100 * row['level']:.5g} %",
            percent(row["wrong"], 1),
            percent(row["wrong, skewed"]),
        )
        for row in found["looks"]
    ]
    head = ("looks at n =", "level of each", "decided wrongly", "with skewed differences")
    two, three, one, one_look = (percent(share) for share in found["power"].values())
    return (
        f"{right(head, rows, words=1)}\n\n"
        "Where the true difference is two standard deviations of the paired differences, looks at 2 to 10 "
        f"seeds find\nit in {two}; where it is three, in {three}; where it is one, looks at 3 to 8 in {one}, "
        f"one look at 8 in {one_look}."
    )
