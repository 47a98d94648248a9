"""Sources of the page: studies, single runs and watches, of which only what has changed is read."""

from __future__ import annotations

import math
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradscape._codec import decode
from gradscape._text import strip_controls
from gradscape.errors import ConfigError, GradscapeError, StoreError, one_line
from gradscape.live.discovery import Place
from gradscape.live.rounds import Rounds
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord
from gradscape.report.interactive.brief import short
from gradscape.report.interactive.document import run_document, watch_document
from gradscape.report.interactive.runs import run_row
from gradscape.report.interactive.verdicts import Verdict, past_verdicts, verdict_at
from gradscape.storage.run_summary import GONE, RunSummary, StudyWatcher, thinned
from gradscape.storage.study_folder import SingleRun, StudyFolder
from gradscape.storage.watch_folder import WatchReader

VERDICTS = 200  # of a followed training; of more every second one is left out
Row = dict[str, Any]


class Source(ABC):
    """One study, run or watch.

    Args:
        place: Where it is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.lock = threading.Lock()  # documents are asked for on other threads
        self.gone: list[str] = []  # ids of rows that are no more
        self.unread = 1  # trainings that have not been read yet; one before their number is known

    @property
    def is_behind(self) -> bool:
        """True if the time of the last poll was too short for some of its trainings."""
        return False

    @abstractmethod
    def poll(self, until: float) -> Iterator[Row]:
        """Yield the rows that have changed since the last time.

        Args:
            until: Time of `time.monotonic` at which trainings that are not at work have to wait.
        """

    @abstractmethod
    def finding(self, identity: str) -> tuple[Finding | None, int]:
        """Return the gravest finding of one training, None if there is none, and its last step or epoch.

        Args:
            identity: `id` of its row.
        """

    @abstractmethod
    def subject(self, identity: str) -> FlowHistory | RunRecord:
        """Return what one training is compared by.

        Args:
            identity: `id` of its row.

        Raises:
            GradscapeError: It cannot be read, or there is nothing yet.
        """

    @abstractmethod
    def document(self, identity: str) -> dict[str, Any]:
        """Return the document of one training.

        Args:
            identity: `id` of its row.

        Raises:
            GradscapeError: It cannot be read, or there is nothing to show yet.
        """


class Judged:
    """Verdicts on a training as they form; each moment is judged once."""

    def __init__(self) -> None:
        self.formed: list[Verdict] = []
        self.earlier: tuple[Verdict, ...] | None = None  # of before the first look, when asked for
        self.diagnosis: Diagnosis | None = None

    def judge(self, thing: FlowHistory | RunRecord) -> None:
        """Judge a training as it is now.

        Args:
            thing: History of a watch, or record of a run.
        """
        try:
            self.diagnosis = diagnose(thing)
        except ConfigError:  # nothing to judge yet
            self.diagnosis = None
            return
        rows = thing.steps if isinstance(thing, FlowHistory) else [each.epoch for each in thing.epochs]
        at = int(rows[-1]) if len(rows) else -1
        if self.formed and self.formed[-1].step == at:
            self.formed.pop()
        self.formed.append(verdict_at(at, self.diagnosis))
        if len(self.formed) > VERDICTS:
            self.formed = self.formed[1::2]

    def verdicts(self, thing: FlowHistory | RunRecord) -> tuple[Verdict, ...]:
        """Return all verdicts, those before the first look among them.

        Args:
            thing: History of a watch, or record of a run, as it was judged last.
        """
        if self.earlier is None:  # takes as long as twenty looks: not for each row of a table
            self.earlier = past_verdicts(thing)
        first = self.formed[0].step if self.formed else math.inf
        return (*(each for each in self.earlier if each.step < first), *self.formed)


class WatchSource(Source):
    """A watch's folder."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.reader = WatchReader(place.path)
        self.judged = Judged()
        self.spark: list[float] = []
        self.last = 0
        self.row: Row | None = None
        self.identity = place.name or "."

    def poll(self, until: float) -> Iterator[Row]:
        """Yield the watch's row, if it has changed.

        Args:
            until: See `Source.poll`; a watch is looked at in any case.
        """
        self.unread = 0
        try:
            with self.lock:
                if self.reader.poll():
                    self._judge(self.reader.history)
                elif self.row is None or self.row["state"] == self._state:
                    return
                row = self._row()
        except StoreError as error:
            reason = _within(self.place.path, error)
            row = run_row(self.identity, self._name, state="damaged", reason=reason, has=False)
        if row != self.row:
            self.row = row
            yield row

    def _judge(self, history: FlowHistory) -> None:
        losses = [] if history.loss is None else history.loss.values.tolist()
        self.spark = [short(loss) for loss in thinned(losses)]
        self.last = int(history.steps[-1]) if len(history.steps) else 0
        self.judged.judge(history)

    @property
    def _name(self) -> str:
        return one_line(self.place.name or self.place.path.resolve().name)

    @property
    def _state(self) -> str:
        info = self.reader.info
        return "interrupted" if info.state == "running" and _is_dead(info.host, info.process) else info.state

    def _row(self) -> Row:
        info, verdict = self.reader.info, self.judged.diagnosis
        return run_row(
            self.identity,
            self._name,
            state=self._state,
            progress=f"step {info.step:,}",
            spark=self.spark,
            verdict=verdict and verdict.verdict,
            grade=verdict and verdict.grade,
            heard=info.written,
            reason=GONE if self._state == "interrupted" else info.error,
        )

    def finding(self, identity: str) -> tuple[Finding | None, int]:
        """Return the gravest finding of the watch, see `Source.finding`.

        Args:
            identity: `id` of its row.
        """
        diagnosis = self.judged.diagnosis
        return None if diagnosis is None else diagnosis.findings[0], self.last

    def subject(self, identity: str) -> FlowHistory:
        """Return the watch's history, see `Source.subject`.

        Args:
            identity: `id` of its row.
        """
        with self.lock:
            return self.reader.history

    def document(self, identity: str) -> dict[str, Any]:
        """Return the watch's document.

        Args:
            identity: `id` of its row.
        """
        with self.lock:
            info, state = self.reader.info, self._state
            history, diagnosis = self.reader.history, self.judged.diagnosis
            verdicts = self.judged.verdicts(history)
        return watch_document(
            history,
            diagnosis,
            verdicts,
            id=self.identity,
            name=f"{info.name} ({self._name})",
            state=state,
            error=GONE if state == "interrupted" else info.error,
            written=info.written,
        )


