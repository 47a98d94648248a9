"""Report of the BatchNorm study: the paper's figures and tables again, ours beside them.

Paper: "MLP Coursework 2: Investigating the Optimization of Convolutional Networks" (s1705386). Everything
here is a function of the `StudyRecord`; runs that are missing, unfinished or diverged are named.
"""

from __future__ import annotations

from gradscape.analysis.curvature import curvatures
from gradscape.analysis.outcomes import ended, setting
from gradscape.records.run import StudyRecord
from gradscape.report.build import Page, ReportParts
from gradscape.report.figures.base import Figure
from gradscape.report.figures.basin import basins_table, landscape_figures
from gradscape.report.figures.curves import both_splits, one_split
from gradscape.report.figures.gradient_flow import flow_figure
from gradscape.report.figures.smoothness import band_figure, line_figure
from gradscape.report.figures.spectrum import ends_table, spectrum_figure
from gradscape.report.pages.landscape import turning_pages
from gradscape.report.pages.overview import Overview
from gradscape.report.table_cells import (
    accuracies,
    averaged,
    beside_paper,
    beside_paper_headings,
    ours,
    seeds_ended,
    spread,
)
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.claims import claims
from gradscape.studies.batchnorm.roles import (
    BAND,
    BATCHES,
    NETWORKS,
    PAPER,
    RATES,
)

QUESTION = "How does BatchNorm solve the vanishing gradients problem?"
COLUMNS = {
    "loss train": "train_loss",
    "loss valid": "valid_loss",
    "acc train": "train_accuracy",
    "acc valid": "valid_accuracy",
}

# The paper's Table 1, columns as above, and Table 2, validation accuracy.
PAPER_TABLE_1 = {
    "0.0001": ("1.815(3)", "2.311(1)", "0.493(2)", "0.402(1)"),
    "0.0005": ("1.371(2)", "1.953(1)", "0.599(2)", "0.477(1)"),
    "0.001": ("1.601(1)", "1.974(2)", "0.547(2)", "0.455(1)"),
    "0.005": ("1.737(1)", "2.056(3)", "0.518(1)", "0.448(1)"),
    "0.01": ("1.603(3)", "1.943(1)", "0.547(3)", "0.479(1)"),
    "0.05": ("2.096(3)", "2.331(1)", "0.411(2)", "0.367(2)"),
}
PAPER_TABLE_2 = {
    "50": "0.180(1)",
    "100": "0.368(1)",
    "150": "0.365(2)",
    "200": "0.372(1)",
    "400": "0.427(2)",
    "800": "0.438(2)",
}

# In the text of §5.4, at the paper's last epoch: role, label, train and validation accuracy.
IN_TEXT = (
    ("lr-0.01", "lr 0.01", "–", "0.4784"),
    ("lr-0.001", "lr 0.001", "–", "0.4544"),
    ("batch-400", "batch 400", "0.5188", "0.4189"),
    ("batch-100", "batch 100", "0.4133", "0.3724"),
)

# Figures


def figures(study: StudyRecord) -> list[Figure]:
    """Draw Figures 1a-d, 2 and 3a-d of the paper; 2b, accuracy with BatchNorm; 4 to 8, smoothness.

    Args:
        study: Record of a study.

    Example:
        >>> [figure.name for figure in figures(gradscape.load("runs/batchnorm"))][:2]
        ['figure-1a', 'figure-1b']
    """
    first = "Figure 1. Depth without BatchNorm"
    second = "Figure 2. Depth with BatchNorm"
    third = "Figure 3. BatchNorm across learning rates and batch sizes"
    plain = study.labels("vgg08", "vgg38")
    rescue = study.labels("vgg38-bn", "vgg38")  # VGG38 in its color of Figure 1
    networks = study.labels(*NETWORKS)
    rates = study.labels(*(f"lr-{rate}" for rate in RATES))
    batches = study.labels(control="batch")
    fourth = "Figure 4. Smoothness through training"
    fifth = "Figure 5. Smoothness by batch size"
    sixth = "Figure 6. Curvature before and after training"
    seventh = "Figure 7. Loss around the trained weights"
    eighth = "Figure 8. Loss around the trained weights by batch size"
    return [
        flow_figure(study, "figure-1a", "Gradient flow of VGG38", first, "vgg38", beside=["vgg08"]),
        flow_figure(study, "figure-1b", "Gradient flow of VGG08", first, "vgg08", beside=["vgg38"]),
        both_splits(study, "figure-1c", "Accuracy of VGG08 and VGG38", first, plain, "accuracy"),
        both_splits(study, "figure-1d", "Loss of VGG08 and VGG38", first, plain, "loss"),
        flow_figure(
            study,
            "figure-2",
            "Gradient flow of VGG38 with BatchNorm",
            second,
            "vgg38-bn",
            BAND,
            band_source="where the paper finds them",
        ),
        both_splits(study, "figure-2b", "Accuracy with and without BatchNorm", second, rescue, "accuracy"),
        one_split(study, "figure-3a", "Training accuracy by learning rate", third, rates, "train"),
        one_split(study, "figure-3b", "Validation accuracy by learning rate", third, rates, "valid"),
        one_split(study, "figure-3c", "Training accuracy by batch size", third, batches, "train"),
        one_split(study, "figure-3d", "Validation accuracy by batch size", third, batches, "valid"),
        band_figure(study, "figure-4a", "Range of the loss", fourth, networks, "variation", "gradient"),
        band_figure(
            study, "figure-4b", "Change of the gradient", fourth, networks, "predictiveness", "gradient"
        ),
        line_figure(study, "figure-4c", "Effective β", fourth, networks, "beta", "gradient"),
        line_figure(study, "figure-4d", "Effective β of the real steps", fourth, networks, "beta", "step"),
        line_figure(study, "figure-5a", "Effective β by steps", fifth, batches, "beta", "step"),
        line_figure(study, "figure-5b", "Effective β by epochs", fifth, batches, "beta", "step", True),
        spectrum_figure(study, "figure-6a", sixth, networks, "start", 1),
        spectrum_figure(study, "figure-6b", sixth, networks, "end", 1),
        spectrum_figure(study, "figure-6c", sixth, networks, "start", -1),
        spectrum_figure(study, "figure-6d", sixth, networks, "end", -1),
        *landscape_figures(study, "figure-7", seventh, networks),
        *landscape_figures(study, "figure-8", eighth, batches),
    ]


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """Return Tables 1 and 2 of the paper; 3 test set, 4 curvature, 5 landscapes, 6 accuracies in its text.

    Args:
        study: Record of a study.

    Example:
        >>> print(to_markdown(tables(study)[1]))
    """
    return [
        _learning_rates(study),
        _batch_sizes(study),
        _test_set(study),
        _curvature(study),
        _landscape(study),
        _in_text(study),
    ]


