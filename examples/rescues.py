"""What makes the paper's VGG38 train, at full size: 100 epochs of CIFAR-100, nothing measured between steps.

Seven minutes on an H200; runs that guess and have lost their gradient are ended early:

gradscape reproduce examples/rescues.py:STUDY --preset paper --precision tf32 --seeds 2 --stop-hopeless \\
    --data-root DIR
"""

from gradscape.analysis.claims import Claim
from gradscape.analysis.evidence import trains
from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, RunConfig
from gradscape.records.role import Role
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure
from gradscape.report.figures.curves import both_splits
from gradscape.report.figures.gradient_flow import flow_figure
from gradscape.report.table_cells import averaged, beside_paper, beside_paper_headings, seeds_ended
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.claims import steady
from gradscape.studies.batchnorm.report import PAPER_TABLE_1
from gradscape.studies.batchnorm.roles import BAND, PAPER
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.presets import Preset
from gradscape.study.reproduction import Reproduction

NETS = {
    Role("vgg38-bn", "BatchNorm"): NetConfig(norm="batch"),
    Role("vgg38-he", "He initialization"): NetConfig(norm="none", init="he"),
    Role("vgg38", "neither"): NetConfig(norm="none"),
}
FIELDS = {"acc train": "train_accuracy", "acc valid": "valid_accuracy"}
IN_PAPER = {"vgg38-bn": PAPER_TABLE_1["0.001"][2:], "vgg38": ("0.01", "–")}  # train and validation accuracy


def roles(preset: Preset, data: DataConfig) -> dict[Role, RunConfig]:
    """What each run is for → its configuration at seed 0."""
    return {
        role: RunConfig(net=net, data=data, batch_size=100 // preset.shrink, epochs=preset.epochs)
        for role, net in NETS.items()
    }


def figures(study: StudyRecord) -> list[Figure]:
    first, second = "Figure 1. Training", "Figure 2. Gradients"
    return [
        both_splits(study, "figure-1a", "Accuracy of VGG38", first, study.labels(), "accuracy"),
        both_splits(study, "figure-1b", "Loss of VGG38", first, study.labels(), "loss"),
        flow_figure(
            study,
            "figure-2a",
            "Gradient flow with BatchNorm",
            second,
            "vgg38-bn",
            BAND,
            band_source="where the paper finds them",
        ),
        flow_figure(study, "figure-2b", "Gradient flow with He initialization", second, "vgg38-he"),
        flow_figure(study, "figure-2c", "Gradient flow with neither", second, "vgg38"),
    ]


def tables(study: StudyRecord) -> list[Table]:
    rows = []
    for role, label in study.labels().items():
        cells = beside_paper(study, role, FIELDS.values(), IN_PAPER.get(role, ("–", "–")))
        rows.append((label, *cells, seeds_ended(study, role)))
    columns = ("VGG38 with", *beside_paper_headings(FIELDS), "seeds done")
    caption = averaged(study, list(study.roles))
    return [Table("table-1", "Table 1. Accuracy", caption, columns, tuple(rows), columns[:1])]


def claims(study: StudyRecord) -> list[Claim]:
    text = "VGG38 with BatchNorm trains: its training accuracy is above twice that of guessing."
    trained = (trains(study, "vgg38-bn", "VGG38 with BatchNorm"),)
    yes, no = "With BatchNorm VGG38 trains.", "With BatchNorm VGG38 does not train."
    return [
        Claim("B1", "With BatchNorm it trains", text, "§5.4, Table 1", trained, yes=yes, no=no),
        steady(study),
    ]


STUDY = Reproduction(
    name="rescues",
    title="What makes VGG38 train?",
    presets={name: BATCHNORM.presets[name] for name in ("quick", "paper")},
    roles=roles,
    key=tuple(role.name for role in NETS),
    parts=ReportParts(figures=figures, tables=tables, claims=claims, lead=("B1",), paper=PAPER),
)
