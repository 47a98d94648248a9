"""First figure of a study's page: gradients by layer and accuracies of a few roles, to be read by pointing.

It is SVG and CSS alone: a column that is pointed at shows its values, a box that is ticked its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradscape.analysis.evidence import finals
from gradscape.analysis.gradient_flow import ended_flows
from gradscape.analysis.outcomes import describe_states, guessing, window
from gradscape.records.encoding import Values
from gradscape.records.run import StudyRecord
from gradscape.report.figures.gradient_flow import heights_of, limits
from gradscape.report.figures.style import LOOKS

WIDTH, HEIGHT = 520, 322  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 62, 508, 16, 292  # edges of the panel
MOST_TICKS = 7
ROUNDING = 1e-9


@dataclass(frozen=True)
class Overview:
    """Roles that the first figure compares.

    Attributes:
        title: Title of the figure.
        roles: Names of the roles, at most six.
        band: Range of gradients to shade; None for none.
        band_source: Source of the range for the caption, such as `where the paper finds them`; may be empty.
    """

    title: str
    roles: tuple[str, ...]
    band: tuple[float, float] | None = None
    band_source: str = ""


@dataclass(frozen=True)
class Line:
    """A role in the figure.

    Attributes:
        label: Label of the role.
        color, dash: Look of its line.
        path, area: SVG paths of the line, and of the range over seeds; empty without gradients.
        values: Geometric mean over seeds of each layer's gradient.
        seeds: Number of seeds.
        accuracies: Final training accuracy of each seed, 0 to 1.
        absent: State of runs that have not come to their end, in words.
    """

    label: str
    color: str
    dash: str
    path: str
    area: str
    values: tuple[float, ...]
    seeds: int
    accuracies: tuple[float, ...]
    absent: str

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class Column:
    """Part of the panel that can be pointed at.

    Attributes:
        x, left, width: Its middle, and the rectangle that is pointed at.
        readings: (index of the line, text) of what is read there.
        points: (index of the line, height) of the values.
    """

    x: float
    left: float
    width: float
    readings: tuple[tuple[int, str], ...]
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Drawn:
    """Figure as the page's template needs it."""

    title: str
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    ticks: tuple[tuple[float, str], ...]
    shade: tuple[float, float] | None
    shaded: str
    guess: float
    window: str
    zeros: bool
    box = (LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT)


def drawn_overview(study: StudyRecord, overview: Overview) -> Drawn:
    """Return the figure of a study.

    Args:
        study: Record of a study.
        overview: Roles that are compared.
    """
    means = {role: _means(study, role) for role in overview.roles}
    scale = _Scale(*limits([each for each in means.values() if each.size], overview.band))
    lines = tuple(
        _line(study, role, means[role], scale, number) for number, role in enumerate(overview.roles)
    )
    band = overview.band
    return Drawn(
        title=overview.title,
        lines=lines,
        columns=_columns(lines, scale),
        ticks=scale.ticks(),
        shade=None if band is None else (scale.height(band[1]), scale.height(band[0])),
        shaded="" if band is None else overview.band_source or f"from {band[0]:g} to {band[1]:g}",
        guess=guessing(study),
        window=window(study, overview.roles),
        zeros=any((each == 0).any() for each in means.values()),
    )


def _means(study: StudyRecord, role: str) -> Values:
    """Return (seeds, layers) mean |∂L/∂W| over all epochs of the runs that came to their end."""
    found = [flow.mean(axis=0) for flow, _ in ended_flows(study, role).values()]
    return np.array(found) if found else np.empty((0, 0))


@dataclass(frozen=True)
class _Scale:
    """Logarithmic scale of the panel, with zeros on its floor."""

    floor: float
    ceiling: float

    def height(self, value: float) -> float:
        low, high = np.log10(self.floor), np.log10(self.ceiling)
        share = (np.log10(max(value, self.floor)) - low) / (high - low)
        return round(float(BOTTOM - share * (BOTTOM - TOP)), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        first, last = int(np.ceil(np.log10(self.floor))), int(np.floor(np.log10(self.ceiling)))
        step = max(1, -(-(last - first) // MOST_TICKS))
        return tuple((self.height(10.0**power), str(power)) for power in range(last, first - 1, -step))


def _place(layer: int, layers: int) -> float:
    """Return where a layer lies between the panel's edges, the first at the left."""
    return round(LEFT + (RIGHT - LEFT) * (layer / (layers - 1) if layers > 1 else 0.5), 1)


def _line(study: StudyRecord, role: str, means: Values, scale: _Scale, number: int) -> Line:
    look = LOOKS[number % len(LOOKS)]
    label = study.roles[role].label if role in study.roles else role
    path = area = ""
    typical: Values = np.array([])
    if means.size:
        heights = heights_of(means, scale.floor)
        typical = np.exp(np.log(heights).mean(axis=0))
        path = _path(typical, scale)
        low, high = heights.min(axis=0), heights.max(axis=0)
        area = f"{_path(high, scale)}L{_path(low, scale, back=True)[1:]}Z" if len(means) > 1 else ""
    return Line(
        label=label,
        color=look.color,
        dash={"-": "none", "--": "7 4", "-.": "8 3 2 3", ":": "2 3"}[look.dash],
        path=path,
        area=area,
        values=tuple(float(value) for value in typical),
        seeds=len(means),
        accuracies=tuple(finals(study, role, "train").values()),
        absent=describe_states(study, role),
    )


def _path(values: Values, scale: _Scale, back: bool = False) -> str:
    points = [f"{_place(layer, len(values))} {scale.height(value)}" for layer, value in enumerate(values)]
    return "M" + "L".join(points[::-1] if back else points)


def _columns(lines: Sequence[Line], scale: _Scale) -> tuple[Column, ...]:
    """Return a column for each layer of the deepest network."""
    count = max((len(line.values) for line in lines), default=0)
    width = (RIGHT - LEFT) / max(count - 1, 1)
    return tuple(_column(lines, scale, number, count, width) for number in range(count))


def _column(lines: Sequence[Line], scale: _Scale, number: int, count: int, width: float) -> Column:
    x = _place(number, count)
    readings, points = [], []
    for index, line in enumerate(lines):
        if not line.values:
            continue
        layers = len(line.values)
        layer = round(number / max(count - 1, 1) * (layers - 1))
        value = line.values[layer]
        shown = "0" if value <= scale.floor * (1 + ROUNDING) else f"{value:.1e}"
        readings.append((index, f"{line.label}, layer {layer + 1} of {layers}: {shown}"))
        points.append((index, scale.height(value)))
    return Column(x, round(x - width / 2, 1), round(width, 1), tuple(readings), tuple(points))
