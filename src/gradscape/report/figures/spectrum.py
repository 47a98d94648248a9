"""Spectrum of the Hessian before and after training, and a table of its ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from matplotlib.ticker import LogLocator, NullLocator

from gradscape.analysis.curvature import MOMENTS, counted_beyond, curvatures, farthest
from gradscape.analysis.outcomes import joined, not_done, seeds_in_words
from gradscape.records.curvature import CurvatureRecord
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, add_legend, panel, titled, write_across
from gradscape.report.figures.style import LOOKS, styled
from gradscape.report.table_cells import seeds_ended, with_interval
from gradscape.report.tables import Table

SIDES = {1: "positive", -1: "negative"}
DECADES = 7  # decades of eigenvalues shown, down from the largest of all panels


def spectrum_figure(
    study: StudyRecord, name: str, group: str, roles: Mapping[str, str], moment: str, sign: int
) -> Figure:
    """Draw the number of eigenvalues of one sign beyond a value, a line for each role, on common axes.

    Args:
        study: Record of a study.
        name: File name without ending.
        group: Group of panels.
        roles: Label per role.
        moment: Key of `MOMENTS`.
        sign: 1 for positive eigenvalues, -1 for negative ones.
    """
    with styled():
        drawing, axes = panel()
        modulus = ", modulus" if sign < 0 else ""
        axes.set(xlabel=f"{SIDES[sign]} eigenvalue of the Hessian{modulus}", ylabel="eigenvalues beyond it")
        found, counts = list[CurvatureRecord](), list[int]()
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            seeds = list(curvatures(study, role, moment).values())
            found += seeds
            counts += [len(seeds)] * bool(seeds)
            values, beyond = counted_beyond(seeds, sign)
            axes.step(values, beyond, where="post", color=look.color, linestyle=look.dash, label=label)
        if far := farthest(study, roles):
            axes.set(xscale="log", yscale="log", xlim=(far * 10.0**-DECADES, far * 2))
            axes.set_ylim(0.5, 2 * max((each.parameters for each in found), default=1))
            axes.xaxis.set_major_locator(LogLocator(numticks=9))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            write_across(axes, "not measured")
        add_legend(drawing, len(roles))
    images = " or ".join(f"{images:,}" for images in sorted({each.samples for each in found}))
    caption = [
        "Number of eigenvalues beyond a value, estimated by random vectors, mean over "
        f"{seeds_in_words(counts or [0])}.",
        f"The loss is of {images} training images, BatchNorm as in training." if found else "",
        not_done(study, roles),
    ]
    title = f"{SIDES[sign].capitalize()} eigenvalues {MOMENTS[moment]}"
    return Figure(name, titled(name, title), joined(caption), group, drawing)


def ends_table(study: StudyRecord, name: str, title: str, roles: Mapping[str, str]) -> Table:
    """Return a table of both ends of the spectrum before and after training, and of their ratio.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the table.
        roles: Label per role.
    """
    cells: dict[str, tuple[str, Callable[[CurvatureRecord], float]]] = {
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
