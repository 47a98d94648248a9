"""The report on remedies: one figure, one table, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradscape.records import Start, StudyRecord
from gradscape.report.basins import landscape_figures
from gradscape.report.build import ReportParts
from gradscape.report.cells import seeds_ended, spread, with_interval
from gradscape.report.claims import ONE_SEED, Claim
from gradscape.report.depth import depth_figure
from gradscape.report.dots import Column, dot_figure
from gradscape.report.figures import Figure
from gradscape.report.panels import flow_figure, not_done, one_split, titled
from gradscape.report.runs import ended, joined, members, seeds_in_words, window
from gradscape.report.smoothing import line_figure
from gradscape.report.tables import Alignment, Table
from gradscape.study.remedies_claims import MOMENTS, claims, correlation
from gradscape.study.remedies_names import BOTH, HE, NORMED, PLAIN, REMEDIES
from gradscape.study.remedies_numbers import (
    SIGNAL,
    SMOOTHNESS,
    Number,
    accuracies,
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
    width,
)

QUESTION = "Does BatchNorm do more than repair the initialisation?"
COMPARED = {role: REMEDIES[role].label for role in (PLAIN, HE, NORMED, BOTH, "skip", "selu")}
BETA, SCALE_FREE = typical("beta"), typical("scale-free")


def figures(study: StudyRecord) -> list[Figure]:
    """Figure 1 compares all remedies; 2 to 6 look closer at six of them.

    Example:
        >>> [figure.name for figure in figures(gradscape.load("runs/remedies"))][:1]
        ['figure-1']
    """
    second, third = "Figure 2. Before training", "Figure 3. Training"
    fourth, fifth = "Figure 4. Gradient flow through training", "Figure 5. Smoothness through training"
    sixth = "Figure 6. Loss around the trained weights"
    compared = {role: label for role, label in COMPARED.items() if role in study.roles}
    flows = [
        flow_figure(study, f"figure-4{letter}", f"Gradient flow of {titles(label)}", fourth, role)
        for letter, (role, label) in zip("abcdef", compared.items(), strict=False)
    ]
    return [
        overview(study),
        *before_training(study, second, compared),
        one_split(study, "figure-3a", "Training accuracy", third, compared, "train"),
        one_split(study, "figure-3b", "Validation accuracy", third, compared, "valid"),
        *flows,
        line_figure(study, "figure-5a", "Effective β", fifth, compared, "beta", "gradient"),
        line_figure(study, "figure-5b", "Effective β · ‖θ‖²", fifth, compared, "scale-free", "gradient"),
        *landscape_figures(study, "figure-6", sixth, compared),
    ]


def before_training(study: StudyRecord, group: str, roles: Mapping[str, str]) -> list[Figure]:
    """What reaches each layer, backwards and forwards, before the first step."""
    gradient = depth_figure(
        study,
        "figure-2a",
        "Gradient of each layer",
        group,
        roles,
        Start.weights,
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


def titles(label: str) -> str:
    return label if label.startswith("VGG") else f"VGG38 with {label}"


def overview(study: StudyRecord) -> Figure:
    """All remedies by accuracy, gradient, learning rate and smoothness."""
    roles = there(study)

    def values(number: Number) -> list[list[float]]:
        return [list(each(study, role, number).values()) for role in roles]

    accuracy = {
        split: [list(accuracies(study, role, name).values()) for role in roles]
        for split, name in (("training", "train"), ("validation", "valid"))
    }
    rates = [highest_rate(study, role) for role in roles]
    highest = [[] if found.rate is None else [found.rate] for found in rates]
    tried = tuple(sorted({rate for found in rates for rate in found.tried}))
    drawing = dot_figure(
        [REMEDIES[role].label for role in roles],
        [REMEDIES[role].group for role in roles],
        [
            Column("final accuracy", accuracy, reference=("trains", threshold(study))),
            Column(
                "mean |∂L/∂W|, first layer",
                {"before training": values(first_gradient), "last epoch": values(last_gradient)},
                "log",
            ),
            Column("correlation of two images", {"c": values(likeness)}),
            Column("highest rate that trains", {"rate": highest}, "log", ticks=tried),
            Column("effective β", {"β": values(BETA)}, "log"),
            Column("λmax after training", {"λmax": values(sharpness("end"))}, "log"),
        ],
    )
    seeds = seeds_in_words([len(members(study, role)) for role in roles])
    caption = [
        f"Means over {seeds}, with each seed as a fine dot.",
        f"Accuracy: {window(study, roles)}; the dotted line is twice guessing.",
        "Correlation of two images: in the last convolution's output, before training.",
        "Effective β along the gradient, geometric mean through training.",
        "A missing dot: none of the learning rates tried trains, or the number is 0 or not finite.",
        not_done(study, {role: REMEDIES[role].label for role in roles}),
    ]
    group = "Figure 1. Every remedy"
    return Figure("figure-1", titled("figure-1", "Every remedy, compared"), joined(caption), group, drawing)


# Tables


def tables(study: StudyRecord) -> list[Table]:
    """1, every remedy; 2, what predicts accuracy; 3, learning rates; 4, the test set."""
    return [every_remedy(study), predictors(study), learning_rates(study), test_set(study)]


def every_remedy(study: StudyRecord) -> Table:
    numbers: dict[str, Number] = {
        "gradient at init": first_gradient,
        "slope at init": start_slope,
        "slope": trained_slope,
        "effective β": BETA,
        "β‖θ‖²": SCALE_FREE,
        "λmax": sharpness("end"),
        "width at +1": width,
        "s/epoch": epoch_seconds,
    }
    rows = []
    for role in there(study):
        rows.append(
            (
                REMEDIES[role].label,
                *(spread(study, role, accuracies(study, role, split)) for split in ("train", "valid")),
                {True: "yes", False: "no", None: "–"}[all_train(study, role)],
                str(highest_rate(study, role)),
                *(
                    with_interval(study, role, list(each(study, role, number).values()))
                    for number in numbers.values()
                ),
                diagnosed(study, role),
                seeds_ended(study, role),
            )
        )
    columns = ("remedy", "acc train", "acc valid", "trains", "highest lr", *numbers, "diagnosis", "seeds")
    caption = (
        f"Accuracies: {window(study, there(study))}. Trains: every seed's training accuracy is above twice "
        "guessing. Highest lr: of those of Table 3, at which every seed trains. Gradient: mean |∂L/∂W| of "
        "the first weight layer; slope: orders of magnitude per layer towards the output. Effective β and "
        "β‖θ‖² (Santurkar et al. 2018): geometric means through training along the gradient; λmax, the "
        "Hessian's largest eigenvalue, and the width of the basin at +1 nat: after training. ± is the 95 % "
        "interval over seeds (Student t)."
    )
    return table("table-1", "Table 1. Every remedy", caption, columns, rows, {0, 3, 13})


def diagnosed(study: StudyRecord, role: str) -> str:
    """The verdicts of `gradscape.diagnose` on a role's runs."""
    found = [
        run.status["diagnosis"]["verdict"] for run in ended(study, role).values() if "diagnosis" in run.status
    ]
    if len(set(found)) < 2:
        return found[0] if found else "–"
    return ", ".join(f"{found.count(each)} of {len(found)} {each}" for each in dict.fromkeys(found))


