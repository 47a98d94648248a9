"""Order of looks at the runs of a study, so that of thousands what happens to any is heard soon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from gradscape.storage.run_summary import RunSummary, StudyWatcher

SOON = 64  # runs, first in the study's order, that are the next to begin
PART = 100  # runs, of which one is looked at although its folder has not changed, another one each time


class Rounds:
    """Runs of a study: those at work and the next to begin are looked at every time, the others in turn.

    Of the others only the time of their folder is asked for: a run that begins, goes on or ends replaces its
    `status.json`, which changes that time. Of 10,000 runs this takes 25 ms, and a look at all files 2 s.

    Args:
        watcher: Watcher of the study.
    """

    def __init__(self, watcher: StudyWatcher) -> None:
        self.watcher = watcher
        self.at_work: dict[str, tuple[str | None, int | None]] = {}  # and the host and pack of each
        self.waiting: dict[str, None] = {}
        self.names: list[str] = []
        self.changed: dict[str, tuple[str, int]] = {}  # folder and its time, or 0 where it is not there
        self.place = self.passes = 0
        self.is_behind = False  # True if the time was too short for some of them

    @property
    def unread(self) -> int:
        """Number of runs that have not been looked at yet; 0 once all have been."""
        return 0 if self.passes else len(self.names) - self.place

    def poll(self, until: float) -> Iterator[RunSummary]:
        """Yield the summaries of runs that may have changed.

        Args:
            until: Time of `time.monotonic` at which others than those at work have to wait for the next time.

        Raises:
            StoreError: There is no study here, or its `study.json` is damaged or newer.
        """
        self.is_behind = bool(self.names) and not self.at_work and time.monotonic() >= until
        if self.is_behind:
            return
        self._follow_plan()
        for name in [*self.at_work, *islice(self.waiting, SOON)]:
            yield self._look(name)
        while self.place < len(self.names):
            part = self.names[self.place : self.place + PART]
            yield from map(self._look, self._changed(part, self.passes % PART))
            self.place += PART
            if time.monotonic() >= until:
                break
        self.is_behind = self.place < len(self.names)
        if not self.is_behind:
            self.place, self.passes = 0, self.passes + 1

    def _follow_plan(self) -> None:
        """Begin anew where the study has been given other runs."""
        self.watcher.asked()
        if self.names is not self.watcher.names and self.names != self.watcher.names:
            self.names, self.place = self.watcher.names, 0
            self.at_work, self.waiting, self.changed = {}, {}, {}

    def _changed(self, names: Sequence[str], anyway: int) -> list[str]:
        """Return those whose folder is new or has changed, and one anyway."""
        found = list(names[anyway : anyway + 1])
        for name in names:
            folder, before = self.changed.get(name) or (str(self.watcher.study.run(name).path), -1)
            try:
                now = os.stat(folder).st_mtime_ns
            except OSError:  # not begun yet, or gone
                now = 0
            if now != before:
                self.changed[name] = folder, now
                found.append(name)
        return found

    def _look(self, name: str) -> RunSummary:
        summary = self.watcher.look(name)
        self.at_work.pop(name, None)
        self.waiting.pop(name, None)
        if summary.state == "pending":
            self.waiting[name] = None
        if summary.state != "running":
            return summary
        self.at_work[name] = pack = summary.host, summary.pack
        if summary.pack is None:
            return summary
        return replace(summary, beside=sum(each == pack for each in self.at_work.values()))
