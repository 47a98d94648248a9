"""The Hessian before and after training: its spectrum, the ends of it, and what they say of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from gradscape.analysis.claims import Evidence, below, differences
from gradscape.analysis.evidence import averaged, open_runs
from gradscape.analysis.run_status import (
    ended,
    guesses,
    joined,
    members,
    seeds_in_words,
    together,
    unfinished,
)
from gradscape.records.run import Curvature, StudyRecord
from gradscape.report.figures.base import Figure, add_legend, panel, write_across
from gradscape.report.figures.curves import not_done, titled
from gradscape.report.figures.style import LOOKS, styled
from gradscape.report.table_cells import seeds_ended, with_interval
from gradscape.report.tables import Table

MOMENTS = {"start": "before training", "end": "after training"}
SIDES = {1: "positive", -1: "negative"}
DECADES = 7  # of eigenvalues, down from the largest of all panels


def spectrum_figure(
    study: StudyRecord, name: str, group: str, roles: Mapping[str, str], moment: str, sign: int
) -> Figure:
    """How many eigenvalues of one sign lie beyond a value, a line for each role; all panels have its axes."""
    with styled():
        drawing, axes = panel()
        modulus = ", modulus" if sign < 0 else ""
        axes.set(xlabel=f"{SIDES[sign]} eigenvalue of the Hessian{modulus}", ylabel="eigenvalues beyond it")
        found: list[Curvature] = []
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            seeds = list(curvatures(study, role, moment).values())
            found += seeds
            values, beyond = counted_beyond(seeds, sign)
            axes.step(values, beyond, where="post", color=look.colour, linestyle=look.dash, label=label)
        if far := farthest(study, roles):
            axes.set(xscale="log", yscale="log", xlim=(far * 10.0**-DECADES, far * 2))
            axes.set_ylim(0.5, 2 * max((each.parameters for each in found), default=1))
            axes.xaxis.set_major_locator(LogLocator(numticks=9))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            write_across(axes, "not measured")
        add_legend(drawing, len(roles))
    images = " or ".join(f"{images:,}" for images in sorted({each.images for each in found}))
    caption = [
        "Number of eigenvalues beyond a value, estimated by random vectors, mean over "
        f"{seeds_in_words([len(members(study, role)) for role in roles])}.",
        f"The loss is of {images} training images, BatchNorm as in training." if found else "",
        not_done(study, roles),
    ]
    title = f"{SIDES[sign].capitalize()} eigenvalues {MOMENTS[moment]}"
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def farthest(study: StudyRecord, roles: Mapping[str, str]) -> float:
    """The largest modulus of an eigenvalue that any role has, before or after training; 0 without any."""
    found = [c for role in roles for moment in MOMENTS for c in curvatures(study, role, moment).values()]
    return max((abs(end) for c in found for end in (c.largest, c.smallest)), default=0.0)


def counted_beyond(seeds: Sequence[Curvature], sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Moduli of the quadratures' nodes of a sign, falling, and how many eigenvalues are as far or farther.

    It begins with none beyond the first.
    """
    rows = [row for each in seeds for row in each.nodes]
    nodes = sign * np.array(rows).ravel()
    weights = np.array([row for each in seeds for row in each.weights]).ravel()
    order = np.argsort(-nodes, kind="stable")[: int((nodes > 0).sum())]
    shares = np.cumsum(weights[order]) / max(len(rows), 1)
    counts = shares * max((each.parameters for each in seeds), default=0)
    return np.concatenate([nodes[order][:1], nodes[order]]), np.concatenate([0 * counts[:1], counts])


def curvatures(study: StudyRecord, role: str, moment: str) -> dict[int, Curvature]:
    """Seed → curvature of the runs that came to an end."""
    found = {seed: run.curvature.get(moment) for seed, run in ended(study, role).items()}
    return {seed: each for seed, each in found.items() if each is not None}


def ends_table(study: StudyRecord, name: str, title: str, roles: Mapping[str, str]) -> Table:
    """Both ends of the spectrum before and after training, and how far it is from positive."""
    cells: dict[str, tuple[str, Callable[[Curvature], float]]] = {
        "λmax before": ("start", lambda c: c.largest),
        "λmax after": ("end", lambda c: c.largest),
        "λmin after": ("end", lambda c: c.smallest),
        "|λmin / λmax| after": ("end", lambda c: abs(c.smallest / c.largest) if c.largest else math.nan),
    }
    rows = [
        (
            label,
            *(
                with_interval(study, role, [value(c) for c in curvatures(study, role, moment).values()])
                for moment, value in cells.values()
            ),
            seeds_ended(study, role),
        )
        for role, label in roles.items()
    ]
    caption = (
        "Extreme eigenvalues of the Hessian of the training loss, in nats over squared units of the "
        "parameters, BatchNorm as in training; ± is the 95 % interval over seeds (Student t)."
    )
    return Table(name, title, caption, ("run", *cells, "seeds"), tuple(rows), words=("run",))


def sharpness(study: StudyRecord, role: str) -> dict[int, float]:
    """Seed → log10 of the largest eigenvalue after training, where it is above 0."""
    found = curvatures(study, role, "end").items()
    return {seed: math.log10(c.largest) for seed, c in found if c.largest > 0}


def flatter(study: StudyRecord, roles: Mapping[str, str]) -> tuple[Evidence, ...]:
    """Whether training leaves the first of two roles where the Hessian's largest eigenvalue is smaller.

    No evidence at all where curvature was not asked for, as in presets of a single seed.
    """
    (role, label), (other, other_label) = roles.items()
    runs = [run for name in roles for run in members(study, name).values() if run is not None]
    if not any(run.config.get("curvature_images") for run in runs):
        return ()
    pairs = differences(sharpness(study, role), sharpness(study, other))
    there = pairs or not (ended(study, role) and ended(study, other))
    found = below(
        f"log10 of the Hessian's largest eigenvalue after training, {label} over {other_label}",
        pairs,
        0.0,
        together(
            unfinished(study, role), unfinished(study, other), "" if there else "curvature not measured"
        ),
        guesses(study, role, other),
    )
    return (found,)


def flatter_on_average(study: StudyRecord, pairs: Sequence[tuple[str, str]], label: str) -> Evidence:
    """The same over several pairs: of each seed the mean of their log ratios."""
    found = [differences(sharpness(study, role), sharpness(study, other)) for role, other in pairs]
    unknown = "" if all(found) else "curvature not measured"
    return below(
        f"log10 of the Hessian's largest eigenvalue after training, {label}",
        averaged(found),
        0.0,
        together(*(open_runs(study, *pair) for pair in pairs), unknown),
        together(*(guesses(study, *pair) for pair in pairs)),
    )
