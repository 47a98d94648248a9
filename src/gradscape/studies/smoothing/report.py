"""Report of the smoothing study: how smooth the loss is with BatchNorm and without, and claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from gradscape.analysis.claims import answer
from gradscape.analysis.equal_loss import WHERE, RolePair
from gradscape.analysis.evidence import finals
from gradscape.analysis.outcomes import ended_seeds, joined, members, not_done, seeds_in_words, window
from gradscape.analysis.sweep_points import Point
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure, titled
from gradscape.report.figures.by_axis import axis_figure
from gradscape.report.figures.curves import both_splits, one_split
from gradscape.report.figures.dot_plot import DotColumn, dot_figure, fits
from gradscape.report.figures.spectrum import ends_table, spectrum_figure
from gradscape.report.figures.weight_norm import scale_figure
from gradscape.report.pages.overview import Overview
from gradscape.report.table_cells import accuracies, seeds_ended, spread, with_interval
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.roles import PAPER
from gradscape.studies.smoothing.claims import EVERY_STEP, claims
from gradscape.studies.smoothing.measures import (
    BETA,
    LIPSCHITZ,
    MEANING,
    MEASURES,
    RELATIVE,
    SCALED,
    SHARPEST,
    LogRatios,
    best_pairs,
    best_rate,
)
from gradscape.studies.smoothing.panels import BY_LOSS, BY_STEP, Across, pair_figure
from gradscape.studies.smoothing.roles import DEFAULT_PAIR, NETWORKS, PAIRS, STARTS, rated

QUESTION = "Does BatchNorm smooth the loss of networks that train without it?"
LEAD = ("S2", "S3", "S4", "S5")
SAME, OWN = "same learning rate", "best rate of each"
SHORT = {
    RELATIVE: "β relative to size", SCALED: SCALED, LIPSCHITZ: "Lipschitz estimate", BETA: BETA,
    SHARPEST: SHARPEST,
}  # fmt: skip
EDGE = 0.08  # share of the scale beyond the outermost ratios
AT_EQUAL_LOSS = (("beta", "relative"), ("lipschitz", "gradient"), ("beta", "gradient"))
TITLES = {
    ("beta", "relative"): "Effective β relative to the weights' size",
    ("lipschitz", "gradient"): "Lipschitz estimate of the loss",
    ("beta", "gradient"): "Effective β",
    ("lipschitz", "step"): "Lipschitz estimate of the loss along the real step",
    ("beta", "step"): "Effective β along the real step",
}


def same_rate(study: StudyRecord) -> dict[str, RolePair]:
    """Return the pairs at the paper's learning rate, by the names of their networks.

    Args:
        study: Record of a study.
    """
    return {(STARTS | NETWORKS)[pair[1]].pair: pair for pair in (DEFAULT_PAIR, *PAIRS)}


def own_rates(study: StudyRecord) -> dict[str, RolePair]:
    """Return the pairs with each network at its best learning rate, by the names of their networks.

    Args:
        study: Record of a study.
    """
    found = zip(PAIRS, best_pairs(study).items(), strict=True)
    return {
        f"{NETWORKS[names[1]].pair}, lr {rates[0]:g} and {rates[1]:g}": roles
        for names, (roles, rates) in found
    }


# Figures


def figures(study: StudyRecord) -> list[Figure]:
    """Draw Figure 1, all ratios; 2, training; 3 to 5, smoothness at equal loss and step; 6, size of weights.

    Args:
        study: Record of a study.

    Example:
        >>> [figure.name for figure in figures(gradscape.load("runs/smoothing"))][:2]
        ['figure-1', 'figure-2a']
    """
    second, sixth = "Figure 2. Training", "Figure 6. Size of the weights, and curvature after training"
    compared = study.labels(*(role for pair in PAIRS for role in pair))
    pair = study.labels(*DEFAULT_PAIR)
    return [
        overview(study),
        one_split(study, "figure-2a", "Training accuracy", second, compared, "train"),
        one_split(study, "figure-2b", "Validation accuracy", second, compared, "valid"),
        both_splits(study, "figure-2c", "VGG08 from default weights", second, pair, "accuracy"),
        _by_rate(study, "figure-2d", "Accuracy by learning rate", second),
        *_panels(study, 3, "Smoothness at equal loss", same_rate(study), AT_EQUAL_LOSS, BY_LOSS),
        *_panels(study, 4, "Smoothness at equal step", same_rate(study), EVERY_STEP, BY_STEP),
        *_panels(
            study,
            5,
            "Smoothness at the best rate of each",
            own_rates(study),
            AT_EQUAL_LOSS,
            BY_LOSS,
        ),
        scale_figure(study, "figure-6a", "Norm of the weights", sixth, compared, "norm"),
        spectrum_figure(study, "figure-6b", sixth, compared, "end", 1),
    ]


def _panels(
    study: StudyRecord,
    number: int,
    group: str,
    pairs: Mapping[str, RolePair],
    measured: tuple[tuple[str, str], ...],
    across: Across,
) -> list[Figure]:
    return [
        pair_figure(
            study,
            f"figure-{number}{letter}",
            TITLES[kind],
            f"Figure {number}. {group}",
            pairs,
            *kind,
            across,
        )
        for letter, kind in zip("abc", measured, strict=True)
    ]


def overview(study: StudyRecord) -> Figure:
    """Draw the ratios of every measure, with BatchNorm over without, for each pair.

    Args:
        study: Record of a study.
    """
    same, own = same_rate(study), dict(zip(map("_".join, PAIRS), best_pairs(study), strict=True))

    def values(pair: RolePair | None, ratios: LogRatios) -> list[float]:
        return [10**value for value in ratios(study, pair).values()] if pair else []

    def marks(ratios: LogRatios) -> dict[str, list[list[float]]]:
        return {
            SAME: [values(pair, ratios) for pair in same.values()],
            OWN: [values(own.get("_".join(pair)), ratios) for pair in same.values()],
        }

    columns = [
        DotColumn(SHORT[name], marks(ratios), "log", reference=("as smooth", 1.0))
        for name, ratios in MEASURES.items()
    ]
    drawing = dot_figure(list(same), [""] * len(same), columns)
    _share_scale(drawing.axes, columns)
    roles = {role: study.roles[role].label for pair in same.values() for role in pair if role in study.roles}
    caption = [
        "Ratio of each measure, with BatchNorm over without: left of the dotted line the loss is smoother "
        f"with it. Means over {seeds_in_words(ended_seeds(study, roles))}, with each seed as a fine dot.",
        f"λmax is after training, the other measures are {WHERE}.",
        not_done(study, roles),
    ]
    group = "Figure 1. With BatchNorm over without"
    return Figure("figure-1", titled("figure-1", "Every measure"), joined(caption), group, drawing)


def _share_scale(panels: Sequence[Axes], columns: Sequence[DotColumn]) -> None:
    """Give all panels the limits that hold every ratio, and the first alone its legend."""
    ratios = [value for column in columns for rows in column.marks.values() for row in rows for value in row]
    logs = [math.log10(value) for value in (1.0, *ratios) if fits(value, "log")]
    margin = EDGE * max(max(logs) - min(logs), 1.0)
    for place, axes in enumerate(panels):
        if axes.get_xscale() == "log":
            axes.set_xlim(10 ** (min(logs) - margin), 10 ** (max(logs) + margin))
        legend = axes.get_legend()
        if place and legend is not None:
            legend.remove()


def _by_rate(study: StudyRecord, name: str, title: str, group: str) -> Figure:
    """Figure of the final validation accuracy along the learning rate, a line for each network."""
    points = [
        Point(
            label=role,
            settings={},
            values={"learning rate": rate, "network": network.label},
            runs=members(study, role),
            identities=study.roles[role].runs,
        )
        for key, network in NETWORKS.items()
        for rate, role in rated(study, key).items()
    ]
    drawing, note = axis_figure(points, "learning rate")
    caption = [
        "Final validation accuracy: mean and 95 % interval over seeds, and a faint dot for every run.",
        note,
        not_done(study, {point.label: study.roles[point.label].label for point in points}),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """Return Table 1, learning rates; 2, ratios of every measure; 3, curvature; 4, the test set.

    Args:
        study: Record of a study.
    """
    best = [role for pair in best_pairs(study) for role in pair]
    base = [role for pair in (DEFAULT_PAIR, *PAIRS) for role in pair]
    shown = study.labels(*dict.fromkeys([*base, *best]))
    return [
        _learning_rates(study),
        _ratios(study),
        ends_table(study, "table-3", "Table 3. Curvature", shown),
        accuracies(study, "table-4", "Table 4. Test accuracy", "run", shown),
    ]


def _learning_rates(study: StudyRecord) -> Table:
    rates = sorted({rate for network in NETWORKS for rate in rated(study, network)})
    rows = []
    for key, network in (STARTS | NETWORKS).items():
        names = rated(study, key)
        cells = [
            spread(study, names[rate], finals(study, names[rate], "train")) if rate in names else "–"
            for rate in rates
        ]
        best = f"{best_rate(study, key):g}" if key in NETWORKS else "–"
        rows.append((network.label, *cells, best))
    columns = ("network", *(f"lr {rate:g}" for rate in rates), "best lr")
    every = [role for key in NETWORKS for role in rated(study, key).values()]
    caption = (
        f"Final training accuracy, {window(study, every)}; a run that diverged counts as guessing. The best "
        "rate is that of the highest mean over the seeds that came to an end, of equal ones the lowest. ± is "
        "the 95 % interval over seeds (Student t)."
    )
    return Table("table-1", "Table 1. Learning rates", caption, columns, tuple(rows), words=("network",))


def _ratios(study: StudyRecord) -> Table:
    kinds = {SAME: same_rate(study), OWN: own_rates(study)}
    rows = [
        (
            kind,
            label,
            *(
                with_interval(study, pair[0], list(ratios(study, pair).values()))
                for ratios in MEASURES.values()
            ),
            seeds_ended(study, pair[0]),
            seeds_ended(study, pair[1]),
        )
        for kind, pairs in kinds.items()
        for label, pair in pairs.items()
    ]
    columns = ("rates", "pair", *MEASURES, "seeds with", "seeds without")
    caption = (
        "log10 of each measure with BatchNorm over without, paired by seed: below 0 the loss is smoother "
        f"with it. λmax is after training, the other measures are means {WHERE}. The first rate of two is "
        "that with BatchNorm. ± is the 95 % interval over seeds (Student t)."
    )
    return Table("table-2", "Table 2. Smoothness", caption, columns, tuple(rows), words=("rates", "pair"))


def _answer(study: StudyRecord) -> list[str]:
    """Paragraphs to begin with: the claims' sentences, then what each measure means."""
    return [*answer(claims(study), LEAD), MEANING]


PARTS = ReportParts(
    figures=figures,
    tables=tables,
    claims=claims,
    lead=LEAD,
    answer=_answer,
    overview=Overview("Gradients and accuracy of the pairs", tuple(role for pair in PAIRS for role in pair)),
    paper=PAPER,
)
