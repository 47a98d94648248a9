"""What the controls study's roles are called, in its report as in its claims."""

from __future__ import annotations

from gradscape.analysis.run_status import members
from gradscape.records.run import StudyRecord
from gradscape.studies.batchnorm.roles import batch_label

SIZES = ("50", "100", "200", "400", "800")  # of the paper's Table 2; a preset may leave out some
BASE = "100"  # what the others are compared with
CONTROLS = {
    "batch": "equal epochs",
    "updates": "equal updates",
    "linear": "rate ∝ batch",
    "sqrt": "rate ∝ √batch",
}
NORMED, PLAIN = "VGG38 + BatchNorm", "VGG08"


def sizes(study: StudyRecord) -> tuple[str, ...]:
    """The batch sizes that the study has, by the paper's names, from the smallest."""
    return tuple(size for size in SIZES if f"batch-{size}" in study.roles)


def larger(study: StudyRecord) -> tuple[str, ...]:
    """Those above the one that they are compared with."""
    return tuple(size for size in sizes(study) if int(size) > int(BASE))


def sized(study: StudyRecord, control: str) -> dict[str, str]:
    """Role → label of the batch sizes under one control."""
    return {f"{control}-{size}": batch_label(study, size) for size in sizes(study)}


def decays(study: StudyRecord) -> tuple[str, ...]:
    """The L2 penalties that the study has, from none to the largest."""
    return tuple(role.removeprefix("bn-l2-") for role in study.roles if role.startswith("bn-l2-"))


def undecayed(study: StudyRecord) -> dict[str, str]:
    """Role → label of the runs without a penalty at the rates that the study has, from the lowest."""
    more = [role for role in study.roles if role.startswith("bn-lr-")]
    rates = {role: f"no L2, lr {role.removeprefix('bn-lr-')}" for role in more}
    return {f"bn-l2-{decays(study)[0]}": "no L2", **rates}


def decayed(study: StudyRecord, network: str) -> dict[str, str]:
    """Role → label of the penalties on one network, `bn` or `plain`."""
    return {f"{network}-l2-{decay}": f"L2 {decay}" for decay in decays(study)}


def setting(study: StudyRecord, role: str, section: str, name: str) -> str:
    """A value that a role's runs have, as text; – where none has begun."""
    runs = [run for run in members(study, role).values() if run is not None]
    values = [run.config[section][name] if section else run.config[name] for run in runs]
    return ", ".join(dict.fromkeys(f"{value:.4g}" for value in values)) or "–"
