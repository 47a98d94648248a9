"""Figures of a watch: layers over steps as maps with the verdict in them, and the flow lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from gradscape._text import count_noun, literal
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.report.figures.base import Figure, panel
from gradscape.report.figures.gradient_flow import gradient_flow
from gradscape.report.figures.style import styled

LIGHT, DARK = "#fdfdfd", "#14171a"  # on a map, whatever the page's theme
LINES = 12  # most steps in the panel of flow lines


def figures(history: FlowHistory, diagnosis: Diagnosis) -> list[Figure]:
    """Draw gradient map, flow lines, update map and agreement map, and maps of activations that were read.

    Args:
        history: Rows of the watch.
        diagnosis: Diagnosis of the rows.
    """
    group = "Layer by layer"
    return [*_of_gradients(history, diagnosis, group), *_of_outputs(history, diagnosis, group)]


def _of_gradients(history: FlowHistory, diagnosis: Diagnosis, group: str) -> list[Figure]:
    row = history.row
    found = [
        Figure(
            "gradient-map",
            f"Gradients: layer × {row}",
            f"Mean |∂L/∂W| of each weight layer at each {row} read. Blank: zero, not finite or none.",
            group,
            _map_of(history, "mean_abs", diagnosis),
        ),
        _flow_lines(history, group),
        Figure(
            "update-map",
            f"Steps: layer × {row}",
            "‖ΔW‖ / ‖W‖ of each weight layer: what a step did to it. Healthy ones are near 1/1000.",
            group,
            _map_of(history, "relative_update", diagnosis),
        ),
    ]
    if np.isfinite(history.agreement).any():
        caption = (
            "Cosine of the angle between a step's gradient and that of the one before: near 0 where "
            "mini-batches ask for different things. Gray: none."
        )
        drawing = _map_of(history, "agreement", diagnosis)
        found.append(Figure("agreement-map", f"Agreement: layer × {row}", caption, group, drawing))
    return found


OUTPUTS = {
    "second_moment": ("Signal", "Mean h² of each layer's output: the signal on its way forward."),
    "correlation": (
        "Alike samples",
        "Mean cosine between a weight layer's outputs for two samples: at 1 nothing tells them apart. Gray: "
        "other layers.",
    ),
    "dead": (
        "Dead units",
        "Units that no sample of the batch activates; of a weight layer inputs that are 0 on all of them. "
        "Blank: layers that have none.",
    ),
    "saturated": ("Saturated values", "Where tanh or sigmoid is flat. Blank: other layers."),
}


def _of_outputs(history: FlowHistory, diagnosis: Diagnosis, group: str) -> list[Figure]:
    """Maps of each statistic that any layer has."""
    outputs = history.activations
    if outputs is None:
        return []
    return [
        Figure(
            f"{name.replace('_', '-')}-map",
            f"{title}: layer × {history.row}",
            caption,
            group,
            _marked(partial(outputs.plot, statistic=name), outputs.layers, diagnosis),
        )
        for name, (title, caption) in OUTPUTS.items()
        if np.isfinite(getattr(outputs, name)).any()
    ]


def _map_of(history: FlowHistory, statistic: str, diagnosis: Diagnosis) -> Drawing:
    names = [history.layers[column] for column in history.weights]
    return _marked(partial(history.plot, statistic=statistic), names, diagnosis)


def _marked(draw: Callable[[Axes], Axes], names: Sequence[str], diagnosis: Diagnosis) -> Drawing:
    with styled():
        drawing, axes = panel()
        axes.grid(visible=False)
        draw(axes)
        _mark(axes, names, diagnosis)
    return drawing


def _mark(axes: Axes, names: Sequence[str], diagnosis: Diagnosis) -> None:
    """Draw a line at the layer where the gravest finding of these begins, with its verdict."""
    finding = next((each for each in diagnosis.findings if each.layer in names), None)
    if finding is None or not axes.has_data():
        return
    place = list(names).index(finding.layer) + 1
    axes.axhline(place, color=LIGHT, linewidth=2.2)
    axes.axhline(place, color=DARK, linewidth=1.0)
    axes.annotate(
        literal(f"{finding.verdict}: {finding.layer}"),
        (0.02, place),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3 if place < len(names) / 2 else 3),
        textcoords="offset points",
        va="top" if place < len(names) / 2 else "bottom",
        fontsize=8,
        color=DARK,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": LIGHT, "edgecolor": "none", "alpha": 0.85},
    )


def _flow_lines(history: FlowHistory, group: str) -> Figure:
    """The paper's panel, a line for some of the steps."""
    made = np.flatnonzero(~history.skipped)
    chosen = made[np.unique(np.linspace(0, len(made) - 1, min(LINES, len(made))).astype(int))]
    flows = history.mean_abs[np.ix_(chosen, history.weights)]
    eps = next((facts.eps for facts in history.optimizers if facts.eps), None)
    drawing, note = gradient_flow(
        [flows],
        marks={f"{history.optimizers[0].name}'s ε = {eps:g}": eps} if eps else None,
        absent=f"no {history.row} has been read yet",
        times=[int(step) for step in history.steps[chosen]],
        unit=history.row,
    )
    lines = count_noun(len(chosen), history.row)
    caption = f"Mean |∂L/∂W| against depth, a line for each of {lines}. {note}".strip()
    return Figure("flow", "Gradient flow", caption, group, drawing)
