"""What a watch costs a compiled step, as a table of docs/howto/techniques.md."""

from __future__ import annotations

from tables import RESULTS, machine_line, ranged, result, table


def cost() -> str:
    """Times of a watched step beside an unwatched one, by network and way."""
    found = result(f"{RESULTS}/compiled_cost.json")
    rows = [
        (
            name,
            ranged(each["step_ms"]) + " ms",
            way,
            f"× {ranged(ways['read'], 2)}",
            f"× {ranged(ways['not read'], 2)}",
        )
        for name, each in found["networks"].items()
        for way, ways in each.items()
        if way != "step_ms"
    ]
    head = ("compiled, one thread", "a step", "", "a step that is read", "one that is not")
    return "\n".join([*table(head, rows), "", f"{machine_line(found['machine'])}."])
