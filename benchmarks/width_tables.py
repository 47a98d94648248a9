"""Results of the coordinate check as tables of docs/widths.md."""

from __future__ import annotations

from typing import Any

from tables import RESULTS, machine_line, result, table


def _found() -> Any:
    return result(f"{RESULTS}/widths.json")


def _plain(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def exponents() -> str:
    """Theory beside measurement, a row for each optimizer and parametrization."""
    found = _found()
    groups: dict[tuple[str, str], list[str]] = {}
    for row in found["exponents"]:
        a = row["effective"]
        cell = f"{_plain(a['mean'])} ({_plain(a['low'])} … {_plain(a['high'])}), theory {row['theory']:g}"
        groups.setdefault((row["optimizer"], row["parametrization"]), []).append(
            cell.replace("theory -", "theory −")
        )
    names = {"sgd": "SGD", "adam": "Adam"}
    rows = [
        (f"{names[kind]}, {parametrization}", *cells) for (kind, parametrization), cells in groups.items()
    ]
    seeds = found["exponents"][0]["effective"]["n"]
    widths = ", ".join(map(str, found["settings"]["exponent_widths"]))
    head = ("", "first", "second", "third", "readout")
    return "\n".join(
        [
            *table(head, rows),
            "",
            f"95 % intervals over {seeds} seeds; widths {widths}. {machine_line(found['machine'])}.",
        ]
    )


def verdicts() -> str:
    """Verdicts of the checks, and the layer that they name."""
    found = _found()
    rows = []
    for row in found["verdicts"]:
        said = ", ".join(f"{count} {name}" for name, count in sorted(row["verdicts"].items()))
        named = ", ".join(f"{count} {name or 'none'}" for name, count in sorted(row["named"].items()))
        rows.append((row["network"], row["case"], row["place"] or "–", said, named))
    settings = found["settings"]
    widths = ", ".join(map(str, settings["widths"]))
    head = ("network", "case", "layer at fault", "verdicts", "layer named")
    note = f"Each check: widths {widths}, {settings['seeds']} seeds, {settings['steps']} steps."
    return "\n".join([*table(head, rows), "", f"{note} {machine_line(found['machine'])}."])


def beside_mup() -> str:
    found = _found()
    names = {"sgd": "SGD", "adam": "Adam"}
    rows = [
        (
            f"{names[row['optimizer']]}, {row['parametrization']}",
            str(row["values"]),
            f"{row['largest_relative_difference']:.1g}",
        )
        for row in found["mup"]
    ]
    head = ("", "values compared", "largest relative difference")
    return "\n".join([*table(head, rows), "", f"mup 1.0.0; {machine_line(found['machine'])}."])
