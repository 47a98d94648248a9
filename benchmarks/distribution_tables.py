"""Tables of docs/distributions.md: what sketches cost beside other ways, and how exact they are."""

from __future__ import annotations

from tables import RESULTS, machine_line, ranged, result, table


def errors() -> str:
    """Time an element, and largest error of quantiles, by way."""
    found = result(f"{RESULTS}/distribution_cost.json")
    rows = [
        (
            name,
            f"{ranged(speed, 1)} ns",
            *(f"{100 * each[name]:.2g} %" if name in each else "" for each in found["errors"].values()),
        )
        for name, speed in found["ns"].items()
    ]
    head = ("", "an element", *(f"error: {name}" for name in found["errors"]))
    note = (
        f"{found['elements'] / 1e6:.1f} million numbers, one thread, processor's time. "
        "Error: the largest of the 1, 5, 25, 75, 95 and 99 % quantiles, in parts of them; the bound is "
        f"{100 * found['bound']:.1f} %."
    )
    return "\n".join([*table(head, rows), "", f"{note} {machine_line(found['machine'])}."])


def cost() -> str:
    """Time of a reading beside that of a step."""
    found = result(f"{RESULTS}/distribution_cost.json")
    rows = [
        (
            f"{name}, {each['parameters'] / 1e6:.1f} million parameters",
            f"{ranged(each['step_ms'])} ms",
            f"{ranged(each['reading_ms'])} ms",
            f"one step of {each['every']}",
            f"{each['percent']:.1f} %",
        )
        for name, each in found["networks"].items()
    ]
    head = ("one thread", "a step", "distributions in it, with outputs", "read by default", "of the time")
    return "\n".join([*table(head, rows), "", f"{machine_line(found['machine'])}."])
