"""The command that diagnoses recorded runs, and what every command on a single run prints at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gradscape._text import strip_controls
from gradscape.cli.app import FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.cli.output import Form, print_text, to_json

if TYPE_CHECKING:
    from gradscape.records.diagnosis import Diagnosis
    from gradscape.records.gradients import FlowHistory
    from gradscape.records.run import RunRecord
    from gradscape.storage.study_folder import StudyFolder


def diagnose(
    folder: Annotated[str, Parameter(name="DIR", help=f"{FOLDER}, or of a watch")],
    /,
    *,
    form: Annotated[Form, FLAT] = Form(),
) -> int:
    """Diagnose a run, a watch, or each run of a study.

    Args:
        folder: Path of the folder of a study, a run or a watch.
        form: Form of what is printed.

    Returns:
        1 if a run is diagnosed with a fault of grade fail, else 0.

    Raises:
        ConfigError: The run has no epoch yet.
        StoreError: The folder holds no run, or is damaged.
    """
    from gradscape.measure.diagnose.diagnose import diagnose as measure
    from gradscape.storage.study_folder import SingleRun, folder_at
    from gradscape.storage.watch_folder import is_watch, read_watch

    path = folder_of(folder)
    study = None if is_watch(path) else folder_at(path)
    if study is None or isinstance(study, SingleRun):
        record = read_watch(path) if study is None else study.only.record()
        diagnosis = measure(record)
        print_text(_of_training(record, diagnosis, form.chosen()))
        return int(diagnosis.grade == "fail")
    diagnoses = _diagnoses(study)
    print_text(_of_study(study, diagnoses, form.chosen()))
    return int(any(each is not None and each.grade == "fail" for each in diagnoses.values()))


def _of_training(record: RunRecord | FlowHistory, diagnosis: Diagnosis, form: str) -> str:
    """Return the diagnosis of a run or a watch in a form."""
    from gradscape.records.run import RunRecord
    from gradscape.report.markdown import to_markdown

    if form == "json":
        return diagnosis.to_json()
    if form == "markdown":
        ended = isinstance(record, RunRecord) and not record.epochs  # before its first epoch did
        return to_markdown(diagnosis) if ended else to_markdown(record, diagnosis)
    return strip_controls(diagnosis.verdict_last())


def _of_study(study: StudyFolder, diagnoses: Mapping[str, Diagnosis | None], form: str) -> str:
    """Return the diagnoses of a study's runs in a form."""
    from gradscape.records.documents import diagnoses_document
    from gradscape.report.markdown import study_markdown

    asked = study.asked() or {}
    name, preset = asked.get("study", ""), asked.get("preset", "")
    if form == "json":
        return to_json(diagnoses_document(name, preset, diagnoses))
    if form == "markdown":
        return study_markdown(name, preset, diagnoses)
    lines = [f"{run}: {each.heading if each else 'no epoch yet'}" for run, each in diagnoses.items()]
    return strip_controls("\n".join([*lines, *_summary(diagnoses)]))


def _summary(diagnoses: Mapping[str, Diagnosis | None]) -> Iterator[str]:
    """Yield a last line on how many runs have a fault, where there are several."""
    faults = Counter(each.verdict for each in diagnoses.values() if each and each.grade == "fail")
    if len(diagnoses) > 1:
        told = ", ".join(f"{number} × {verdict}" for verdict, number in faults.most_common())
        yield f"{faults.total()} of {len(diagnoses)} runs have a fault" + (f": {told}" if told else "")


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
    """Print a run's test results, write its page into a folder, and print its path and the diagnosis.

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
    shown = record if record.epochs else diagnosis  # one that diverged at once has no curves
    try:
        require_own(folder)
        make_inner(folder)
        sweep_parts(folder)
        page = save_html(shown, folder / "index.html", diagnosis)
        print(strip_controls(f"page: {page}"))
    finally:  # the verdict stands last, and stands there without a page too
        print_text(strip_controls(diagnosis.verdict_last()))
