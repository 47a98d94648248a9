"""Surfaces to turn with the mouse, drawn by plotly, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradscape.records.encoding import Values
from gradscape.records.landscape import LandscapeRecord, is_uneven
from gradscape.report.figures.landscape import common_levels, first_surface, tick_labels, ticks_of

ACROSS = 2  # surfaces beside one another
TALL = 560  # pixels of a row of them
GRAY = "#808891"  # text and lines: readable on the page's light and dark ground
NO_GROUND = "rgba(0,0,0,0)"


def turning(
    records: Mapping[str, LandscapeRecord],
    axis: str = "loss",
    *,
    element_id: str = "surfaces",
    script: bool = True,
) -> str:
    """Return an element of a page, script included, with a surface for each record; it loads no other file.

    Args:
        records: Record of dims 2 per name.
        axis: `loss`, or a metric's name.
        element_id: Id of the element.
        script: Whether to include plotly's script, which a page needs once.

    Raises:
        ConfigError: A record is not a plane, or has no such metric.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    heights = {name: first_surface(record, axis) for name, record in records.items()}
    levels = common_levels(records.values(), axis)
    columns = min(len(records), ACROSS)
    rows = math.ceil(len(records) / columns)
    figure = make_subplots(
        rows, columns, specs=[[{"type": "surface"}] * columns] * rows, subplot_titles=list(records),
        horizontal_spacing=0.02, vertical_spacing=0.05,
    )  # fmt: skip
    there = _transform(levels)
    low, high = (float(there(end)) for end in (levels[0], levels[-1]))
    ticks = ticks_of(levels)
    scale = {"tickvals": [float(there(tick)) for tick in ticks], "ticktext": tick_labels(ticks)}
    for place, (name, record) in enumerate(records.items()):
        row, column = divmod(place, columns)
        figure.add_trace(
            go.Surface(
                x=record.axes[0], y=record.axes[1], z=_drawn(there(heights[name])), cmin=low, cmax=high,
                colorscale="Viridis", showscale=not place, colorbar={"title": axis, "len": 0.7, **scale},
                customdata=_drawn(heights[name]),
                hovertemplate="%{x:.3g}, %{y:.3g}: %{customdata:.4g}<extra></extra>",
            ),
            row + 1, column + 1,
        )  # fmt: skip
        lines = {"showbackground": False, "gridcolor": GRAY, "zerolinecolor": GRAY}
        figure.update_scenes(
            xaxis={"title": record.directions[0], **lines}, yaxis={"title": record.directions[1], **lines},
            zaxis={"title": axis, "range": [low, high], **lines, **scale}, aspectmode="cube",
            camera={"eye": {"x": 1.6, "y": 1.6, "z": 1.0}}, row=row + 1, col=column + 1,
        )  # fmt: skip
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 40, "b": 0}, font={"color": GRAY},
        paper_bgcolor=NO_GROUND, plot_bgcolor=NO_GROUND,
    )  # fmt: skip
    height = f"min({TALL * rows}px, {90 * rows // columns}vw)"  # a surface is as tall as wide on a phone
    element: str = figure.to_html(
        include_plotlyjs=script,
        full_html=False,
        div_id=element_id,
        config={"responsive": True},
        default_height=height,
    )
    return element


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
