"""Tables of what watching a transformer costs, from `results/transformer_cost.json`."""

from __future__ import annotations

from tables import RESULTS, machine_line, result, table

from gradscape._text import count_noun


def cost() -> str:
    found = result(f"{RESULTS}/transformer_cost.json")
    held = {
        way: each["median"]
        for way, each in result(f"{RESULTS}/transformer_memory.json")["peak_bytes"].items()
    }
    alone = held["not watched"]
    rows = [
        (
            name,
            f"{way['busy_s']['median']:.2f} s",
            f"{way['ratio']['median']:.3f} ({way['ratio']['min']:.3f} … {way['ratio']['max']:.3f})",
            ", ".join(f"{part} {value:.1f} %" for part, value in way["parts_percent"].items()),
            f"{held[name] / 2**20:,.0f} MiB ({100 * (held[name] / alone - 1):+.1f} %)"
            if name in held
            else "",
        )
        for name, way in found["ways"].items()
    ]
    loaded = held["code loaded"]
    more = 100 * (held["gradscape, each step"] / loaded - 1)
    pairs = found["ways"]["not watched"]["ratio"]["n"]
    course = found["default_cadence"]["percent_after"]
    parts = list(next(iter(course.values())))
    shares = [
        (f"{int(steps):,}", *(f"{now[part]:.2f} %" for part in parts), f"{sum(now.values()):.2f} %")
        for steps, now in course.items()
    ]
    return "\n".join(
        [
            *table(("each step read", "a step", "ratio", "of a step", "memory at most"), rows),
            "",
            *table(("default cadence, after steps", *parts, "together"), shares),
            "",
            f"{found['network']}; batch {found['batch']}, {found['length']} tokens, "
            f"{count_noun(found['threads'], 'thread')}; n = {pairs} pairs; for the memory, three "
            f"processes each: gradscape's modules take {(loaded - alone) / 2**20:.0f} MiB, and a watch "
            f"{more:.1f} % beside them. "
            f"{machine_line(found['machine'])}.",
        ]
    )
