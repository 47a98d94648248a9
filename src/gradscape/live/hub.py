"""State of the page: rows of all trainings, events and claims, and who is to be told of changes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradscape.errors import StoreError, first_line, one_line
from gradscape.live.claims import judged_claims
from gradscape.live.discovery import MOST, places
from gradscape.live.sources import Row, Source, StudySource, source_of
from gradscape.report.interactive.comparison import comparison_document
from gradscape.report.interactive.runs import run_row

EVENTS = 500  # events that are kept
AGAIN = 2.0  # seconds from one search for new folders to the next, at least
SEARCH_SHARE = 0.05  # of the time, for searching, where there are thousands of folders
CLAIMS = 15.0  # seconds from one judgement of claims to the next, at least
PART, SOON = 200, 0.25  # rows, or seconds, after which they are told: of thousands the first are there soon
LEFT_OUT = (
    f"There are more than {MOST:,} folders here, and no more are looked into: "
    "for the rest show a folder further down."
)
GRADES = {"failed": "fail", "diverged": "fail", "damaged": "fail", "interrupted": "warn", "stopped": "warn"}
News = dict[str, Any]
OnChange = Callable[[Row, Mapping[str, object], Source], None]


class StillReadingError(StoreError):
    """A training that is not known, while the folder is still being read."""


class Hub:
    """Reader of a folder, which tells what has changed.

    Args:
        root: Path of the folder.
        tell: Function that is called with the news.
        on_change: Function that is called with a row, the row before, empty for a new training, and its
            source, when the state or the verdict has changed while the hub looks on.
    """

    def __init__(self, root: Path, tell: Callable[[News], None], on_change: OnChange | None = None) -> None:
        self.root, self.tell, self.on_change = root, tell, on_change
        self.began = time.time()
        self.sources: dict[str, Source] = {}
        self.rows: dict[str, Row] = {}
        self.owners: dict[str, Source] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.claims: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.search_at = self.judge_at = 0.0
        self.first = ""  # source that is the first to have its turn the next time
        self.unjudged = True
        self.unread = 1  # trainings that have not been read yet, at least
        self.knows_all = False
        self.news_of_events = False

    @property
    def title(self) -> str:
        """Name of the folder."""
        return one_line(self.root.resolve().name or str(self.root))

    def poll(self, seconds: float = math.inf) -> None:
        """Read what has changed, and tell it.

        Args:
            seconds: Time for trainings that are not at work; those that it is too short for are the first to
                have their turn the next time.
        """
        gone, began = self._search(), time.monotonic()
        until, tell_at, unread = began + seconds, began + SOON, self.unread
        changed: list[Row] = []
        behind = ""
        for path in self._in_turn():
            source = self.sources[path]
            for row in self._rows_of(source, until):
                self._take(row, source)
                changed.append(row)
                if len(changed) >= PART or time.monotonic() >= tell_at:
                    self._publish(changed, gone)
                    changed, gone, tell_at = [], [], time.monotonic() + SOON
            gone += self._forgotten(source)
            behind = behind or (path if source.is_behind else "")
        self.first = behind
        self.unjudged = self.unjudged or bool(changed)
        self._count_unread()
        if changed or gone or self.unread != unread:
            self._publish(changed, gone)

    def _in_turn(self) -> list[str]:
        """Return the paths of the sources, from the one on that the time was too short for."""
        paths = list(self.sources)
        start = paths.index(self.first) if self.first in self.sources else 0
        return paths[start:] + paths[:start]

    def _rows_of(self, source: Source, until: float) -> Iterator[Row]:
        """Yield the rows of a source that have changed, or that it is damaged: the rest goes on."""
        try:
            yield from source.poll(until)
        except Exception as error:  # of any kind: files of others, and rules that had not met such numbers
            source.unread = 0
            name = source.place.name or "."
            reason = one_line(first_line(error))
            row = run_row(name, one_line(name), state="damaged", reason=reason, has=False)
            if row != self.rows.get(name):
                yield row

    def _search(self) -> list[str]:
        """Look for new folders and for those that are gone; return the ids of rows that are gone."""
        began = time.monotonic()
        if began < self.search_at:
            return []
        here, is_all = places(self.root)
        self.notes = [] if is_all else [LEFT_OUT]
        found = {str(place.path): place for place in here}
        for path in [path for path in self.sources if path not in found]:
            del self.sources[path]
        for path, place in found.items():
            if path not in self.sources:
                self.sources[path] = source_of(place)
        alive = set(map(id, self.sources.values()))
        gone = [name for name, owner in self.owners.items() if id(owner) not in alive]
        for name in gone:
            del self.rows[name], self.owners[name]
        now = time.monotonic()
        self.search_at = now + max(AGAIN, (now - began) / SEARCH_SHARE)
        return gone

    def _forgotten(self, source: Source) -> list[str]:
        """Return the ids of a source's rows that are no more."""
        gone, source.gone = [name for name in source.gone if name in self.rows], []
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
        if self.on_change is not None and (before is not None or self._is_new(row)):
            self.on_change(row, before or {}, source)

    def _is_new(self, row: Row) -> bool:
        """Return True if a training has begun since the hub looks on; what was there before is old news."""
        return self.knows_all and (row["heard"] or 0.0) >= self.began

    def _event(self, row: Row, what: str, grade: str, text: str) -> None:
        when = row["heard"] or time.time()
        event = {"time": when, "id": row["id"], "run": row["name"], "what": what, "grade": grade}
        self.events.appendleft({**event, "text": text})
        self.news_of_events = True

    def _count_unread(self) -> None:
        self.unread = sum(source.unread for source in self.sources.values())
        self.knows_all = self.knows_all or not self.unread

    def _publish(self, changed: list[Row], gone: list[str]) -> None:
        self._count_unread()
        news: News = {
            "runs": changed,
            "gone": gone,
            "title": self.title,
            "unread": self.unread,
            "notes": self.notes,
        }
        if self.news_of_events:
            news["events"] = list(self.events)
            self.news_of_events = False
        self.tell(news)

    def judge(self) -> None:
        """Judge the claims of all studies, seldom enough, and tell them if they differ.

        This may take seconds: it has a thread of its own, so that news of runs do not wait for it.
        """
        began = time.monotonic()
        if not self.unjudged or began < self.judge_at:
            return
        self.unjudged = False
        studies = [source.study for source in list(self.sources.values()) if isinstance(source, StudySource)]
        claims = [claim for study in studies if study is not None for claim in judged_claims(study)]
        now = time.monotonic()
        self.judge_at = now + max(CLAIMS, 20 * (now - began))
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
        owner, row = self._owner(identity), self.rows.get(identity)
        if row is not None and row["state"] == "damaged":
            raise StoreError(row["reason"])
        return owner.document(identity)

    def comparison(self, a: str, b: str) -> dict[str, Any]:
        """Return where two trainings differ.

        Args:
            a, b: `id` of their rows.

        Raises:
            GradscapeError: There is no such training, one cannot be read, or they cannot be compared.
        """
        return comparison_document(*(self._owner(each).subject(each) for each in (a, b)))

    def _owner(self, identity: str) -> Source:
        owner = self.owners.get(identity)
        if owner is None and self.unread:
            raise StillReadingError("this training is not known yet: the folder is still being read")
        if owner is None:
            raise StoreError("there is no such training here")
        return owner
