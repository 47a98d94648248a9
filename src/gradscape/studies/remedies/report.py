"""Report on remedies: figures and tables that compare them, and claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradscape.analysis.evidence import finals, trained
from gradscape.analysis.outcomes import (
    beats_guessing,
    ended,
    ended_seeds,
    joined,
    not_done,
    seeds_in_words,
    window,
)
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure, titled
from gradscape.report.figures.basin import landscape_figures, landscapes, width
from gradscape.report.figures.before_training import depth_figure
from gradscape.report.figures.curves import one_split
from gradscape.report.figures.dot_plot import DotColumn, dot_figure
from gradscape.report.figures.gradient_flow import flow_figure
from gradscape.report.figures.smoothness import line_figure
from gradscape.report.table_cells import accuracies, seeds_ended, spread, with_interval
from gradscape.report.tables import Table
from gradscape.stats.student_t import share
from gradscape.studies.batchnorm.roles import PAPER
from gradscape.studies.remedies.claims import MOMENTS, claims, correlation
from gradscape.studies.remedies.metrics import (
    SIGNAL,
    SMOOTHNESS,
    Number,
    all_train,
    each,
    epoch_seconds,
    first_gradient,
    highest_rate,
    last_gradient,
    likeness,
    rated,
    sharpness,
    start_slope,
    there,
    threshold,
    trained_slope,
    typical,
)
from gradscape.studies.remedies.roles import BOTH, HE, NORMED, PLAIN

QUESTION = "Does BatchNorm do more than repair the initialization?"
COMPARED = (PLAIN, HE, NORMED, BOTH, "skip", "selu")
Cell = Callable[[str], str]  # role → text
BETA, SCALE_FREE = typical("beta"), typical("beta", "relative")


def figures(study: StudyRecord) -> list[Figure]:
    """Draw Figure 1, which compares all remedies, and 2 to 6, which show six of them closely.

    Args:
        study: Record of a study.

    Example:
        >>> [figure.name for figure in figures(gradscape.load("runs/remedies"))][:1]
        ['figure-1']
    """
    second, third = "Figure 2. Before training", "Figure 3. Training"
    fourth, fifth = "Figure 4. Gradient flow through training", "Figure 5. Smoothness through training"
    sixth = "Figure 6. Loss around the trained weights"
    compared = study.labels(*COMPARED)
    flows = [
        flow_figure(study, f"figure-4{letter}", f"Gradient flow of {_titles(label)}", fourth, role)
        for letter, (role, label) in zip("abcdef", compared.items(), strict=False)
    ]
    return [
        overview(study),
        *_before_training(study, second, compared),
        one_split(study, "figure-3a", "Training accuracy", third, compared, "train"),
        one_split(study, "figure-3b", "Validation accuracy", third, compared, "valid"),
        *flows,
        line_figure(study, "figure-5a", "Effective β", fifth, compared, "beta", "gradient"),
        line_figure(study, "figure-5b", "Effective β, scale-free", fifth, compared, "beta", "relative"),
        *landscape_figures(study, "figure-6", sixth, compared),
    ]


def _before_training(study: StudyRecord, group: str, roles: Mapping[str, str]) -> list[Figure]:
    """Figures of the signal that reaches each layer, backwards and forwards, before the first step."""
    gradient = depth_figure(
        study,
        "figure-2a",
        "Gradient of each layer",
        group,
        roles,
        lambda start: start.gradients,
        "mean |∂L/∂W|",
        "log",
        "Mean |∂L/∂W| of each weight layer before the first step.",
    )
    alike = depth_figure(
        study,
        "figure-2b",
        "Correlation of two images",
        group,
        roles,
        lambda start: start.correlation,
        "correlation of two images",
        "linear",
        "Mean cosine between a layer's outputs for two images before the first step: at 1 all images look "
        "alike, and no gradient can tell them apart (Schoenholz et al. 2017).",
    )
    return [gradient, alike]


def _titles(label: str) -> str:
    return label if label.startswith("VGG") else f"VGG38 with {label}"


def overview(study: StudyRecord) -> Figure:
    """Draw all remedies by accuracy, gradient, learning rate and smoothness.

    Args:
        study: Record of a study.
    """
    roles = there(study)

    def values(number: Number) -> list[list[float]]:
        return [list(each(study, role, number).values()) for role in roles]

    accuracy = {
        split: [list(finals(study, role, name).values()) for role in roles]
        for split, name in (("training", "train"), ("validation", "valid"))
    }
    rates = [highest_rate(study, role) for role in roles]
    highest = [[] if highest.rate is None else [highest.rate] for highest in rates]
    tried = tuple(sorted({rate for highest in rates for rate in highest.tried}))
    drawing = dot_figure(
        [study.roles[role].label for role in roles],
        [study.roles[role].group for role in roles],
        [
            DotColumn("final accuracy", accuracy, reference=("trains", threshold(study))),
            DotColumn(
                "mean |∂L/∂W|, first layer",
                {"before training": values(first_gradient), "last epoch": values(last_gradient)},
                "log",
            ),
            DotColumn("correlation of two images", {"c": values(likeness)}),
            DotColumn("highest rate that trains", {"rate": highest}, "log", ticks=tried),
            DotColumn("effective β", {"β": values(BETA)}, "log"),
            DotColumn("λmax after training", {"λmax": values(sharpness("end"))}, "log"),
        ],
    )
    seeds = seeds_in_words(ended_seeds(study, roles))
    caption = [
        f"Means over {seeds}, with each seed as a fine dot.",
        f"Accuracy: {window(study, roles)}; the dotted line is twice guessing.",
        "Correlation of two images: in the last convolution's output, before training.",
        "Effective β along the gradient, geometric mean through training.",
        "A missing dot: none of the learning rates tried trains, or the number is 0 or not finite.",
        not_done(study, study.labels(*roles)),
    ]
    group = "Figure 1. Every remedy"
    return Figure("figure-1", titled("figure-1", "Every remedy, compared"), joined(caption), group, drawing)


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """Return Table 1, every remedy; 2, predictors of accuracy; 3, learning rates; 4, the test set.

    Args:
        study: Record of a study.
    """
    return [_every_remedy(study), _predictors(study), _learning_rates(study), _test_set(study)]


def _every_remedy(study: StudyRecord) -> Table:
    def mean(number: Number) -> Cell:
        return lambda role: with_interval(study, role, list(each(study, role, number).values()))

    cells: dict[str, Cell] = {
        "remedy": lambda role: study.roles[role].label,
        "acc train": lambda role: spread(study, role, finals(study, role, "train")),
        "acc valid": lambda role: spread(study, role, finals(study, role, "valid")),
        "trains": lambda role: _train_share(study, role),
        "highest lr": lambda role: str(highest_rate(study, role)),
        "gradient at init": mean(first_gradient),
        "slope at init": mean(start_slope),
        "slope": mean(trained_slope),
        "correlation at init": mean(likeness),
        "effective β": mean(BETA),
        "β, scale-free": mean(SCALE_FREE),
        "λmax": mean(sharpness("end")),
        "width at +1": lambda role: width(study, role, list(landscapes(study, role).values()), 1.0),
        "s/epoch": mean(epoch_seconds),
        "diagnosis": lambda role: _diagnosed(study, role),
        "seeds": lambda role: seeds_ended(study, role),
    }
    rows = [tuple(cell(role) for cell in cells.values()) for role in there(study)]
    caption = (
        f"Accuracies: {window(study, there(study))}. Trains: seeds whose training accuracy is above twice "
        "guessing, and the 95 % interval of their share (Clopper & Pearson 1934). Highest lr: of those of "
        "Table 3, at which every seed trains. Gradient: mean |∂L/∂W| of the first weight layer; slope: "
        "orders of magnitude per layer towards the output; correlation of two images in the last "
        "convolution's output. Effective β (Santurkar et al. 2018): geometric mean through training along "
        "the gradient; scale-free, relative to the weights' size (Kwon et al. 2021); λmax, the Hessian's "
        "largest eigenvalue, and the width of the basin at +1 nat, ≥ where it goes on beyond the plane: "
        "after training. ± is the 95 % interval over seeds (Student t)."
    )
    words = ("remedy", "trains", "diagnosis")
    return Table("table-1", "Table 1. Every remedy", caption, tuple(cells), tuple(rows), words)


def _train_share(study: StudyRecord, role: str) -> str:
    """Return the number of seeds that train, with the interval of the share."""
    train = trained(study, role)
    return str(share(sum(train), len(train))) if train else "–"


def _diagnosed(study: StudyRecord, role: str) -> str:
    """Return the verdicts of `gradscape.diagnose` on a role's runs; none that ends at guessing is healthy."""
    runs = [run for run in ended(study, role).values() if "diagnosis" in run.status]
    verdicts = [(run, str(run.status["diagnosis"]["verdict"])) for run in runs]
    found = [
        "does not learn" if said == "healthy" and not beats_guessing(run) else said for run, said in verdicts
    ]
    if len(set(found)) < 2:
        return found[0] if found else "–"
    return ", ".join(f"{found.count(each)} of {len(found)} {each}" for each in dict.fromkeys(found))


