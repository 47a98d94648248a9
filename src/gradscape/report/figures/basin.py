"""Loss around trained weights: contours of a study's roles on one scale, and numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradscape.analysis.outcomes import describe_states, ended, guessing, joined
from gradscape.records.encoding import Values
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, panel, titled, write_across
from gradscape.report.figures.landscape import common_levels, contour_panel
from gradscape.report.figures.style import styled
from gradscape.report.table_cells import seeds_ended, with_interval
from gradscape.report.tables import Table

TOP = 10  # scales end at this multiple of the loss of guessing
INCREASES = (0.1, 1.0)  # nats above the middle, at which a basin's width is reported


def landscapes(study: StudyRecord, role: str) -> dict[int, LandscapeRecord]:
    """Return the landscape per seed of the runs that came to an end.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    found = {seed: run.landscape for seed, run in ended(study, role).items()}
    return {seed: each for seed, each in found.items() if each is not None}


def first_landscapes(study: StudyRecord, roles: Mapping[str, str]) -> dict[str, LandscapeRecord]:
    """Return the landscape of the first seed, per label of the roles that have any.

    Args:
        study: Record of a study.
        roles: Label per role.
    """
    known = {label: list(landscapes(study, role).values()) for role, label in roles.items()}
    return {label: records[0] for label, records in known.items() if records}


def top_of(study: StudyRecord) -> float:
    """Return the highest loss that a study's surfaces show: a network that explodes hides no other.

    Args:
        study: Record of a study.
    """
    return TOP * -math.log(guessing(study))


def landscape_figures(study: StudyRecord, name: str, group: str, roles: Mapping[str, str]) -> list[Figure]:
    """Draw a panel of contours for each role, all on one scale.

    Args:
        study: Record of a study.
        name: Name of the figures, to which a letter is added.
        group: Group of the panels.
        roles: Label per role.
    """
    records = first_landscapes(study, roles)
    levels = common_levels(records.values(), top=top_of(study)) if records else None
    return [
        _landscape_figure(study, f"{name}{letter}", group, role, label, levels)
        for letter, (role, label) in zip("abcdef", roles.items(), strict=False)
    ]


def _landscape_figure(
    study: StudyRecord, name: str, group: str, role: str, label: str, levels: Values | None
) -> Figure:
    found = landscapes(study, role)
    if found and levels is not None:
        drawing = contour_panel(next(iter(found.values())), levels)
    else:
        with styled():
            drawing, axes = panel()
            axes.set(xlabel="first direction", ylabel="second direction")
            write_across(axes, describe_states(study, role) or "not measured")
    states = describe_states(study, role)
    caption = joined([_described(found), f"{label}: {states}." if states else ""])
    return Figure(name, titled(name, f"Loss around the trained weights, {label}"), caption, group, drawing)


def _described(found: Mapping[int, LandscapeRecord]) -> str:
    """Describe a panel, and how far it can be trusted."""
    if not found:
        return ""
    seed, record = next(iter(found.items()))
    checked = f" Where they were not evaluated, {record.check}." if record.check else ""
    holes = f" {record.nonfinite} points are not finite." if record.nonfinite else ""
    low, high = np.nanmin(record.loss), np.nanmax(record.loss)
    return (
        f"Loss of {record.samples:,} training images over two filter-normalized random directions, seed "
        f"{seed}, BatchNorm as in training; {record.evaluations} of {record.loss.size} points evaluated, "
        f"from {low:.3g} to {high:.3g}.{checked}{holes}"
    )


def basins_table(study: StudyRecord, name: str, title: str, roles: Mapping[str, str]) -> Table:
    """Return a table of level, width and roughness of the loss around the trained weights.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the table.
        roles: Label per role.
    """
    numbers: dict[str, Callable[[LandscapeRecord], float]] = {
        "loss in the middle": lambda r: float(r.middle[0]),
        "roughness": lambda r: float(r.roughness[0]),
        "sampling error": lambda r: float(_middle_of(r.error[0])),
    }
    columns = ("run", *numbers, *(f"width at +{rise:g}" for rise in INCREASES), "seeds")
    rows = []
    for role, label in roles.items():
        records = list(landscapes(study, role).values())
        cells = [with_interval(study, role, [value(r) for r in records]) for value in numbers.values()]
        widths = [width(study, role, records, rise) for rise in INCREASES]
        rows.append((label, *cells, *widths, seeds_ended(study, role)))
    caption = (
        "The plane of Figures 7 and 8. Width: radius of the circle as large as the region around the weights "
        "in which the loss is at most so many nats higher, 1 being a change as large as the weights, ≥ where "
        "it goes on beyond the plane; roughness: ups and downs beyond those of a single valley; sampling "
        "error: of the loss in the middle, for so few images. Mean over seeds, each with directions of its "
        "own; ± is the 95 % interval (Student t)."
    )
    return Table(name, title, caption, columns, tuple(rows), words=("run",))


def _middle_of(surface: Values) -> float:
    """Value in the middle of a grid."""
    return float(surface[tuple(size // 2 for size in surface.shape)])


def width(study: StudyRecord, role: str, records: Sequence[LandscapeRecord], rise: float) -> str:
    """Return the mean width of the basins at a rise of the loss; a lower bound if one leaves its plane.

    Args:
        study: Record of a study.
        role: Name of the role.
        records: Landscapes of its runs.
        rise: Rise of the loss, in nats.
    """
    basins = [record.basin(rise) for record in records]
    text = with_interval(study, role, [float(basin.width[0]) for basin in basins])
    return text if all(basin.whole[0] for basin in basins) else f"≥ {text}"
