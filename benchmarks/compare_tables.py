"""Tables of docs/seeing.md on two trainings compared: false alarms, and changes that are named."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from tables import RESULTS, machine_line, result, table

from gradscape.stats.student_t import share

HOW = ("without seeds", "3 seeds and one", "3 and 3 seeds")


def measured() -> Any:
    return result(f"{RESULTS}/compare.json")


def alarms() -> str:
    """Pairs of seeds of one training that are called different, by what is known beside them."""
    found = measured()
    rows = []
    for looked_at, title in ((True, "networks looked at"), (False, "networks held out")):
        nets = [net["alike"] for net in found["nets"].values() if net["looked_at"] is looked_at]
        cells = []
        for how in nets[0]:
            both = share(sum(net[how]["alarms"] for net in nets), sum(net[how]["n"] for net in nets))
            cells.append(f"{both.count} of {both.n} (at most {100 * both.high:.0f} %)")
        rows.append((title, *cells))
    heads = list(next(iter(found["nets"].values()))["alike"])
    return "\n".join([*table(("called different", *heads), rows), "", machine_line(found["machine"]) + "."])


def changes() -> str:
    """How many of each change are named over all networks, how soon, and what is named first."""
    nets = list(measured()["nets"].values())
    return "\n".join(
        table(
            ("changed", *(f"{how}: named, median step" for how in HOW), "first named, most often"),
            [_row(name, [net["changed"][name] for net in nets]) for name in nets[0]["changed"]],
        )
    )


def _row(name: str, found: list[dict[str, Any]]) -> tuple[str, ...]:
    cells = []
    for how in HOW:
        delays = [delay for net in found for delay in net[how]["delays"]]
        late = f", {median(delays):+.0f}" if delays else ""
        cells.append(f"{len(delays)} of {sum(net[how]['n'] for net in found)}{late}")
    quantities = Counter(text.split(" of ")[0] for net in found for how in HOW for text in net[how]["first"])
    most = ", ".join(f"`{quantity}`" for quantity, _ in quantities.most_common(2))
    return name, *cells, most or "–"
