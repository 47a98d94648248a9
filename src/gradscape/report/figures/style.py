"""Style of all figures: the same bytes on every machine, readable in gray and on light and dark.

Colors have a relative luminance of 0.07 to 0.45: at least 2:1 against white and against the page's dark
ground. Whatever must follow the page's theme (text, axes, grid, ground) has a color that the page replaces;
see `svg.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import matplotlib as mpl
import matplotlib.style
from matplotlib.colors import LinearSegmentedColormap

INK = "#1f2329"  # text and axes
GRID = "#d4d8dd"
SHADE = "#dfe9e2"  # a range worth comparing with
GROUND = "#ffffff"
SHADOW = "#15181c"  # around white marks on a map's own colors, whatever the page's ground

WIDTH, HEIGHT = 5.0, 3.6  # inches; narrow, so that text stays readable on a phone
DPI = 150  # of PNG files

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so it is everywhere
    "mathtext.fontset": "dejavusans",
    "font.size": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # text as outlines: no font needed, nothing cut
    "svg.hashsalt": "gradscape",  # element ids follow from content alone
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """Look of one series: color, and dash and marker, which distinguish it without color."""

    color: str
    dash: str
    marker: str


# Okabe & Ito (2008), without its yellow and black, which vanish on one of the two grounds.
LOOKS = (
    Look("#0072b2", "-", "o"),
    Look("#d55e00", "--", "s"),
    Look("#009e73", "-.", "^"),
    Look("#cc79a7", ":", "D"),
    Look("#56b4e9", "-", "v"),
    Look("#e69f00", "--", "P"),
)

TURNS = (0, 2, 4, 1, 3, 5)  # places that dash and marker move on in each further round of the colors


def looks(count: int) -> list[Look]:
    """Return looks of six colors; from the seventh on again, with another dash and marker.

    Args:
        count: Number of looks; beyond 36 they repeat.
    """
    found = []
    for number in range(count):
        turns, place = divmod(number, len(LOOKS))
        other = LOOKS[(place + TURNS[turns % len(TURNS)]) % len(LOOKS)]
        found.append(replace(LOOKS[place], dash=other.dash, marker=other.marker))
    return found


# The middle of matplotlib's plasma: luminance rises steadily, so the order survives in gray.
EPOCHS = LinearSegmentedColormap.from_list("epochs", mpl.colormaps["plasma"]([0.26, 0.4, 0.53, 0.65, 0.76]))


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save under this style, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(["default", RC]):
        yield
