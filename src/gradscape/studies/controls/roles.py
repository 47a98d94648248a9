"""Labels of the controls study's roles, in its report and its claims."""

from __future__ import annotations

from gradscape.analysis.run_status import members
from gradscape.records.run import StudyRecord
from gradscape.studies.batchnorm.roles import batch_label

SIZES = ("50", "100", "200", "400", "800")  # of the paper's Table 2; a preset may leave out some
BASE = "100"  # the others are compared with it
CONTROLS = {
    "batch": "equal epochs",
    "updates": "equal updates",
    "linear": "rate ∝ batch",
    "sqrt": "rate ∝ √batch",
}
NORMED, PLAIN = "VGG38 + BatchNorm", "VGG08"


def sizes(study: StudyRecord) -> tuple[str, ...]:
    """Return the batch sizes that the study has, by the paper's names, from the smallest.

    Args:
        study: Record of a study.
    """
    return tuple(size for size in SIZES if f"batch-{size}" in study.roles)


def larger(study: StudyRecord) -> tuple[str, ...]:
    """Return the batch sizes above `BASE`.

    Args:
        study: Record of a study.
    """
    return tuple(size for size in sizes(study) if int(size) > int(BASE))


def sized(study: StudyRecord, control: str) -> dict[str, str]:
    """Return the label of each role of one control, by batch size.

    Args:
        study: Record of a study.
        control: Key of `CONTROLS`.
    """
    return {f"{control}-{size}": batch_label(study, size) for size in sizes(study)}


def decays(study: StudyRecord) -> tuple[str, ...]:
    """Return the L2 penalties that the study has, from none to the largest.

    Args:
        study: Record of a study.
    """
    return tuple(role.removeprefix("bn-l2-") for role in study.roles if role.startswith("bn-l2-"))


def undecayed(study: StudyRecord) -> dict[str, str]:
    """Return the label of each role without a penalty, from the lowest learning rate.

    Args:
        study: Record of a study.
    """
    more = [role for role in study.roles if role.startswith("bn-lr-")]
    rates = {role: f"no L2, lr {role.removeprefix('bn-lr-')}" for role in more}
    return {f"bn-l2-{decays(study)[0]}": "no L2", **rates}


def decayed(study: StudyRecord, network: str) -> dict[str, str]:
    """Return the label of each role with a penalty, on one network.

    Args:
        study: Record of a study.
        network: `bn` or `plain`.
    """
    return {f"{network}-l2-{decay}": f"L2 {decay}" for decay in decays(study)}


def setting(study: StudyRecord, role: str, section: str, name: str) -> str:
    """Return a value of the configurations of a role's runs, as text; – where none has begun.

    Args:
        study: Record of a study.
        role: Name of the role.
        section: Section of the configuration; empty for its top.
        name: Name of the value.
    """
    runs = [run for run in members(study, role).values() if run is not None]
    values = [run.config[section][name] if section else run.config[name] for run in runs]
    return ", ".join(dict.fromkeys(f"{value:.4g}" for value in values)) or "–"
