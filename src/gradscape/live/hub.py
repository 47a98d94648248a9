"""State of the page: rows of all trainings, events and claims, and who is to be told of changes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gradscape.errors import StoreError, first_line
from gradscape.live.claims import judged_claims
from gradscape.live.discovery import places
from gradscape.live.sources import Row, Source, StudySource, source_of
from gradscape.report.interactive.runs import run_row

EVENTS = 500  # events that are kept
AGAIN = 2.0  # seconds from one search for new folders to the next
CLAIMS = 15.0  # seconds from one judgement of claims to the next, at least
PART = 200  # rows that are told at once, so that of thousands the first are there soon
GRADES = {"failed": "fail", "diverged": "fail", "damaged": "fail", "killed": "fail", "stopped": "warn"}
News = dict[str, Any]


class Hub:
    """Reader of a folder, which tells what has changed.

    Args:
        root: Path of the folder.
        tell: Function that is called with the news.
        on_finding: Function that is called with the row of a training when it is first seen with a fault,
            once for each verdict. Trainings that had ended when they were found are left out.
    """

    def __init__(
        self, root: Path, tell: Callable[[News], None], on_finding: Callable[[Row], None] | None = None
    ) -> None:
        self.root, self.tell, self.on_finding = root, tell, on_finding
        self.sources: dict[str, Source] = {}
        self.rows: dict[str, Row] = {}
        self.owners: dict[str, Source] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.claims: list[dict[str, Any]] = []
        self.told: set[tuple[str, str]] = set()
        self.searched = self.judge_at = 0.0
        self.unjudged = True
        self.lock = threading.Lock()  # one reader at a time: requests come on other threads

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name or str(self.root)

    def poll(self) -> None:
        """Read what has changed, and tell it."""
        gone = self._search()
        changed: list[Row] = []
        for source in list(self.sources.values()):
            for row in self._rows_of(source):
                self._take(row, source)
                changed.append(row)
                if len(changed) >= PART:
                    self._publish(changed, gone)
                    changed, gone = [], []
        self._publish(changed, gone)
        self.unjudged = self.unjudged or bool(changed)
        if self.unjudged and time.monotonic() >= self.judge_at:
            self._judge_claims()

    def _rows_of(self, source: Source) -> Iterator[Row]:
        """Yield the rows of a source that have changed, or that it is damaged: the rest goes on."""
        rows = source.poll()
        try:
            while True:
                with self.lock:
                    row = next(rows, None)
                if row is None:
                    return
                yield row
        except Exception as error:  # of any kind: files of others, and rules that had not met such numbers
            name = source.place.name or "."
            row = run_row(name, name, state="damaged", reason=first_line(error), has=False)
            if row != self.rows.get(name):
                yield row

    def _search(self) -> list[str]:
        """Look for new folders and for those that are gone; return the ids of rows that are gone."""
        now = time.monotonic()
        if self.searched and now - self.searched < AGAIN:
            return []
        self.searched = now
        found = {str(place.path): place for place in places(self.root)}
        for path in [path for path in self.sources if path not in found]:
            del self.sources[path]
        for path, place in found.items():
            if path not in self.sources:
                self.sources[path] = source_of(place)
        alive = set(map(id, self.sources.values()))
        gone = [name for name, owner in self.owners.items() if id(owner) not in alive]
        for name in gone:
            del self.rows[name], self.owners[name]
        return gone

    def _take(self, row: Row, source: Source) -> None:
        """Keep a row, and remember what has happened to its run."""
        before = self.rows.get(row["id"])
        self.rows[row["id"]], self.owners[row["id"]] = row, source
        if row["state"] != (before or {}).get("state") and (before is not None or row["state"] in GRADES):
            self._event(row, row["state"], GRADES.get(row["state"], "info"), row["reason"])
        verdict = row["verdict"]
        if verdict and row["grade"] == "fail" and verdict != (before or {}).get("verdict"):
            self._event(row, verdict, "fail", row["progress"])
            known = (row["id"], verdict)
            if self.on_finding and known not in self.told and (before or row["state"] == "running"):
                self.told.add(known)
                self.on_finding(row)

    def _event(self, row: Row, what: str, grade: str, text: str) -> None:
        heard = row["heard"]
        event = {"time": heard, "id": row["id"], "run": row["name"], "what": what, "grade": grade}
        self.events.appendleft({**event, "text": text})

    def _publish(self, changed: list[Row], gone: list[str]) -> None:
        if changed or gone:
            self.tell({"runs": changed, "gone": gone, "events": list(self.events), "title": self.title})

    def _judge_claims(self) -> None:
        """Judge the claims of all studies, seldom enough, and tell them if they differ."""
        began = time.monotonic()
        studies = [source.study for source in self.sources.values() if isinstance(source, StudySource)]
        with self.lock:
            claims = [claim for study in studies if study is not None for claim in judged_claims(study)]
        now = time.monotonic()
        self.unjudged, self.judge_at = False, now + max(CLAIMS, 20 * (now - began))
        if claims != self.claims:
            self.claims = claims
            self.tell({"claims": claims})

    def document(self, identity: str) -> dict[str, Any]:
        """Return the document of a training.

        Args:
            identity: `id` of its row.

        Raises:
            StoreError: There is no such training, or it cannot be read.
        """
        owner = self.owners.get(identity)
        if owner is None:
            raise StoreError("there is no such training here")
        with self.lock:
            return owner.document(identity)
