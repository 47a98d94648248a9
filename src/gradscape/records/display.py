"""Display of a record: one line at a prompt, a summary in a notebook, a page of its own."""

from __future__ import annotations

import base64
import html
import io
import textwrap
import warnings
from pathlib import Path

import numpy as np

from gradscape.errors import cut

LINE = 160  # most characters of a repr
LINES, WIDE = 30, 400  # most lines of text in a notebook, and characters in one
COLORS = 64  # of the drawing in a notebook: a palette takes a quarter of the bytes
MOST = 36_000  # bytes of a drawing; a larger one, such as a map of pure noise, is left to `plot`


class Displayable:
    """Base of everything that a user holds: its `str` is the whole text, its `plot`, if any, the drawing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {cut(str(self).split(chr(10))[0], LINE)}>"

    def _repr_html_(self) -> str:
        """Return a notebook's view: the text, its first line bold, and a small drawing."""
        return html_summary(self, str(self))

    def save_html(self, path: str | Path) -> Path:
        """Write a self-contained page, as `gradscape.save_html` does, and return its path.

        Args:
            path: Path of the HTML file; its folder must exist.

        Raises:
            StoreError: The file cannot be written.
        """
        # Pages lie above records. The package's table of public names knows every layer and loads none.
        import gradscape

        return gradscape.save_html(self, path)


class Reported:
    """Base of records that have a verdict, or are diagnosed for one."""

    def to_markdown(self) -> str:
        """Return a report of at most 8,000 bytes, as `gradscape.to_markdown` does.

        Raises:
            ConfigError: There is nothing to diagnose yet.
        """
        import gradscape  # reports lie above records: see `save_html`

        return gradscape.to_markdown(self)


def html_summary(thing: object, text: str) -> str:
    """Return text and drawing of a record as a few kilobytes of HTML, readable on light and dark.

    Args:
        thing: Record; its `plot(ax)` is drawn, if it has one.
        text: Text, whose first line becomes the heading.
    """
    heading, *lines = text.split("\n")
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"… {len(lines) - LINES} more lines: print it"]
    body = html.escape(
        "\n".join(textwrap.shorten(line, WIDE) if len(line) > WIDE else line for line in lines)
    )
    pre = f'<pre style="margin:0;white-space:pre-wrap">{body}</pre>' if lines else ""
    return f"<div><div><b>{html.escape(cut(heading, WIDE))}</b></div>{pre}{_drawing(thing)}</div>"


def _drawing(thing: object) -> str:
    """Return the record's plot as an `<img>`; an empty text where there is none, or it is too large."""
    plot = getattr(thing, "plot", None)
    if plot is None:
        return ""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    drawing = Figure(figsize=(5.0, 3.2), dpi=96, layout="constrained")  # pyplot would show it a second time
    canvas = FigureCanvasAgg(drawing)
    with warnings.catch_warnings(action="ignore"):  # such as: a legend without entries
        plot(drawing.add_subplot())
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels, out = np.asarray(canvas.buffer_rgba()), io.BytesIO()  # type: ignore[no-untyped-call]
    Image.fromarray(pixels).convert("RGB").quantize(COLORS).save(out, format="png", optimize=True)
    if out.tell() > MOST:
        return ""
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="" style="max-width:100%" src="data:image/png;base64,{data}">'