def _learning_rates(study: StudyRecord) -> Table:
    rows = []
    for rate in RATES:
        cells = beside_paper(study, f"lr-{rate}", COLUMNS.values(), PAPER_TABLE_1[rate])
        rows.append((rate, *cells, seeds_ended(study, f"lr-{rate}")))
    averages = averaged(study, [f"lr-{rate}" for rate in RATES])
    caption = f"VGG38 with BatchNorm, {study.roles['batch-100'].label}. {averages}"
    columns = ("learning rate", *beside_paper_headings(COLUMNS), "seeds")
    return Table("table-1", "Table 1. Learning rates", caption, columns, tuple(rows))


def _batch_sizes(study: StudyRecord) -> Table:
    rows = [
        (
            size,
            setting(study, f"batch-{size}", "batch_size"),
            ours(study, f"batch-{size}", "train_accuracy"),
            ours(study, f"batch-{size}", "valid_accuracy"),
            PAPER_TABLE_2[size],
            seeds_ended(study, f"batch-{size}"),
        )
        for size in BATCHES
    ]
    columns = ("batch size (paper)", "here", "acc train", "acc valid", "acc valid (paper)", "seeds")
    caption = f"VGG38 with BatchNorm, learning rate 0.05. {averaged(study, [f'batch-{s}' for s in BATCHES])}"
    return Table("table-2", "Table 2. Batch sizes", caption, columns, tuple(rows))


def _test_set(study: StudyRecord) -> Table:
    return accuracies(study, "table-3", "Table 3. Test accuracy", "run", study.labels())


def _curvature(study: StudyRecord) -> Table:
    sizes = {role: f"lr 0.05, {label}" for role, label in study.labels(control="batch").items()}
    measured = {role: label for role, label in sizes.items() if curvatures(study, role, "end")}
    return ends_table(study, "table-4", "Table 4. Curvature", study.labels(*NETWORKS) | measured)


def _landscape(study: StudyRecord) -> Table:
    sizes = {role: f"lr 0.05, {label}" for role, label in study.labels(control="batch").items()}
    return basins_table(
        study, "table-5", "Table 5. Loss around the trained weights", study.labels(*NETWORKS) | sizes
    )


def _in_text(study: StudyRecord) -> Table:
    """Table of the accuracies that the paper names in its text, at the last epoch, and ours."""
    rows = [
        (
            label,
            _last_epoch(study, role, "train_accuracy"),
            train,
            _last_epoch(study, role, "valid_accuracy"),
            valid,
            seeds_ended(study, role),
        )
        for role, label, train, valid in IN_TEXT
    ]
    columns = ("run", *beside_paper_headings(("acc train", "acc valid")), "seeds")
    caption = (
        "Accuracy at a run's last epoch alone, which is the paper's 100th; ± is the 95 % interval over seeds "
        "(Student t). Learning rates at batch 100, batch sizes at learning rate 0.05; the paper has one seed."
    )
    title = "Table 6. Accuracies in the paper's text"
    return Table("table-6", title, caption, columns, tuple(rows), words=("run",))


def _last_epoch(study: StudyRecord, role: str, field: str) -> str:
    done = {seed: run for seed, run in ended(study, role).items() if run.state == "done"}
    return spread(study, role, {seed: run.curve(field)[-1] for seed, run in done.items()})


# Pages


def _pages(study: StudyRecord) -> list[Page]:
    """Pages of Figures 7 and 8 in three dimensions."""
    return turning_pages(
        study, {"figure-7": study.labels(*NETWORKS), "figure-8": study.labels(control="batch")}
    )


PARTS = ReportParts(
    figures=figures,
    tables=tables,
    claims=claims,
    pages=_pages,
    lead=("C1", "C2", "C3", "C4"),
    overview=Overview(
        "Depth, gradients and accuracy",
        ("vgg08", "vgg38", "vgg38-bn"),
        BAND,
        "where the paper finds VGG38 with BatchNorm",
    ),
    paper=PAPER,
)
