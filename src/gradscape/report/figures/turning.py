"""Surfaces to turn with a mouse or a finger, drawn by plotly, all on one scale."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup

from gradscape.records.encoding import Values
from gradscape.records.landscape import LandscapeRecord, is_uneven
from gradscape.report.figures.landscape import common_levels, first_surface, tick_labels, ticks_of

GRAY = "#808891"  # text and lines: readable on the page's light and dark ground
NO_GROUND = "rgba(0,0,0,0)"
# All labels are in the picture, on a phone too.
CAMERA = {"eye": {"x": 1.7, "y": 1.7, "z": 1.0}, "center": {"x": 0, "y": 0, "z": -0.12}}


def turning(
    records: Mapping[str, LandscapeRecord], axis: str = "loss", *, top: float = np.inf
) -> dict[str, Markup]:
    """Return plotly's figure of each record's surface as JSON, by name, as a page's script element takes it.

    The directions are `x` and `y`, for their names are longer than a phone is wide.

    Args:
        records: Record of dims 2 per name.
        axis: `loss`, or a metric's name.
        top: Highest value of the scale, above which surfaces are cut off.

    Raises:
        ConfigError: A record is not a plane, or has no such metric.
    """
    levels = common_levels(records.values(), axis, top)
    drawn = {name: _surface(record, axis, levels).to_json() for name, record in records.items()}
    return {name: Markup(text.replace("<", "\\u003c")) for name, text in drawn.items()}


@cache
def packed_plotly() -> str:
    """Return plotly's script, compressed by gzip, in base64: a third of its size, which a browser unpacks."""
    from plotly.offline import get_plotlyjs

    return b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _surface(record: LandscapeRecord, axis: str, levels: Values) -> Any:
    """Return the figure of one surface."""
    import plotly.graph_objects as go

    heights, there = first_surface(record, axis), _transform(levels)
    low, high = (float(there(end)) for end in (levels[0], levels[-1]))
    ticks = ticks_of(levels)
    scale = {"tickvals": [float(there(tick)) for tick in ticks], "ticktext": tick_labels(ticks)}
    lines = {"showbackground": False, "gridcolor": GRAY, "zerolinecolor": GRAY, "nticks": 5}
    bar = {"title": {"text": axis, "side": "bottom"}, "orientation": "h", "len": 0.8, "thickness": 10}
    surface = go.Surface(
        x=record.axes[0], y=record.axes[1], z=_drawn(there(heights)), cmin=low, cmax=high,
        colorscale="Viridis", colorbar={**bar, "y": 0, "yanchor": "bottom", "ypad": 0, **scale},
        customdata=_drawn(heights), hovertemplate="%{x:.3g}, %{y:.3g}: %{customdata:.4g}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(surface)
    figure.update_layout(
        scene={
            "xaxis": {"title": "x", **lines}, "yaxis": {"title": "y", **lines},
            "zaxis": {"title": axis, "range": [low, high], **lines, **scale},
            "aspectmode": "cube", "camera": CAMERA, "domain": {"y": [0.14, 1]},
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0}, font={"color": GRAY},
        modebar={"bgcolor": NO_GROUND, "color": GRAY, "activecolor": GRAY},
        paper_bgcolor=NO_GROUND, plot_bgcolor=NO_GROUND,
    )  # fmt: skip
    return figure


def _drawn(values: Values) -> Any:
    """Return what a page holds of a surface: half the bytes tell the same to an eye."""
    return values.T.astype(np.float32)


def _transform(levels: Values) -> Any:
    """Return the function from losses to heights: the logarithm where they differ by orders of magnitude."""
    uneven = is_uneven(levels)

    def there(values: Any) -> Values:
        with np.errstate(divide="ignore", invalid="ignore"):
            finite = np.where(np.isfinite(values), values, np.nan)
            return np.log10(finite) if uneven else finite

    return there
