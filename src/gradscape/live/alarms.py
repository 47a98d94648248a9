"""Alerts of trainings that come to have a fault, fail, diverge or are killed while somebody looks on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gradscape.live.sources import Row, Source
from gradscape.measure.watch.alert_delivery import Delivery
from gradscape.measure.watch.alert_memory import COOL_DOWN
from gradscape.records.alert import EVENTS, Alert
from gradscape.records.diagnosis import Finding

MOST_ALIKE = 5  # runs of one study of which the same is told within a cool-down
REMEDIES = {
    "failed": "mend what the error names; a run or a study goes on with the same command",
    "diverged": "a lower learning rate; gradscape diagnose says in which layer it began",
    "interrupted": "give the same command again: a run or a study goes on where it was",
}


class Alarms:
    """Alerts of what happens to trainings, each told once.

    The same of the same training is told again after the cool-down only, and of one study the same is told of
    a few runs: on a full disk all fail at once.

    Args:
        delivery: Delivery to the receivers.
        cool_down: Number of seconds from telling something to telling it again.
        clock: Function that returns the time, in seconds.
    """

    def __init__(
        self, delivery: Delivery, cool_down: float = COOL_DOWN, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.delivery, self.cool_down, self.clock = delivery, cool_down, clock
        self.told: dict[tuple[str, str], float] = {}
        self.alike: dict[tuple[str, str], list[float]] = {}

    def hear(self, row: Row, before: Mapping[str, object], source: Source) -> None:
        """Tell what has become wrong with a training, if anything has.

        Args:
            row: Row of the training.
            before: Its row before; empty for a training that is new.
            source: Source of the row.
        """
        what = _new_trouble(row, before)
        if not what or not self._is_due(row["id"], what):
            return
        count = self._count_alike(source.place.name, what)
        finding, at = self._finding(what, row, source)
        if finding is None or count > MOST_ALIKE:
            return
        if count == MOST_ALIKE:
            rest = f"the same of other runs beside it is not told for {self.cool_down / 60:.0f} min"
            finding = replace(finding, cause=f"{finding.cause}; {rest}")
        self.delivery.send(Alert(finding, at, time.time(), row["name"]))

    def _is_due(self, identity: str, what: str) -> bool:
        now = self.clock()
        if now - self.told.get((identity, what), -self.cool_down) < self.cool_down:
            return False
        self.told[identity, what] = now
        return True

    def _count_alike(self, study: str, what: str) -> int:
        """Return how many trainings of a study the same happened to within the cool-down, with this one."""
        now = self.clock()
        times = [each for each in self.alike.get((study, what), []) if now - each < self.cool_down]
        self.alike[study, what] = [*times, now]
        return len(times) + 1

    def _finding(self, what: str, row: Row, source: Source) -> tuple[Finding | None, int]:
        finding, at = source.finding(row["id"])
        if what not in REMEDIES:
            return finding, at
        cause = row["reason"] or "nothing more is known"
        return Finding(EVENTS[what], "", cause, REMEDIES[what], ()), at


def _new_trouble(row: Row, before: Mapping[str, object]) -> str:
    """Return the verdict or the state that a training has come to; empty if it is none to tell of.

    That somebody interrupts a run by Ctrl-C is none: then there is no reason.
    """
    if row["grade"] == "fail" and row["verdict"] != before.get("verdict"):
        return str(row["verdict"])
    told = row["state"] in REMEDIES and (row["reason"] or row["state"] != "interrupted")
    return row["state"] if told and row["state"] != before.get("state") else ""