def predictors(study: StudyRecord) -> Table:
    rows = [
        (
            kind,
            name,
            *(str(correlation(study, number)) if measured(study, number) else "–" for number in pair),
        )
        for kind, chosen in (("signal", SIGNAL), ("smoothness", SMOOTHNESS))
        for name, pair in chosen.items()
    ]
    caption = (
        "Spearman's rank correlation with the final validation accuracy, over all runs of Table 1, with a "
        "95 % interval from a bootstrap over remedies. Images: in the last convolution's output. At "
        "initialisation the smoothness is that of the first step; λmax before and after training."
    )
    return table(
        "table-2", "Table 2. What predicts accuracy", caption, ("kind", "number", *MOMENTS), rows, {0, 1}
    )


def measured(study: StudyRecord, number: Number) -> bool:
    return any(each(study, role, number) for role in there(study))


def learning_rates(study: StudyRecord) -> Table:
    rates = sorted({rate for role in there(study) for rate in rated(study, role)})
    rows = []
    for role in there(study):
        names = rated(study, role)
        cells = [
            spread(study, names[rate], accuracies(study, names[rate], "train")) if rate in names else "–"
            for rate in rates
        ]
        rows.append((REMEDIES[role].label, *cells, str(highest_rate(study, role))))
    columns = ("remedy", *(f"lr {rate:g}" for rate in rates), "highest that trains")
    caption = (
        "Final training accuracy at each learning rate; a run that diverged counts as guessing. ± is the "
        "95 % interval over seeds (Student t)."
    )
    return table("table-3", "Table 3. Learning rates", caption, columns, rows, {0})


