"""Parts of every figure: empty panel, legend, ticks, and the bytes of its three files.

Figures are made without pyplot: no global state, nothing to close, safe in any thread.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from gradscape.report.figures.style import DPI, HEIGHT, INK, WIDTH, styled

SHADES = 24  # most colors on a color bar: from 50 on matplotlib makes it a bitmap

# Time and software that each format would otherwise hold, which change the bytes.
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Figure:
    """A drawn panel.

    Attributes:
        name: File name without ending.
        title: Title, such as `Figure 1a. Gradient flow of VGG38`.
        caption: Description of the drawing, and of what is missing from it.
        group: Group of panels that stand together.
        drawing: Matplotlib figure.
    """

    name: str
    title: str
    caption: str
    group: str
    drawing: Drawing

    @property
    def wide(self) -> bool:
        """True if it needs the page's whole width."""
        return bool(self.drawing.get_figwidth() > 1.5 * WIDTH)


def render(figure: Figure, endings: Collection[str] = tuple(METADATA)) -> dict[str, bytes]:
    """Return the figure's files as bytes per ending; the same drawing gives the same bytes.

    Args:
        figure: Figure to save.
        endings: Endings of the files, of `svg`, `png` and `pdf`.

    Example:
        >>> sorted(render(figure))
        ['pdf', 'png', 'svg']
    """
    files = {}
    with styled():
        figure.drawing.draw_without_rendering()
        figure.drawing.set_layout_engine(None)  # it is done: with any engine each file draws all twice
        for ending in endings:
            out = io.BytesIO()
            figure.drawing.savefig(out, format=ending, dpi=DPI, metadata=METADATA[ending])
            files[ending] = out.getvalue()
    return files


def panel() -> tuple[Drawing, Axes]:
    """Return an empty figure of the report's size with one axes."""
    drawing = Drawing(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing, drawing.add_subplot()


def add_legend(drawing: Drawing, entries: int) -> None:
    """Add a legend below the panel, in as many columns as fit: labels grow where runs are missing.

    Args:
        drawing: Figure of the panel.
        entries: Number of entries.
    """
    for columns in (3, 2, 1) if entries % 3 == 0 else (2, 1):
        legend = drawing.legend(
            loc="outside lower center", ncols=columns, handlelength=3.2, columnspacing=1.5
        )
        if columns == 1 or legend.get_window_extent().width < 0.98 * drawing.bbox.width:
            return
        legend.remove()


def round_ticks(last: int) -> list[int]:
    """Return 1, round numbers at a step of 1, 2, 5, 10, 20…, and the last; about ten at most.

    Args:
        last: Last number of the axis.
    """
    step = next(d * 10**k for k in range(9) for d in (1, 2, 5) if last <= 9 * d * 10**k)
    between = [n for n in range(step, last, step) if min(n - 1, last - n) >= 0.75 * step]
    return list(dict.fromkeys([1, *between, last]))


def draw_reference(axes: Axes, label: str, level: float, *, beside: bool) -> None:
    """Draw a thin dotted line at a level, named beside the panel, or on it at the left.

    Args:
        axes: Panel to draw in.
        label: Name of the level.
        level: Height of the line, in the axis' unit.
        beside: True to write the name beside the panel.
    """
    axes.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(
        label,
        (1 if beside else 0, level),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0 if beside else 4),
        textcoords="offset points",
        fontsize=8,
        va="center_baseline" if beside else "bottom",
    )


def write_across(axes: Axes, text: str) -> None:
    """Write in the middle of a panel why it is empty.

    Args:
        axes: Panel.
        text: Reason.
    """
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", wrap=True)


def titled(name: str, title: str) -> str:
    """Return a title with the figure's number before it.

    Args:
        name: File name of the figure.
        title: Title without number.
    """
    return f"{name.replace('figure-', 'Figure ')}. {title}"
