"""Remember which findings were told, so that each is told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscape.records.diagnosis import Diagnosis, Finding

Grade = Literal["fail", "warn"]
RANKS = {"fail": 0, "warn": 1}
COOL_DOWN = 1_800.0  # seconds
NEVER_TOLD = ("too early to tell",)


def is_as_grave(grade: str, least: str) -> bool:
    """Return True if a grade is `least` or graver.

    Args:
        grade: `fail`, `warn` or `info`.
        least: `fail` or `warn`.
    """
    return grade in RANKS and RANKS[grade] <= RANKS[least]


@dataclass
class _Told:
    time: float
    layer: str
    grade: str
    is_gone: bool = False


class FindingMemory:
    """Memory of the findings of successive diagnoses of one training; it knows which are to be told now.

    A finding is told when it stands in two diagnoses in a row, once. It is told again after the cool-down
    only: if it went away and came back, or if it begins at another layer. A `warn` that becomes a `fail` is
    told at once.

    Args:
        least: Grade from which on findings are told.
        cool_down: Number of seconds from telling a finding to telling it again.

    Attributes:
        is_doubtful: Whether the last diagnosis had a finding that must stand in the next one too.
    """

    def __init__(self, least: Grade = "fail", cool_down: float = COOL_DOWN) -> None:
        self.least, self.cool_down = least, cool_down
        self.is_doubtful = False
        self._standing: dict[str, str] = {}
        self._told: dict[str, _Told] = {}

    def new_findings(self, diagnosis: Diagnosis, now: float, at_once: bool = False) -> list[Finding]:
        """Return the findings to tell now, the gravest first.

        Args:
            diagnosis: Diagnosis that follows the last one.
            now: Time, in seconds.
            at_once: Whether findings need not stand in two diagnoses, as when the loss is not finite.
        """
        found = {
            each.verdict: each
            for each in diagnosis.findings
            if is_as_grave(each.grade, self.least) and each.verdict not in NEVER_TOLD
        }
        for verdict, told in self._told.items():
            told.is_gone |= verdict not in found
        due = [each for each in found.values() if self._is_due(each, now)]
        stand = [each for each in due if at_once or self._stood(each)]
        self._standing = {verdict: each.grade for verdict, each in found.items()}
        self.is_doubtful = len(stand) < len(due)
        for each in stand:
            self._told[each.verdict] = _Told(now, each.layer, each.grade)
        return stand

    def add_told(self, finding: Finding, now: float) -> None:
        """Remember a finding that is told without this memory.

        Args:
            finding: Finding that is told.
            now: Time, in seconds.
        """
        self._told[finding.verdict] = _Told(now, finding.layer, finding.grade)

    def _stood(self, finding: Finding) -> bool:
        """Return True if the last diagnosis had the finding too, as grave."""
        before = self._standing.get(finding.verdict)
        return before is not None and is_as_grave(before, finding.grade)

    def _is_due(self, finding: Finding, now: float) -> bool:
        told = self._told.get(finding.verdict)
        if told is None or not is_as_grave(told.grade, finding.grade):
            return True
        return (told.is_gone or told.layer != finding.layer) and now - told.time >= self.cool_down
