"""Report of the controls study: possible causes of the paper's results on batch sizes; effect of L2."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradscape.analysis.noise import noises, step_noise
from gradscape.analysis.outcomes import ended, joined, members, not_done, setting
from gradscape.analysis.sweep_points import Point
from gradscape.analysis.weight_norm import scales
from gradscape.records.noise import NoiseRecord
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure, titled
from gradscape.report.figures.by_axis import axis_figure
from gradscape.report.figures.curves import one_split
from gradscape.report.figures.noise import RAW, outcome_figure, trace_figure
from gradscape.report.figures.weight_norm import scale_figure
from gradscape.report.table_cells import averaged, ours, seeds_ended, with_interval
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.report import PAPER_TABLE_2
from gradscape.studies.batchnorm.roles import PAPER
from gradscape.studies.controls.claims import claims
from gradscape.studies.controls.roles import (
    CONTROLS,
    NETWORKS,
    NORMED,
    PLAIN,
    SGD_RATE,
    sizes,
)

QUESTION = (
    "Are the paper's sweeps about batch size and learning rate, or about the number of updates, the noise "
    "and the scale of weights?"
)
INTERVAL = "± is the 95 % interval over seeds (Student t)."


# Figures


def figures(study: StudyRecord) -> list[Figure]:
    """Draw Figure 1, batch sizes under four controls; 2, L2 with and without BatchNorm; 3, gradient noise.

    Args:
        study: Record of a study.

    Example:
        >>> [figure.name for figure in figures(gradscape.load("runs/controls"))][:2]
        ['figure-1a', 'figure-1b']
    """
    first = "Figure 1. Batch sizes at equal epochs, at equal updates, at scaled rates"
    second = "Figure 2. L2 under SGD, with and without BatchNorm"
    third = "Figure 3. Noise of the gradient"
    lines = {label: study.labels(control=control) for control, label in CONTROLS.items()}
    normed, plain = (study.labels(network=network, lr=SGD_RATE) for network in NETWORKS)
    panels = zip("abcd", lines.items(), strict=True)
    return [
        *(
            one_split(study, f"figure-1{letter}", f"Batch sizes, {label}", first, roles, "valid")
            for letter, (label, roles) in panels
        ),
        _by_size(study, "figure-1e", "Where they end", first),
        one_split(study, "figure-2a", f"Accuracy of {NORMED}", second, normed, "valid"),
        one_split(study, "figure-2b", f"Accuracy of {PLAIN}", second, plain, "valid"),
        scale_figure(study, "figure-2c", f"Norm of the weights, {NORMED}", second, normed, "norm"),
        scale_figure(study, "figure-2d", f"Norm of the weights, {PLAIN}", second, plain, "norm"),
        scale_figure(study, "figure-2e", f"Effective learning rate, {NORMED}", second, normed, "rate"),
        scale_figure(study, "figure-2f", f"Relative update, {NORMED}", second, normed, "update"),
        trace_figure(study, "figure-3a", "Noise by batch size", third, lines),
        outcome_figure(study, "figure-3b", "Noise of a step and accuracy", third, lines),
    ]


def _by_size(study: StudyRecord, name: str, title: str, group: str) -> Figure:
    """Figure of the final validation accuracy along the batch size, a line for each control."""
    points = [
        Point(
            label=role.name,
            settings={},
            values={"batch size": role.parameters["batch_size"], "at": label},
            runs=members(study, role.name),
            identities=role.runs,
        )
        for control, label in CONTROLS.items()
        for role in study.where(control=control)
    ]
    drawing, note = axis_figure(points, "batch size")
    roles = {point.label: f"{point.values['at']}, batch {point.values['batch size']}" for point in points}
    caption = [
        "Final validation accuracy: mean and 95 % interval over seeds, and a faint dot for every run. "
        "Batch sizes are the paper's.",
        note,
        not_done(study, roles),
    ]
    return Figure(name, titled(name, title), joined(caption), group, drawing)


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """Return Table 1, batch sizes under every control, beside the paper's Table 2; 2, L2; 3, noise.

    Args:
        study: Record of a study.
    """
    return [_batch_sizes(study), _penalties(study), _gradient_noise(study)]


def _batch_sizes(study: StudyRecord) -> Table:
    rows = [
        (
            label,
            str(size),
            setting(study, role, "batch_size"),
            setting(study, role, "optim.lr"),
            setting(study, role, "epochs"),
            ours(study, role, "train_accuracy"),
            ours(study, role, "valid_accuracy"),
            PAPER_TABLE_2[str(size)] if control == "batch" else "–",
            seeds_ended(study, role),
        )
        for control, label in CONTROLS.items()
        for size in sizes(study)
        for role in [f"{control}-{size}"]
    ]
    columns = (
        "control", "batch size", "here", "lr", "epochs", "acc train", "acc valid", "acc valid (paper)",
        "seeds",
    )  # fmt: skip
    roles = [f"{control}-{size}" for control in CONTROLS for size in sizes(study)]
    caption = f"VGG38 with BatchNorm and Adam. {averaged(study, roles)} Controls share runs where they agree."
    return Table("table-1", "Table 1. Batch sizes", caption, columns, tuple(rows), words=("control",))


def _penalties(study: StudyRecord) -> Table:
    kinds = {label: study.labels(network=network) for network, label in NETWORKS.items()}
    rows = [
        (
            label,
            words,
            ours(study, role, "train_accuracy"),
            ours(study, role, "valid_accuracy"),
            *(
                with_interval(study, role, list(scales(study, role, what, epoch).values()))
                for what, epoch in (("norm", 0), ("norm", -1), ("rate", -1), ("update", -1))
            ),
            seeds_ended(study, role),
        )
        for label, penalties in kinds.items()
        for role, words in penalties.items()
    ]
    columns = (
        "network", "penalty", "acc train", "acc valid", "‖w‖, first epoch", "‖w‖, last", "lr / ‖w‖², last",
        "‖Δw‖ / ‖w‖, last", "seeds",
    )  # fmt: skip
    roles = [role for roles in kinds.values() for role in roles]
    caption = (
        "SGD with momentum at a constant rate; ‖w‖ and ‖Δw‖ / ‖w‖ are geometric means over convolutions. "
        f"{averaged(study, roles)}"
    )
    return Table("table-2", "Table 2. L2", caption, columns, tuple(rows), words=("network", "penalty"))


def _gradient_noise(study: StudyRecord) -> Table:
    rows = []
    for control, label in CONTROLS.items():
        for size in sizes(study):
            role = f"{control}-{size}"
            steps = [step_noise(run) for run in ended(study, role).values()]
            rows.append(
                (
                    label,
                    str(size),
                    setting(study, role, "batch_size"),
                    _noise_cell(study, role, lambda noise: noise.gradient_square),
                    _noise_cell(study, role, lambda noise: noise.batch_trace),
                    _noise_cell(study, role, lambda noise: noise.noise_scale),
                    with_interval(study, role, steps),
                    ours(study, role, "valid_accuracy"),
                    seeds_ended(study, role),
                )
            )
    columns = (
        "control", "batch size", "here", "|G|²", "tr Σ_B", "noise scale (images)", "lr √(tr Σ_B)",
        "acc valid", "seeds",
    )  # fmt: skip
    caption = (
        "|G|² and tr Σ_B: squared mean and covariance of a mini-batch's gradient (McCandlish et al. 2018). A "
        f"noise scale is infinite where the noise drowns the mean of the mini-batches. {RAW} {INTERVAL}"
    )
    return Table(
        "table-3", "Table 3. Noise of the gradient", caption, columns, tuple(rows), words=("control",)
    )


def _noise_cell(study: StudyRecord, role: str, value: Callable[[NoiseRecord], float]) -> str:
    """Return mean and interval over seeds, or the number of infinite values."""
    found = [value(noise.record) for noise in noises(study, role).values()]
    infinite = sum(map(math.isinf, found))
    if infinite:
        return "∞" if infinite == len(found) else f"∞ in {infinite} of {len(found)}"
    return with_interval(study, role, found)


PARTS = ReportParts(figures=figures, tables=tables, claims=claims, paper=PAPER)