class StudySource(Source):
    """A study's folder, or that of a single run."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.folder = (SingleRun if place.kind == "run" else StudyFolder)(place.path)
        self.rounds = Rounds(StudyWatcher(self.folder))
        self.rows: dict[str, Row] = {}
        self.judged: dict[str, tuple[tuple[int, str], Judged]] = {}
        self.summaries: dict[str, RunSummary] = {}

    @property
    def is_behind(self) -> bool:
        """True if the time was too short for some of its runs."""
        return self.rounds.is_behind

    def poll(self, until: float) -> Iterator[Row]:
        """Yield the rows of the runs that have changed; they are read one after the other.

        Args:
            until: See `Source.poll`.
        """
        try:
            planned = self.rounds.names
            for summary in self.rounds.poll(until):
                self.unread = self.rounds.unread
                if summary == self.summaries.get(summary.identity):
                    continue
                self.summaries[summary.identity] = summary
                row = self._row(summary)
                if row != self.rows.get(row["id"]):
                    self.rows[row["id"]] = row
                    yield row
            self.unread = self.rounds.unread
            if planned is not self.rounds.names:
                self._forget({self._id(name) for name in self.rounds.names})
        except StoreError as error:
            self.unread = 0
            yield from self._damaged(_within(self.place.path, error))

    def _damaged(self, reason: str) -> Iterator[Row]:
        """Yield a row of the study itself; when it is whole again, all its runs are looked at anew."""
        name = self.place.name or "."
        row = run_row(name, one_line(name), state="damaged", reason=reason, has=False)
        if self.rows.get(name) != row:
            self.rows[name] = row  # the others stay: those that are not planned then are to be left out
            self.summaries, self.rounds = {}, Rounds(StudyWatcher(self.folder))
            yield row

    def _forget(self, planned: set[str]) -> None:
        """Leave out the rows of runs that are not planned any more, and of the study as it was damaged."""
        for name in [name for name in self.rows if name not in planned]:
            del self.rows[name]
            self.gone.append(name)

    def _id(self, identity: str) -> str:
        name = self.place.name or "."
        return name if self.place.kind == "run" else f"{name}/{identity}"

    def _row(self, run: RunSummary) -> Row:
        known = self.judged.get(run.identity)
        verdict, grade = run.verdict, run.grade
        if verdict is None and known is not None and known[1].diagnosis is not None:
            verdict, grade = known[1].diagnosis.verdict, known[1].diagnosis.grade
        if run.is_damaged:  # its reason is what matters
            verdict = grade = None
        return run_row(
            self._id(run.identity),
            one_line(self.place.name or run.identity if self.place.kind == "run" else run.identity),
            state="damaged" if run.is_damaged else run.state,
            share=run.share,
            progress=_progress(run),
            spark=[short(loss) for loss in run.losses],
            verdict=verdict,
            grade=grade,
            best=run.best_valid_accuracy,
            left=run.seconds_left,
            heard=run.last_update,
            reason=_within(self.folder.run(run.identity).path, run.reason),
            has=run.epoch > 0,
        )

    def finding(self, identity: str) -> tuple[Finding | None, int]:
        """Return the gravest finding that a run's status holds, see `Source.finding`.

        Args:
            identity: `id` of its row.
        """
        name = self._name(identity)
        known = self.summaries.get(name)
        try:
            stored = self.folder.run(name).status().get("diagnosis", {}).get("findings", ())
            finding = decode(Finding, stored[0]) if stored else None
        except (GradscapeError, ValueError, AttributeError, TypeError):  # damaged, or of another version
            finding = None
        return finding, 0 if known is None else known.epoch

    def _name(self, identity: str) -> str:
        """Return the identity of a run by the `id` of its row."""
        return identity.rpartition("/")[2] if self.place.kind == "study" else self.folder.identities()[0]

    def subject(self, identity: str) -> RunRecord:
        """Return the record of a run.

        Args:
            identity: `id` of its row.

        Raises:
            StoreError: The run is not there yet, or damaged.
        """
        folder = self.folder.begun(self._name(identity))
        if folder is None or folder.path.is_symlink():
            raise StoreError(f"{identity} has not been begun yet")
        return folder.record()

    def document(self, identity: str) -> dict[str, Any]:
        """Return a run's document.

        Args:
            identity: `id` of its row.

        Raises:
            StoreError: The run is not there yet, or damaged.
        """
        name, record = self._name(identity), self.subject(identity)
        stamp = len(record.epochs), record.state
        with self.lock:  # two browsers may ask for the same run
            if name not in self.judged or self.judged[name][0] != stamp:
                judged = self.judged[name][1] if name in self.judged else Judged()
                judged.judge(record)
                self.judged = {**dict(list(self.judged.items())[-50:]), name: (stamp, judged)}
            judged = self.judged[name][1]
            verdicts = judged.verdicts(record)
        written = self.summaries[name].last_update if name in self.summaries else None
        return run_document(record, judged.diagnosis, verdicts, id=identity, written=written)

    @property
    def study(self) -> StudyFolder | None:
        """Folder of the study, whose claims can be judged; None for a single run."""
        return self.folder if self.place.kind == "study" else None


def _progress(run: RunSummary) -> str:
    """Return how far a run is, with the phase where it measures."""
    words = "" if run.epochs is None else f"epoch {run.epoch}/{run.epochs}"
    measures = run.state == "running" and run.phase not in (None, "training")
    return ", ".join(filter(None, (words, run.phase if measures else "")))


def source_of(place: Place) -> Source:
    """Return the source of a place.

    Args:
        place: Where something is.
    """
    return WatchSource(place) if place.kind == "watch" else StudySource(place)


def _is_dead(host: str, process: int) -> bool:
    """Return True if a process of this machine is no more; False where nobody can tell."""
    if host != socket.gethostname() or os.name != "posix":
        return False
    return not Path(f"/proc/{process}").exists() if Path("/proc/self").exists() else False


def _within(folder: Path, reason: object) -> str:
    """Return a reason that names a file by its place in the training's folder: a row has little room."""
    return strip_controls(str(reason)).removeprefix(f"{folder}{os.sep}")
