"""Gradient flow against depth: mean |∂L/∂W| of every weight layer, a line per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gradscape.analysis.gradient_flow import Flows, flows
from gradscape.analysis.outcomes import (
    describe_states,
    joined,
    members,
)
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import (
    SHADES,
    Figure,
    draw_reference,
    panel,
    round_ticks,
    titled,
    write_across,
)
from gradscape.report.figures.style import EPOCHS, INK, SHADE, styled


def gradient_flow(
    runs: Sequence[Flows],
    *,
    band: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    absent: str = "not run yet",
    times: Sequence[int] | None = None,
    unit: str = "epoch",
    beside: Sequence[Flows] = (),
) -> tuple[Drawing, str]:
    """Draw mean |∂L/∂W| against depth on a log axis, one line per epoch (and seed), colored by epoch.

    Args:
        runs: Mean |∂L/∂W| [epochs, layers] per seed, layers from input to output.
        band: Range to shade, such as (1e-4, 1e-1).
        marks: Level per label to draw a thin line at, where it lies inside the axis.
        absent: Text in the panel where there is nothing to draw.
        times: Times of the rows, where they are not the epochs from 1.
        unit: Unit of the times.
        beside: What panels beside this one draw, for one scale on all.

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
        floor, ceiling = limits([*shown, *beside], band)
        axes.set(yscale="log", ylim=(floor, ceiling))
        axes.yaxis.set_major_locator(LogLocator(numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        if band:
            axes.axhspan(*band, color=SHADE, zorder=0)
        _draw_flows(drawing, axes, shown, floor, times, unit)
        for label, level in (marks or {}).items():
            if floor < level < ceiling:
                draw_reference(axes, label, level, beside=False)
    return drawing, flow_note(shown)


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
    for run in runs:
        depth = np.arange(1, run.shape[1] + 1)
        heights = heights_of(run, floor)
        lines = LineCollection(
            [np.column_stack([depth, line]) for line in heights],
            array=np.array(times[: len(run)]),
            cmap=colors,
            norm=norm,
            linewidths=width,
            joinstyle="round",
        )
        axes.add_collection(lines)
        mark_zeros(axes, depth[(run == 0).any(axis=0)], floor)
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


def heights_of(flow: Flows, floor: float) -> Flows:
    """Return what a logarithmic axis can show of a flow: zeros on its floor, gaps where it is not finite.

    Args:
        flow: Mean |∂L/∂W|, of any shape.
        floor: Lower end of the axis.
    """
    return np.where(np.isfinite(flow), np.where(flow > 0, flow, floor), np.nan)


def mark_zeros(axes: Axes, layers: np.ndarray, floor: float) -> None:
    """Draw triangles on the floor of the axis, at layers whose gradient is exactly 0.

    Args:
        axes: Panel to draw in.
        layers: Numbers of the layers, from 1; may be empty.
        floor: Lower end of the axis.
    """
    if layers.size:
        axes.plot(layers, np.full(layers.size, floor), "v", color=INK, markersize=5, clip_on=False)


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


def flow_figure(
    study: StudyRecord,
    name: str,
    title: str,
    group: str,
    role: str,
    band: tuple[float, float] | None = None,
    beside: Sequence[str] = (),
    band_source: str = "",
) -> Figure:
    """Draw the gradient flow of one role, all seeds, with a range to shade and Adam's epsilon marked.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        role: Name of the role.
        band: Range of gradients to shade.
        beside: Names of the roles of the panels beside it, for one scale on all.
        band_source: Source of the range for the caption, such as `where the paper finds them`; may be empty.
    """
    runs = _begun(study, role)
    others = [flow for each in beside for run in _begun(study, each) if (flow := flows(run)).size]
    epsilons = {float(run.config["optim"]["eps"]) for run in runs if _by_adam(run)}
    marks = {f"Adam's ε = {_scientific(eps)}": eps for eps in sorted(epsilons)}
    words = describe_states(study, role)
    drawing, note = gradient_flow(
        [flows(run) for run in runs], band=band, marks=marks, absent=words, beside=others
    )
    seeds = f" and seed ({len(runs)} seeds)" if len(runs) > 1 else ""
    caption = [f"Mean |∂L/∂W| of each weight layer over an epoch, one line per epoch{seeds}."]
    if band:
        source = f", {band_source}" if band_source else ""
        caption.append(f"Shaded: {band[0]:g} to {band[1]:g}{source}.")
    caption += [note, f"{title.removeprefix('Gradient flow of ')}: {words}." if words else ""]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def _begun(study: StudyRecord, role: str) -> list[RunRecord]:
    return [run for run in members(study, role).values() if run is not None and run.epochs]


def _by_adam(run: RunRecord) -> bool:
    """True if its optimizer is Adam, the only one of older records."""
    return bool(run.config["optim"].get("name", "adam") == "adam")


def _scientific(value: float) -> str:
    """`1e-8`, where `:g` has `1e-08`."""
    return np.format_float_scientific(value, trim="-", exp_digits=1)
