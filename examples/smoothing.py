"""Does BatchNorm smooth a network that trains without it? VGG08, with BatchNorm everywhere and without.

The BatchNorm study's claim C7 on the pair of which both networks train, without the study's other runs:
minutes on two cores.

gradscape reproduce examples/smoothing.py:STUDY --seeds 5
"""

from gradscape.analysis.claims import Claim
from gradscape.analysis.equal_loss import AT_EQUAL_LOSS, smoother_at_equal_loss
from gradscape.config.run import DataConfig, RunConfig
from gradscape.records.role import Role
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts
from gradscape.report.figures.base import Figure
from gradscape.report.figures.curves import both_splits
from gradscape.report.figures.smoothness import line_figure
from gradscape.report.figures.spectrum import ends_table
from gradscape.report.table_cells import ours, seeds_ended
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.presets import Preset
from gradscape.study.reproduction import Reproduction

PAIR = ("vgg08-bn", "vgg08")


def roles(preset: Preset, data: DataConfig) -> dict[Role, RunConfig]:
    """The two of the BatchNorm study."""
    planned = BATCHNORM.roles(preset, data)
    return {role: run for role, run in planned.items() if role.name in PAIR}


def figures(study: StudyRecord) -> list[Figure]:
    first, second = "Figure 1. Training", "Figure 2. Smoothness"
    return [
        both_splits(study, "figure-1", "Accuracy", first, study.labels(), "accuracy"),
        line_figure(study, "figure-2a", "Effective β", second, study.labels(), "beta", "gradient"),
        line_figure(
            study, "figure-2b", "Effective β, scale-free", second, study.labels(), "beta", "relative"
        ),
    ]


def tables(study: StudyRecord) -> list[Table]:
    fields = ("train_accuracy", "valid_accuracy")
    rows = [
        (label, *(ours(study, role, field) for field in fields), seeds_ended(study, role))
        for role, label in study.labels().items()
    ]
    columns = ("network", "acc train", "acc valid", "seeds")
    return [
        Table("table-1", "Table 1. Accuracy", "", columns, tuple(rows), columns[:1]),
        ends_table(study, "table-2", "Table 2. Curvature", study.labels()),
    ]


def claims(study: StudyRecord) -> list[Claim]:
    return [
        Claim(
            "S1",
            "BatchNorm smooths VGG08",
            "The loss of VGG08, which trains without BatchNorm, is smoother with it.",
            "abstract, §5; Santurkar et al. (2018)",
            smoother_at_equal_loss(study, [PAIR], study.labels()),
            AT_EQUAL_LOSS,
            yes="BatchNorm smooths the loss of VGG08.",
            no="BatchNorm does not smooth the loss of VGG08 in all that was measured.",
        )
    ]


STUDY = Reproduction(
    name="smoothing",
    title="Does BatchNorm smooth a network that trains without it?",
    presets={name: BATCHNORM.presets[name] for name in ("quick", "paper")},
    roles=roles,
    key=PAIR,
    parts=ReportParts(figures=figures, tables=tables, claims=claims, lead=("S1",)),
)
