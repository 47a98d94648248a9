"""Progress of a check, reported when it begins with something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckProgress:
    """Progress of a check.

    Attributes:
        phase: What it does, such as `fitting one batch`.
        number, of: Number of the part that begins, from 1, and of all parts; 0 of a phase without parts.
        part: Name of the part, such as that of a remedy.
    """

    phase: str
    number: int = 0
    of: int = 0
    part: str = ""

    def __str__(self) -> str:
        return f"{self.phase}, {self.number} of {self.of}: {self.part}" if self.of else self.phase
