"""The command that diagnoses recorded runs, and what every command on a single run prints at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gradscape._text import strip_controls
from gradscape.cli.app import FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.cli.output import print_record, to_json
from gradscape.config.fields import option
from gradscape.config.options import Options

if TYPE_CHECKING:
    from gradscape.records.diagnosis import Diagnosis
    from gradscape.records.run import RunRecord
    from gradscape.storage.study_folder import StudyFolder


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions(Options):
    """Form of what is printed."""

    json: bool = option(False, "everything as JSON")


def diagnose(
    folder: Annotated[str, Parameter(name="DIR", help=FOLDER)],
    /,
    *,
    options: Annotated[DiagnoseOptions, FLAT] = DiagnoseOptions(),
) -> int:
    """Diagnose a run, or each run of a study.

    Args:
        folder: Path of a study's or a run's folder.
        options: Form of what is printed.

    Returns:
        1 if a run is diagnosed with a fault of grade fail, else 0.

    Raises:
        ConfigError: The run has no epoch yet.
        StoreError: The folder holds no run, or is damaged.
    """
    from gradscape.measure.diagnose.diagnose import diagnose as measure
    from gradscape.storage.study_folder import SingleRun, folder_at

    study = folder_at(folder_of(folder))
    if isinstance(study, SingleRun):
        diagnosis = measure(study.only.record())
        print_record(diagnosis, options.json)
        return int(diagnosis.grade == "fail")
    diagnoses = _diagnoses(study)
    if options.json:
        print(to_json({name: each and each.to_dict() for name, each in diagnoses.items()}))
    else:
        for name, each in diagnoses.items():
            print(strip_controls(f"{name}: {each.heading if each else 'no epoch yet'}"))
    return int(any(each is not None and each.grade == "fail" for each in diagnoses.values()))


def _diagnoses(study: StudyFolder) -> Mapping[str, Diagnosis | None]:
    """Return the diagnosis per identity of a study's runs; None for those without an epoch."""
    from gradscape.measure.diagnose.diagnose import diagnose as measure

    diagnoses: dict[str, Diagnosis | None] = {}
    for identity in study.identities():
        run = study.begun(identity)
        record = run.record() if run else None
        judged = record is not None and (record.epochs or record.state == "diverged")
        diagnoses[identity] = measure(record) if record is not None and judged else None
    return diagnoses


def print_run(record: RunRecord, folder: Path) -> None:
    """Print a run's test results and its diagnosis; write its page into a folder, and print the path.

    Args:
        record: Record of the run.
        folder: Path of the page's folder, made if it is not there.

    Raises:
        ConfigError: The run has no epoch yet.
        StoreError: The folder cannot be written, or holds something else.
    """
    from gradscape.measure.diagnose.diagnose import diagnose as measure
    from gradscape.report.build import require_own
    from gradscape.report.pages.save import save_html
    from gradscape.storage.files import make_inner, sweep_parts

    for weights, result in record.test.items():
        print(f"test accuracy {result['accuracy']:.3f}, loss {result['loss']:.3f} ({weights} weights)")
    diagnosis = measure(record)
    print(strip_controls(str(diagnosis)), flush=True)
    require_own(folder)
    make_inner(folder)
    sweep_parts(folder)
    shown = record if record.epochs else diagnosis  # one that diverged at once has no curves
    page = save_html(shown, folder / "index.html", diagnosis)
    print(strip_controls(f"page: {page}"))
