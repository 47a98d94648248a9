"""Parts of figures: a gradient-flow panel, a panel of curves, and the bytes of a figure's three files.

Figures are made without pyplot: no global state, nothing to close, safe in any thread.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gradscape.analysis.gradient_flow import Flows
from gradscape.report.figures.style import DPI, EPOCHS, HEIGHT, INK, SHADE, WIDTH, Look, styled

NARROWEST = 0.05  # smallest span of an axis of accuracies or losses
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


@dataclass(frozen=True)
class Series:
    """One line of a panel of curves.

    Attributes:
        label: Label for the legend, which names what is missing.
        runs: One curve per seed, a value per epoch from the first.
        cut: True for each run that ended early, by diverging or on request.
        look: Color, dash and marker.
    """

    label: str
    runs: tuple[tuple[float, ...], ...]
    cut: tuple[bool, ...]
    look: Look


def gradient_flow(
    runs: Sequence[Flows],
    *,
    band: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    absent: str = "not run yet",
    times: Sequence[int] | None = None,
    unit: str = "epoch",
) -> tuple[Drawing, str]:
    """Draw mean |∂L/∂W| against depth on a log axis, one line per epoch (and seed), colored by epoch.

    Args:
        runs: Mean |∂L/∂W| [epochs, layers] per seed, layers from input to output.
        band: Range to shade, such as (1e-4, 1e-1).
        marks: Level per label to draw a thin line at, where it lies inside the axis.
        absent: Text in the panel where there is nothing to draw.
        times: Times of the rows, where they are not the epochs from 1.
        unit: Unit of the times.

    Returns:
        The drawing, and a note for the caption: zeros are drawn at the log axis' floor; values that are not
        finite are left out.

    Example:
        >>> drawing, note = gradient_flow([np.array([[1e-18, 1e-12, 1e-5]])])
    """
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="weight layer, input → output", ylabel="mean |∂L/∂W|")
        shown = [flows for flows in runs if flows.size]
        if not shown:
            write_across(axes, absent)
            return drawing, ""
        floor, ceiling = limits(shown, band)
        axes.set(yscale="log", ylim=(floor, ceiling))
        axes.yaxis.set_major_locator(LogLocator(numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        if band:
            axes.axhspan(*band, color=SHADE, zorder=0)
        _draw_flows(drawing, axes, shown, floor, times, unit)
        for label, level in (marks or {}).items():
            if floor < level < ceiling:
                _draw_reference(axes, label, level, beside=False)
    return drawing, flow_note(shown)


def curves(
    series: Sequence[Series],
    ylabel: str,
    *,
    reference: tuple[str, float] | None = None,
    bottom: float | None = None,
) -> Drawing:
    """Draw curves over the epochs: the mean over seeds, and a band from the lowest to the highest seed.

    Mean and band go as far as all seeds do; beyond, each remaining seed is a thin line. A cross marks
    where a run diverged or was stopped. A series without runs keeps its place in the legend.

    Args:
        series: Lines to draw.
        ylabel: Name and unit of the values.
        reference: Label and level of a thin horizontal line.
        bottom: Lower end of the axis; by default just below the values.

    Example:
        >>> drawing = curves([Series("VGG08", ((0.1, 0.2),), (False,), LOOKS[0])], "accuracy")
    """
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch", ylabel=ylabel)
        longest = max((len(run) for one in series for run in one.runs), default=0)
        for one in series:
            draw_series(axes, one, max(longest // 6, 1))
        if longest:
            if reference:
                _draw_reference(axes, *reference, beside=True)
            _fit_axes(axes, longest, bottom)
        else:
            write_across(axes, "not run yet")
        add_legend(drawing, len(series))
    return drawing


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
        figure.drawing.set_layout_engine("none")  # the layout is done: solving it again per file costs most
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


def limits(runs: Sequence[Flows], band: tuple[float, float] | None) -> tuple[float, float]:
    """Return whole decades around all positive values and the band, with a decade of room for zeros.

    Args:
        runs: Mean |∂L/∂W| [epochs, layers] per seed.
        band: Range to show.
    """
    values = np.concatenate([flows.ravel() for flows in runs]) if runs else np.array([])
    positive = values[np.isfinite(values) & (values > 0)]
    shown = [*positive, *(band or ())] or [1e-8]  # every gradient is 0: any axis will do
    floor, ceiling = np.floor(np.log10(min(shown))), np.ceil(np.log10(max(shown)))
    room = 1 if (values == 0).any() or floor == ceiling else 0
    edge = 0.5 if band else 0  # else a band that holds everything would have no edges to see
    return float(10.0 ** (floor - room - edge)), float(10.0 ** (ceiling + edge))


def _draw_flows(
    drawing: Drawing, axes: Axes, runs: Sequence[Flows], floor: float, times: Sequence[int] | None, unit: str
) -> None:
    """One line per epoch and seed, late epochs on top; zeros as triangles on the floor."""
    epochs = max(len(flows) for flows in runs)
    times = times or range(1, epochs + 1)
    norm = Normalize(times[0] - 0.5, times[-1] + 0.5)
    colors = EPOCHS.resampled(max(min(epochs, SHADES), 2))
    width = 1.6 if epochs * len(runs) <= 12 else 0.8
    for flows in runs:
        depth = np.arange(1, flows.shape[1] + 1)
        heights = np.where(np.isfinite(flows), np.where(flows > 0, flows, floor), np.nan)
        lines = LineCollection(
            [np.column_stack([depth, line]) for line in heights],
            array=np.array(times[: len(flows)]),
            cmap=colors,
            norm=norm,
            linewidths=width,
            joinstyle="round",
        )
        axes.add_collection(lines)
        layers = depth[(flows == 0).any(axis=0)]
        if layers.size:
            axes.plot(layers, np.full(len(layers), floor), "v", color=INK, markersize=5, clip_on=False)
    deepest = max(flows.shape[1] for flows in runs)
    margin = 0.02 * deepest
    axes.set_xlim(1 - margin, deepest + margin)
    axes.set_xticks(round_ticks(deepest))
    if epochs > 1:
        bar = drawing.colorbar(ScalarMappable(norm, colors), ax=axes, label=unit, pad=0.02, aspect=28)
        bar.locator = MaxNLocator(integer=True, nbins=6)
        bar.outline.set_visible(False)
        assert bar.solids is not None
        bar.solids.set_edgecolor("face")  # else viewers show hairlines between the shades
        bar.update_ticks()


def flow_note(runs: Sequence[Flows]) -> str:
    """Count values that a log axis cannot show, in words.

    Args:
        runs: Mean |∂L/∂W| [epochs, layers] per seed.
    """
    total = sum(flows.size for flows in runs)
    zeros = sum(int((flows == 0).sum()) for flows in runs)
    lost = sum(int((~np.isfinite(flows)).sum()) for flows in runs)
    notes = []
    if zeros:
        notes.append(f"{zeros:,} of {total:,} values are exactly 0: triangles on the axis floor.")
    if lost:
        notes.append(f"{lost:,} of {total:,} values are not finite and leave gaps.")
    return " ".join(notes)


def draw_series(axes: Axes, series: Series, every: int) -> None:
    """Draw mean and band over seeds, then the epochs that only some seeds reached, then crosses.

    Args:
        axes: Panel to draw in.
        series: Line to draw.
        every: Number of epochs from one marker to the next.
    """
    look = series.look
    common = min(map(len, series.runs), default=0)
    epochs = np.arange(1, common + 1)
    shared = np.array([run[:common] for run in series.runs]).reshape(len(series.runs), common)
    mean = shared.mean(axis=0) if common else []
    axes.plot(
        epochs,
        mean,
        color=look.color,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4,
        markevery=every,
        label=series.label,
    )
    if len(series.runs) > 1 and common:
        low, high = shared.min(axis=0), shared.max(axis=0)
        axes.fill_between(epochs, low, high, color=look.color, alpha=0.18, linewidth=0)
    for run, cut in zip(series.runs, series.cut, strict=True):
        start = max(common - 1, 0)
        if len(run) > common:
            axes.plot(
                range(start + 1, len(run) + 1),
                run[start:],
                color=look.color,
                linestyle=look.dash,
                linewidth=0.8,
            )
        if cut and run:
            axes.plot(len(run), run[-1], color=look.color, marker="x", markersize=9, markeredgewidth=2)


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


def _fit_axes(axes: Axes, longest: int, bottom: float | None) -> None:
    """Set whole epochs from 1, and a vertical axis on which constant curves do not look like noise."""
    margin = min(0.2 + 0.02 * longest, 0.9)  # below 1, or the axis would show an epoch 0
    axes.set_xlim(1 - margin, longest + margin)
    axes.set_xticks(round_ticks(longest))
    low, high = axes.get_ylim()
    low = low if bottom is None else bottom
    if high - low < NARROWEST:
        low = low if bottom is not None else (low + high - NARROWEST) / 2
        high = low + NARROWEST
    axes.set_ylim(low, high)


def round_ticks(last: int) -> list[int]:
    """Return 1, round numbers at a step of 1, 2, 5, 10, 20…, and the last; about ten at most.

    Args:
        last: Last number of the axis.
    """
    step = next(d * 10**k for k in range(9) for d in (1, 2, 5) if last <= 9 * d * 10**k)
    between = [n for n in range(step, last, step) if min(n - 1, last - n) >= 0.75 * step]
    return list(dict.fromkeys([1, *between, last]))


def _draw_reference(axes: Axes, label: str, level: float, *, beside: bool) -> None:
    """Draw a thin dotted line at a level, named beside the panel, or on it at the left."""
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