def _predictors(study: StudyRecord) -> Table:
    trainable = [role for role in there(study) if all_train(study, role)]
    rows = [
        (
            kind,
            name,
            *(
                str(correlation(study, number, roles, question)) if _measured(study, number) else "–"
                for question, roles in ((0, there(study)), (1, trainable))
                for number in pair
            ),
        )
        for kind, chosen in (("signal", SIGNAL), ("smoothness", SMOOTHNESS))
        for name, pair in chosen.items()
    ]
    caption = (
        "Spearman's rank correlation with whether a run trains, over all runs of Table 1, and with the final "
        "validation accuracy, over those of remedies of which every seed trains; with a 95 % interval from a "
        "bootstrap over remedies. Images: in the last convolution's output. At "
        "initialization the smoothness is that of the first step; λmax before and after training."
    )
    headings = [f"{question}, {moment}" for question in ("trains", "accuracy") for moment in MOMENTS]
    columns, words = ("kind", "number", *headings), ("kind", "number")
    return Table("table-2", "Table 2. What predicts accuracy", caption, columns, tuple(rows), words)


def _measured(study: StudyRecord, number: Number) -> bool:
    return any(each(study, role, number) for role in there(study))


def _learning_rates(study: StudyRecord) -> Table:
    rates = sorted({rate for role in there(study) for rate in rated(study, role)})
    rows = []
    for role in there(study):
        names = rated(study, role)
        cells = [
            spread(study, names[rate], finals(study, names[rate], "train")) if rate in names else "–"
            for rate in rates
        ]
        rows.append((study.roles[role].label, *cells, str(highest_rate(study, role))))
    columns = ("remedy", *(f"lr {rate:g}" for rate in rates), "highest that trains")
    caption = (
        "Final training accuracy at each learning rate; a run that diverged counts as guessing. ± is the "
        "95 % interval over seeds (Student t)."
    )
    return Table("table-3", "Table 3. Learning rates", caption, columns, tuple(rows), words=("remedy",))


def _test_set(study: StudyRecord) -> Table:
    return accuracies(study, "table-4", "Table 4. Test accuracy", "remedy", study.labels(*there(study)))


PARTS = ReportParts(figures=figures, tables=tables, claims=claims, lead=("R1", "R2", "R3", "R8"), paper=PAPER)
