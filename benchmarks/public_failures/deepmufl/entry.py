"""An entry of the table: a recipe, and what its repair replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from public_failures.case import Case, Training
from public_failures.recipe import Recipe, training


def entry(
    number: int,
    marks: str,
    kinds: str,
    place: str,
    fault: str,
    cure: str,
    recipe: Recipe,
    departs: str = "",
    **repair: Any,
) -> Case:
    """Make a case of a recipe; its twin is the recipe with the repair's fields in place of its own.

    Args:
        number: Number of the question on Stack Overflow.
        marks: Letters of the tools that found it, · for each that did not.
        kinds: Kinds of cause, the main one first, with spaces between.
        place, fault, cure, departs: As in `Case`.
        recipe: The training at fault.
        **repair: Fields of the recipe that the twin replaces.
    """
    mended = replace(recipe, **repair)

    def build(fixed: bool, seed: int) -> Training:
        return training(mended if fixed else recipe, seed)

    return Case(
        f"deepmufl/{number}",
        tuple(kinds.split()),
        place,
        fault,
        cure,
        recipe.steps,
        build,
        marks.replace("·", ""),
        departs,
        mended.steps if mended.steps != recipe.steps else None,
    )


def logits(net: str, units: int | None = None, dense: str = "D") -> str:
    """Return a network with its last dense layer linear, of so many units where the number changes."""
    body, _, last = net.rpartition(" ")
    plain = last.split(":")[0]
    initial = last[-1] if last[-1] in "ᵘⁿ" and last.split(":")[0] != last else ""
    return f"{body} {f'{dense}{units}' if units else plain}{initial}"
