"""Readable names on a panel: categories on an axis, long labels in a legend, room for both."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from gradscape._text import shorten

LETTER = 0.07  # inches, of tick labels, about
STEP = 0.15  # inches from one line of them to the next
ROOM = 3.8  # inches of an axis for them, about
LONGEST = 26  # letters of a category's name
LEGEND = 56  # letters of a line in a legend
LEAST = 2.3  # inches of a panel's height that legend and names must leave
TALLEST = 9.0  # inches of a figure


def name_across(axes: Axes, names: Sequence[str], room: float = ROOM) -> None:
    """Set horizontal ticks at 0, 1, 2, …: names turned where they are long, every k-th where they are many.

    Args:
        axes: Panel.
        names: Names of the ticks.
        room: Length of the axis, in inches, about.
    """
    places = range(0, len(names), every(len(names), room))
    cut = [shorten(names[place], LONGEST) for place in places]
    if sum(len(name) + 2 for name in cut) * LETTER < room:
        axes.set_xticks(places, cut)
    elif len(cut) * STEP * 2.5 < room:
        axes.set_xticks(places, cut, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, cut, rotation=90)


def name_up(axes: Axes, names: Sequence[str], room: float = ROOM) -> None:
    """Set vertical ticks at 0, 1, 2, …, every k-th where names are many; they are never turned.

    Args:
        axes: Panel.
        names: Names of the ticks.
        room: Length of the axis, in inches, about.
    """
    places = range(0, len(names), every(len(names), room))
    axes.set_yticks(places, [shorten(names[place], LONGEST) for place in places])


def every(count: int, room: float) -> int:
    """Return the k for which every k-th name has a line to itself.

    Args:
        count: Number of names.
        room: Length of the axis, in inches.
    """
    return math.ceil(count * STEP / room)


def longest(names: Sequence[str]) -> int:
    """Return the number of letters of the longest name, shortened.

    Args:
        names: Names of the ticks.
    """
    return max(len(shorten(name, LONGEST)) for name in names)


def wrapped(label: str) -> str:
    """Break a label into lines that fit below a panel.

    Args:
        label: Label for the legend.
    """
    return "\n".join(textwrap.wrap(label, LEGEND, break_on_hyphens=False))


def make_room(drawing: Drawing, axes: Axes) -> None:
    """Make the figure taller by the room of legend and names, which is the same at any height.

    Args:
        drawing: Figure.
        axes: Its panel.
    """
    width, height = drawing.get_size_inches()
    drawing.set_size_inches(width, TALLEST)  # in less there may be no room for a panel at all
    drawing.draw_without_rendering()
    taken = TALLEST * (1 - axes.get_position().height)
    drawing.set_size_inches(width, min(max(height, taken + LEAST), TALLEST))
