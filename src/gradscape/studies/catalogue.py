"""Studies that gradscape knows by name, and the report of any folder that holds one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradscape.errors import ConfigError, StoreError
from gradscape.report.build import Report
from gradscape.storage.files import decoding
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.controls.study import CONTROLS_STUDY
from gradscape.studies.remedies.study import REMEDIES_STUDY
from gradscape.studies.smoothing.study import SMOOTHING_STUDY
from gradscape.study.execute import report
from gradscape.study.reproduction import Reproduction
from gradscape.study.sweep.report import PARTS as SWEEP_PARTS

STUDIES: Mapping[str, Reproduction[Any]] = {
    study.name: study for study in (BATCHNORM, REMEDIES_STUDY, CONTROLS_STUDY, SMOOTHING_STUDY)
}


def rebuild(folder: StudyFolder, own: Reproduction[Any] | None = None, out: Path | None = None) -> Report:
    """Write the report of a study again, from the run folders alone.

    Args:
        folder: Folder of the study.
        own: Study that is not one of `STUDIES`.
        out: Path of the report's folder (default: `report` in the study's).

    Raises:
        ConfigError: The folder holds another study.
        StoreError: The folder holds no study, is damaged, or cannot be written.
    """
    asked = folder.asked()
    if asked is None:
        raise folder.absent()
    name = asked["study"]
    if name == "sweep":
        return report(folder, SWEEP_PARTS, out)
    known = {**STUDIES, **({own.name: own} if own else {})}
    if name not in known:
        raise ConfigError(
            f"{folder.path} holds study {name!r}; known here: {', '.join(known)}, sweep; "
            "give one of your own with --study FILE.py:STUDY"
        )
    _require_roles(folder, known[name], asked)
    return report(folder, known[name].parts, out)


def _require_roles(folder: StudyFolder, study: Reproduction[Any], asked: Mapping[str, Any]) -> None:
    """Refuse a study planned by another version, without a role that this one's report needs."""
    with decoding(folder.path / "study.json"):
        preset, data = asked["preset"], asked["data"]
    planned = study.plan(preset, data).roles
    if lacking := [name for name in planned if name not in asked["roles"]]:
        name = study.name if study.name in STUDIES else "FILE.py:STUDY"
        raise StoreError(
            f"{folder.path} was planned by another version of the study: it lacks the role {lacking[0]!r}; "
            f"to add it type: gradscape reproduce {name} --preset {preset} --data {data} "
            f"--out {folder.path}"
        )
