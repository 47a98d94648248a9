"""A study of your own: is ReLU better than tanh in a VGG08 without BatchNorm?

gradscape reproduce examples/own_study.py:STUDY
"""

from gradscape.study import (
    Claim,
    DataConfig,
    Figure,
    NetConfig,
    Preset,
    ReportParts,
    Reproduction,
    Role,
    RunConfig,
    StudyRecord,
    Table,
    beats,
    both_splits,
    flow_figure,
    ours,
    seeds_ended,
    trains,
)

# How far it is cut down; `--preset`, `--data` and `--seeds` choose.
PRESETS = {
    "quick": Preset(
        data="digits", epochs=4, shrink=5, train=400, valid=75, augment=False, measures=6, curvature=0,
        landscape=0, keep_every=0, seeds=2, key_seeds=2, why="to run in seconds",
    )
}  # fmt: skip


def roles(preset: Preset, data: DataConfig) -> dict[Role, RunConfig]:
    """What each run is for → its configuration at seed 0."""
    return {
        Role(name, label): RunConfig(
            net=NetConfig(depth=8, norm="none", activation=name),
            data=data,
            batch_size=100 // preset.shrink,
            epochs=preset.epochs,
        )
        for name, label in {"relu": "ReLU", "tanh": "tanh"}.items()
    }


def figures(study: StudyRecord) -> list[Figure]:
    curves = both_splits(study, "figure-1", "Accuracy", "Training", study.labels(), "accuracy")
    flows = [
        flow_figure(study, f"figure-2{letter}", f"Gradient flow with {label}", "Gradients", role)
        for letter, (role, label) in zip("ab", study.labels().items(), strict=True)
    ]
    return [curves, *flows]


def tables(study: StudyRecord) -> list[Table]:
    rows = tuple(
        (
            label,
            ours(study, role, "train_accuracy"),
            ours(study, role, "valid_accuracy"),
            seeds_ended(study, role),
        )
        for role, label in study.labels().items()
    )
    columns = ("activation", "acc train", "acc valid", "seeds")
    return [Table("table-1", "Table 1. Accuracy", "", columns, rows, words=(columns[0],))]


def claims(study: StudyRecord) -> list[Claim]:
    evidence = (
        beats(study, "relu", "tanh", "train", "ReLU − tanh"),
        trains(study, "relu", "VGG08 with ReLU"),
    )
    text = "With ReLU the network trains, and its training accuracy is higher than with tanh."
    yes, no = "ReLU trains, and better than tanh.", "ReLU does not both train and do better than tanh."
    return [Claim("A1", "ReLU is better", text, "of our own", evidence, yes=yes, no=no)]


STUDY = Reproduction(
    name="activations",
    title="Is ReLU better than tanh in a VGG08 without BatchNorm?",
    presets=PRESETS,
    roles=roles,
    key=("relu",),
    parts=ReportParts(figures=figures, tables=tables, claims=claims),
)