def test_set(study: StudyRecord) -> Table:
    rows = []
    for role in there(study):
        cells = [
            spread(
                study,
                role,
                {seed: run.test[which]["accuracy"] for seed, run in ended(study, role).items() if run.test},
            )
            for which in ("last", "best")
        ]
        rows.append((REMEDIES[role].label, *cells, seeds_ended(study, role)))
    columns = ("remedy", "last weights", "best-validation weights", "seeds")
    caption = "Accuracy on the test set; ± is the 95 % interval over seeds (Student t)."
    return table("table-4", "Table 4. Test accuracy", caption, columns, rows, {0})


def table(
    name: str,
    title: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    words: set[int],
) -> Table:
    """A table whose columns are numbers, but for those of words."""
    sides: list[Alignment] = ["left" if place in words else "right" for place in range(len(columns))]
    return Table(name, title, caption, tuple(columns), tuple(rows), tuple(sides))


# Words


def answer(study: StudyRecord, found: Sequence[Claim]) -> list[str]:
    """The study's questions answered in plain sentences, from verdicts and numbers alone."""
    of = {claim.id: claim for claim in found}
    data = study.asked["data"]
    scope = (
        "" if data == "cifar100" else f"The paper's question is about CIFAR-100; these runs are on {data}."
    )
    return [lead(of), which(study), *questions(study, of), scope]


def lead(of: Mapping[str, Claim]) -> str:
    """The title's question, as far as the runs decide it."""
    verdicts = {name: of[name].verdict for name in ("R2", "R3")}
    if verdicts["R3"] == "holds" and verdicts["R2"] == "does not hold":
        return (
            "Yes: with the initialisation repaired the gradient is there at the start, and VGG38 still does "
            "not train without BatchNorm; with it, it does."
        )
    if verdicts["R3"] == "holds":
        return "Yes: BatchNorm raises the accuracy of a VGG38 that is well initialised already."
    if verdicts["R3"] == "does not hold":
        return "No: to a VGG38 that is well initialised already, BatchNorm adds no accuracy here."
    alone = any(ONE_SEED in of[name].reason for name in verdicts)
    why = "one seed per run claims nothing" if alone else "runs are missing, or the seeds disagree"
    return f"These runs do not settle it: {why}."


def which(study: StudyRecord) -> str:
    """Which remedies make VGG38 train."""
    verdicts = {role: all_train(study, role) for role in there(study) if role != "vgg08"}
    yes, no, unknown = (
        [REMEDIES[role].label for role, found in verdicts.items() if found is wanted]
        for wanted in (True, False, None)
    )
    parts = [
        f"train: {', '.join(yes)}" if yes else "",
        f"do not: {', '.join(no)}" if no else "",
        f"not run to the end: {', '.join(unknown)}" if unknown else "",
    ]
    return f"At the paper's learning rate {'; '.join(part for part in parts if part)}."


def questions(study: StudyRecord, of: Mapping[str, Claim]) -> list[str]:
    """The other questions, one sentence each."""
    asked: dict[str, Callable[[Claim], str]] = {
        "R2": lambda claim: f"Does VGG38 with He initialisation train without BatchNorm? {decided(claim)}",
        "R3": lambda claim: f"Does BatchNorm add to a well-initialised network? {decided(claim)}",
        "R4": lambda claim: f"Is the loss smoother with it? {decided(claim)}",
        "R6": lambda claim: f"Does the gradient predict accuracy better than smoothness? {decided(claim)}",
        "R7": lambda claim: f"Does telling images apart, before training? {decided(claim)}",
    }
    rates = {role: highest_rate(study, role) for role in (HE, NORMED, BOTH) if role in study.roles}
    told = ", ".join(f"{REMEDIES[role].label} {rate}" for role, rate in rates.items())
    return [*(say(of[name]) for name, say in asked.items()), f"Highest learning rate that trains: {told}."]


def decided(claim: Claim) -> str:
    words = {"holds": "Yes", "does not hold": "No", "undecided": "Undecided", "not measured": "Not measured"}
    return f"{words[claim.verdict]} ({claim.reason})."


PARTS = ReportParts(answer=answer, figures=figures, tables=tables, claims=claims)
