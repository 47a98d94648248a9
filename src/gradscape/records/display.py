"""Display of a record: one line at a prompt, a summary in a notebook, a page of its own."""

from __future__ import annotations

import base64
import html
import io
import textwrap
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradscape.errors import ConfigError, cut

LINE = 160  # most characters of a repr
LINES, WIDE = 30, 400  # most lines of text in a notebook, and characters in one
COLORS = (64, 16, 8)  # of the drawing in a notebook: a map of pure noise is small with few of them alone
# JupyterLab breaks words, and writes tables in letters of any width, unless it is told not to.
PRE = "margin:0;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;font-family:monospace"
MOST = 48_000  # bytes of a drawing, of which base64 makes 64,000


class Displayable:
    """Base of everything that a user holds: its `str` is the whole text, its `plot`, if any, the drawing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {cut(str(self).split(chr(10))[0], LINE)}>"

    def _repr_html_(self) -> str:
        """Return a notebook's view: the text, its first line bold, and a small drawing."""
        return html_summary(self, self._summary())

    def _summary(self) -> str:
        """Return a notebook's text: the verdict first where there is one, and no table of what is drawn."""
        return str(self)

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


def with_verdict(thing: Reported, text: str) -> str:
    """Return the diagnosis and a text below it; the text alone where there is nothing to diagnose.

    Args:
        thing: History or run.
        text: Its text.
    """
    import gradscape  # diagnoses lie above records: see `save_html`

    try:
        return f"{gradscape.diagnose(thing)}\n{text}"  # type: ignore[arg-type]
    except ConfigError:
        return text


def html_summary(thing: object, text: str) -> str:
    """Return text and drawing of a record as a few kilobytes of HTML, readable on light and dark.

    There is no style sheet, script or SVG in it: notebooks that are not trusted, and pages that show
    notebooks, take those out. The text has the notebook's colors, and the drawing a light ground of its own.

    Args:
        thing: Record; its `plot(ax)` is drawn, if it has one.
        text: Text, whose first line becomes the heading.
    """
    heading, *lines = text.encode("utf-8", "replace").decode().split("\n")  # half a surrogate pair in a name
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"… {len(lines) - LINES} more lines: print it"]
    body = html.escape(
        "\n".join(textwrap.shorten(line, WIDE) if len(line) > WIDE else line for line in lines)
    )
    pre = f'<pre style="{PRE}">{body}</pre>' if lines else ""
    title = html.escape(cut(heading, WIDE))
    return f"<div><div><b>{title}</b></div>{pre}{_drawing(thing, title)}</div>"


def _drawing(thing: object, title: str) -> str:
    """Return the record's plot as an `<img>`; an empty text where there is none."""
    plot = getattr(thing, "plot", None)
    if plot is None:
        return ""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.0, 3.2), dpi=96, layout="constrained")  # pyplot would show it a second time
    canvas = FigureCanvasAgg(drawing)
    with warnings.catch_warnings(action="ignore"):  # such as: a legend without entries
        plot(drawing.add_subplot())
        canvas.draw()  # type: ignore[no-untyped-call]
    data = base64.b64encode(_small_png(np.asarray(canvas.buffer_rgba()))).decode()  # type: ignore[no-untyped-call]
    style = "display:block;max-width:100%"
    return f'<img alt="drawing: {title}" style="{style}" src="data:image/png;base64,{data}">'


def _small_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 4) as a PNG with as many colors as its size allows."""
    from PIL import Image

    picture = Image.fromarray(pixels).convert("RGB")
    for colors in COLORS:
        out = io.BytesIO()
        picture.quantize(colors).save(out, format="png", optimize=True)
        if out.tell() <= MOST:
            break
    return out.getvalue()
