"""Size of weights over training, and the distance that a step moves them.

Weights before a BatchNorm can be scaled without changing the loss: the angle by which a step of SGD turns
them is proportional to the learning rate over ‖w‖² (van Laarhoven 2017, §3).
"""

from __future__ import annotations

from collections.abc import Mapping

from gradscape.analysis.outcomes import drawn_seeds, joined, members, not_done, seeds_in_words
from gradscape.analysis.weight_norm import VALUES, known
from gradscape.records.run import StudyRecord
from gradscape.report.figures.base import Figure, panel, round_ticks, titled
from gradscape.report.figures.curves import Series, draw_series
from gradscape.report.figures.smoothness import finish, labeled
from gradscape.report.figures.style import LOOKS, styled


def scale_figure(
    study: StudyRecord, name: str, title: str, group: str, roles: Mapping[str, str], what: str
) -> Figure:
    """Draw one of `VALUES` over the epochs, a line for each role.

    Args:
        study: Record of a study.
        name: File name without ending.
        title: Title of the figure.
        group: Group of panels.
        roles: Label per role.
        what: Key of `VALUES`.
    """
    ylabel, scale, series = VALUES[what]
    with styled():
        drawing, axes = panel()
        axes.set(xlabel="epoch", ylabel=ylabel)
        longest = 0
        for look, (role, label) in zip(LOOKS, roles.items(), strict=False):
            runs = [run for run in members(study, role).values() if run is not None and known(run, series)]
            curves = tuple(tuple(series(run).tolist()) for run in runs)
            cut = tuple(run.state in ("diverged", "stopped") for run in runs)
            longest = max([longest, *map(len, curves)])
            draw_series(axes, Series(labeled(study, role, label), curves, cut, look), max(longest // 6, 1))
        if longest:
            axes.set_xticks(round_ticks(longest))
        finish(drawing, axes, scale if longest else False, len(roles))
    counts = seeds_in_words(drawn_seeds(study, roles))
    caption = [
        "Geometric mean over the convolutions, each a mean over the epoch's mini-batches.",
        f"Mean over {counts}, band from the lowest to the highest.",
        not_done(study, roles),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)
