"""Table of what watching a transformer costs, from `results/transformer_cost.json`."""

from __future__ import annotations

from tables import RESULTS, machine_line, result, table

from gradscape._text import count_noun


def cost() -> str:
    found = result(f"{RESULTS}/transformer_cost.json")
    rows = [
        (
            name,
            f"{way['busy_s']['median']:.2f} s",
            f"{way['ratio']['median']:.3f} ({way['ratio']['min']:.3f} … {way['ratio']['max']:.3f})",
            ", ".join(f"{part} {value:.1f} %" for part, value in way["parts_percent"].items()),
        )
        for name, way in found["ways"].items()
    ]
    pairs = found["ways"]["not watched"]["ratio"]["n"]
    return "\n".join(
        [
            *table(("", "a step", "ratio", "of a step"), rows),
            "",
            f"{found['network']}; batch {found['batch']}, {found['length']} tokens, "
            f"{count_noun(found['threads'], 'thread')}; n = {pairs} pairs. By its "
            f"budgets the default cadence takes {found['budgets_percent']:.2g} % of the time at most, where "
            f"{found['limit_percent']:g} % are allowed. {machine_line(found['machine'])}.",
        ]
    )
