"""The Hessian before and after training: its spectral density, its ends, and what they say of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from gradscape.curved import Spectrum
from gradscape.intervals import interval
from gradscape.records import Curvature, StudyRecord
from gradscape.report.cells import seeds_ended
from gradscape.report.claims import Evidence, below, differences
from gradscape.report.figures import Figure, add_legend, panel, write_across
from gradscape.report.panels import titled
from gradscape.report.runs import counted, ended, joined, members, said, seeds_in_words, together, unfinished
from gradscape.report.style import LOOKS, styled
from gradscape.report.tables import Table

MOMENTS = {"start": "before training", "end": "after training"}
DECADES = 7  # of the density's axis: below it lies what single random vectors cannot tell from nothing


def spectrum_figure(study: StudyRecord, name: str, group: str, role: str, label: str) -> Figure:
    """A role's spectral densities before and after training, over seeds (Ghorbani et al. 2019, Fig. 1)."""
    title = f"Spectrum of {label}"
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="eigenvalue of the Hessian", ylabel="spectral density")
        far, most = 0.0, 0.0
        for look, (moment, words) in zip(LOOKS, MOMENTS.items(), strict=False):
            seeds = list(curvatures(study, role, moment).values())
            absent = "" if seeds else ", not measured"
            grid, density = over_seeds(seeds)
            axes.plot(grid, density, color=look.colour, linestyle=look.dash, label=words + absent)
            far = max(far, *np.abs(grid), 0.0)
            most = max(most, *density, 0.0)
        if far:  # most eigenvalues lie near 0, a few far from it
            axes.set_xscale("asinh", linear_width=far / 20)
            axes.set_yscale("log")
            axes.set_ylim(most * 10.0**-DECADES, most * 3)
        else:
            write_across(axes, "not measured")
        add_legend(drawing, len(MOMENTS))
    count = seeds_in_words([len(members(study, role))])
    found = [c for moment in MOMENTS for c in curvatures(study, role, moment).values()]
    images = ", ".join(f"{images:,}" for images in sorted({c.images for c in found}))
    caption = [
        f"Density of the Hessian's eigenvalues, mean over random vectors and {count}, each smoothed by a "
        "hundredth of its spectrum's width.",
        f"The loss is of {images} training images, BatchNorm as in training." if found else "",
        f"{label}: {said(study, role)}." if said(study, role) else "",
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def over_seeds(seeds: list[Curvature]) -> tuple[np.ndarray, np.ndarray]:
    """Grid and density over all seeds' random vectors; empty where there are no seeds."""
    if not seeds:
        return np.zeros(0), np.zeros(0)
    spectrum = Spectrum(
        np.array([row for each in seeds for row in each.nodes]),
        np.array([row for each in seeds for row in each.weights]),
    )
    grid, density, _ = spectrum.density()
    return grid, density


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
                cell(study, role, [value(c) for c in curvatures(study, role, moment).values()])
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
    alignment = ("left", *("right" for _ in (*cells, "seeds")))
    return Table(name, title, caption, ("run", *cells, "seeds"), tuple(rows), alignment)  # type: ignore[arg-type]


def cell(study: StudyRecord, role: str, values: list[float]) -> str:
    if not values:
        return counted(study, role) or "–"
    found = interval(values)
    return f"{found.mean:.3g}" if found.half is None else f"{found.mean:.3g} ± {found.half:.2g}"


def sharpness(study: StudyRecord, role: str) -> dict[int, float]:
    """Seed → log10 of the largest eigenvalue after training, where it is above 0."""
    found = curvatures(study, role, "end").items()
    return {seed: math.log10(c.largest) for seed, c in found if c.largest > 0}


def flatter(study: StudyRecord, roles: Mapping[str, str]) -> Evidence:
    """Whether training leaves the first of two roles where the Hessian's largest eigenvalue is smaller."""
    (role, label), (other, other_label) = roles.items()
    pairs = differences(sharpness(study, role), sharpness(study, other))
    there = pairs or not (ended(study, role) and ended(study, other))
    return below(
        f"log10 of the Hessian's largest eigenvalue after training, {label} over {other_label}",
        pairs,
        0.0,
        together(unfinished(study, role), unfinished(study, other), "" if there else "curvature not measured"),
    )
