"""Page on a network before training: verdict, remedies, signal through depth."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure as Drawing

from gradscape.records.check import CheckRecord, Trial
from gradscape.records.encoding import Values
from gradscape.records.signal import SignalRecord
from gradscape.report.figures.base import Figure, panel
from gradscape.report.figures.style import styled
from gradscape.report.pages.verdict import rendered


def check_page(record: CheckRecord) -> str:
    """Return the page's text; the same record gives the same text.

    Args:
        record: Record returned by `gradscape.check`.
    """
    signal = record.signal
    return rendered(
        "checked.html.j2",
        record.diagnosis,
        figures(signal),
        signal=signal,
        depth=_depth(signal),
        trials=[(heading, [_row(trial) for trial in trials]) for heading, trials in record.by_effect()],
        steps=len(record.as_is.losses),
        of_batch=record.of_batch,
        by=record.by,
        layers=_layers(signal),
    )


def _depth(signal: SignalRecord) -> str:
    """Sentences on χ, depth scale and Jacobian."""
    chi = f"{signal.chi_in_words}. " if signal.chi_in_words else ""
    return f"{chi}The {signal.jacobian}."


def _row(trial: Trial) -> tuple[str, str, str, str, str]:
    if trial.diagnosis is None:
        return (trial.remedy, trial.verdict, "–", "–", trial.what)
    span = "–" if math.isnan(trial.span) else f"{trial.span:+.1f}"
    change = f"{trial.losses[0]:.3g} → {trial.losses[-1]:.3g}"
    return (trial.remedy, trial.verdict, span, change, trial.what)


def _layers(signal: SignalRecord) -> list[tuple[str, ...]]:
    """Rows of each layer's name, kind, q, c, dead, saturated and mean squared gradient."""
    columns = [values for name, values in signal.over_depth().items() if name != "weight_gradient"]
    return [
        (name, kind, *("–" if math.isnan(c[place]) else f"{c[place]:.3g}" for c in columns))
        for place, (name, kind) in enumerate(zip(signal.layers, signal.kinds, strict=True))
    ]


def figures(signal: SignalRecord) -> list[Figure]:
    """Draw sizes of signal and gradient, the rest of the input, and units that pass nothing, against depth.

    Args:
        signal: Signal of the network at its start.
    """
    group, gone = "Signal through depth", 1 - signal.correlation
    found = [
        Figure(
            "signal",
            "Signal through depth",
            "Mean squares of each layer's output h and of the gradient ∂L/∂h that comes back to it, a line "
            "for each seed. In a network that can be trained both keep their order of magnitude.",
            group,
            _lines({"output h²": signal.second_moment, "gradient (∂L/∂h)²": signal.gradient}, "mean square"),
        ),
        Figure(
            "correlation",
            "What is left of the input",
            "1 − correlation of two samples of the batch: near 0 their outputs are the same, and no gradient "
            "can distinguish them.",
            group,
            _lines({"1 − correlation": gone}, "1 − correlation of two samples"),
        ),
    ]
    shares = {"dead units": signal.dead, "saturated values": signal.saturated}
    shares = {name: values for name, values in shares.items() if np.isfinite(values).any()}
    if shares:
        caption = "Share of units that no sample activates, and of values where tanh or sigmoid is flat."
        drawing = _lines(shares, f"share of {' or '.join(shares)}", logarithmic=False)
        found.append(Figure("shares", "Dead and saturated", caption, group, drawing))
    return found


def _lines(series: dict[str, Values], label: str, logarithmic: bool = True) -> Drawing:
    """Draw each (S, L) against depth, a thin line for each seed."""
    with styled():
        drawing, axes = panel()
        for number, (name, values) in enumerate(series.items()):
            for seed, line in enumerate(values):
                good = np.flatnonzero(np.isfinite(line) & ((line > 0) | (not logarithmic)))
                axes.plot(good + 1, line[good], color=f"C{number}", marker="o", markersize=2.5, linewidth=1,
                          label=name if seed == 0 else None)  # fmt: skip
        if logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(-0.03, 1.03)
        axes.set(xlabel="layer, input → output", ylabel=label, xlim=(0.5, values.shape[1] + 0.5))
        if len(series) > 1:
            axes.legend()
    return drawing
