"""One function that writes the page of whatever a user holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, StoreError, brief
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.records.check import CheckRecord
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.display import Displayable
from gradscape.records.gradients import FlowHistory
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.interactive.document import run_document, watch_document
from gradscape.report.interactive.page import runs_page, training_page
from gradscape.report.interactive.study import study_values
from gradscape.report.interactive.verdicts import past_verdicts
from gradscape.report.pages.check import check_page
from gradscape.report.pages.landscape import landscape_page
from gradscape.report.pages.record import diagnosis_page, record_page
from gradscape.report.pages.verdict import capital
from gradscape.storage.files import replace_bytes


@typed()
def save_html(thing: Any, path: str | Path, diagnosis: Diagnosis | None = None) -> Path:
    """Write a self-contained page of a watch or a record, and return its path.

    A page that was there is replaced whole. The same record gives the same bytes.

    Args:
        thing: Watch, or record that a function of gradscape returned; or planes of a landscape by name, which
            are drawn on one scale.
        path: Path of the HTML file; its folder must exist.
        diagnosis: Diagnosis of a watch, its history or a run, if made with limits of your own.

    Raises:
        ConfigError: `thing` has no page, or no step has been watched yet.
        StoreError: The file cannot be written.

    Example:
        >>> gs.save_html(flow, "watched.html")
        >>> gs.save_html(gs.noise(model, loss, batches), "noise.html")
    """
    if callable(getattr(thing, "history", None)):
        thing = thing.history()  # a watch's type needs torch: it is not imported
    text = _page_of(thing, diagnosis)
    target = Path(path)
    try:
        replace_bytes(target, text.encode("utf-8", "replace"))  # half a surrogate pair in a name
    except OSError as error:
        raise StoreError(
            f"{target}: cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from None
    return target


def _page_of(thing: object, diagnosis: Diagnosis | None) -> str:
    """Return the page's text."""
    match thing:
        case FlowHistory() if thing.optimizers or diagnosis:
            return _training_page(thing, diagnosis or diagnose(thing))
        case RunRecord() if thing.epochs:
            return _training_page(thing, diagnosis or diagnose(thing))
        case CheckRecord():
            return check_page(thing)
        case Diagnosis():
            return diagnosis_page(thing)
        case StudyRecord():
            return runs_page(thing.asked.get("title", f"Study {thing.study}"), study_values(thing))
        case LandscapeRecord() if thing.dims == 2:
            return landscape_page({"": thing})
        case Mapping() if thing and all(isinstance(each, LandscapeRecord) for each in thing.values()):
            return landscape_page(thing)
        case Displayable():
            return record_page(thing)
    raise ConfigError(
        f"thing: expected a watch or a record; got {brief(thing)}; type: gs.save_html(flow, 'page.html')"
    )


def _training_page(thing: FlowHistory | RunRecord, diagnosis: Diagnosis) -> str:
    """Return the page of a watch or a run, with the verdicts as they formed."""
    verdicts = past_verdicts(thing)
    if isinstance(thing, RunRecord):
        document = run_document(thing, diagnosis, verdicts)
    else:
        document = watch_document(thing, diagnosis, verdicts, id="training", name="", state="")
    return training_page(document, capital(diagnosis.heading))
