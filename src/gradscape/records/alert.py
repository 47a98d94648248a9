"""An alert: a finding of a diagnosis, or an event, that is told while the training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradscape._codec import Record
from gradscape.errors import one_line
from gradscape.records.diagnosis import Finding

# What happens to a training, by its state, as the verdict of an alert's finding; each is of grade `fail`.
EVENTS = {
    "failed": "training failed",
    "diverged": "training diverged",
    "interrupted": "training interrupted",
}


@dataclass(frozen=True)
class Alert(Record):
    """Finding, told at a step of a training.

    Attributes:
        finding: Finding that is told; from the live page also an event, whose verdict is one of `EVENTS`.
        step: Number of steps of the training so far; for a recorded run, of epochs.
        time: Time when it was found, in seconds since 1970.
        run: Name of the run; empty if it has none.
    """

    finding: Finding
    step: int
    time: float
    run: str = ""

    @property
    def verdict(self) -> str:
        """Verdict of the finding."""
        return self.finding.verdict

    @property
    def layer(self) -> str:
        """Layer where it begins; empty if it concerns the whole network."""
        return self.finding.layer

    @property
    def grade(self) -> str:
        """`fail` or `warn`."""
        return "fail" if self.verdict in EVENTS.values() else self.finding.grade

    @property
    def heading(self) -> str:
        """Verdict and place, in one line."""
        return one_line(self.finding.heading)

    @property
    def text(self) -> str:
        """Cause and what would help, a line each."""
        return f"cause: {one_line(self.finding.cause)}\nwhat would help: {one_line(self.finding.remedy)}"

    def derived(self) -> Mapping[str, Any]:
        """Verdict, layer, grade, heading and text."""
        return {name: getattr(self, name) for name in ("verdict", "layer", "grade", "heading", "text")}

    def __str__(self) -> str:
        where = f" of {one_line(self.run)}" if self.run else ""
        return f"{self.grade} at step {self.step}{where}: {self.heading}\n{self.text}"
