"""Names that stay readable on a panel: categories on an axis, long labels in a legend, room for both."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

LETTER = 0.08  # inches, of tick labels, about
ROOM = 3.8  # inches of an axis for them, about
LONGEST = 26  # letters of a category's name
MOST = {"x": 26, "y": 24}  # names on an axis
LEGEND = 56  # letters of a line in a legend
LEAST = 2.3  # inches of a panel's height that legend and names must leave
TALLEST = 9.0  # inches of a figure


def name_categories(axes: Axes, names: Sequence[str], axis: Literal["x", "y"]) -> None:
    """Ticks at 0, 1, 2, … with these names: turned where they are long, every k-th where they are many."""
    every = -(-len(names) // MOST[axis])
    places = range(0, len(names), every)
    cut = [shortened(names[place]) for place in places]
    if axis == "y":
        axes.set_yticks(places, cut)
        return
    level = sum(len(name) + 2 for name in cut) * LETTER < ROOM
    steep = len(cut) > 9
    turned = {} if level else {"rotation": 90.0} if steep else {"rotation": 35.0, "ha": "right"}
    axes.set_xticks(places, cut, **turned, **({} if level or steep else {"rotation_mode": "anchor"}))  # type: ignore[arg-type]


def shortened(name: str, longest: int = LONGEST) -> str:
    """The name, or its two ends: what tells names apart is at either.

    Example:
        >>> shortened("a_name_that_is_much_too_long", 11)
        'a_nam…_long'
    """
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"


def wrapped(label: str) -> str:
    """In lines that fit below a panel."""
    return "\n".join(textwrap.wrap(label, LEGEND, break_on_hyphens=False))


def make_room(drawing: Drawing, axes: Axes) -> None:
    """Make the figure as much taller as legend and names ask for, which take as much of any height."""
    width, height = drawing.get_size_inches()
    drawing.set_size_inches(width, TALLEST)  # in less there may be no room for a panel at all
    drawing.draw_without_rendering()
    taken = TALLEST * (1 - axes.get_position().height)
    drawing.set_size_inches(width, min(max(height, taken + LEAST), TALLEST))
