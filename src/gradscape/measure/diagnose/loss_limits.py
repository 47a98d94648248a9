"""Limits of the rules on the loss, outputs, targets, inputs and modes, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

from gradscape.config.fields import settle
from gradscape.records.diagnosis import Symptom


@dataclass(frozen=True)
class LossLimits:
    """Limits beyond which what a watch has seen of the loss speaks for a verdict.

    Attributes:
        floor: Least loss that a bounded output can reach, over the loss of guessing.
        least_logit: Least value that an output can have, above which it cannot speak against a class.
        out_of_reach: Share of the targets' variance that an output cannot reach by its range.
        fewest_labels: Number of labels from which their counts are judged.
    """

    floor: float = 0.2
    least_logit: float = -0.5
    out_of_reach: float = 0.05
    fewest_labels: int = 300

    def __post_init__(self) -> None:
        settle(self, "limits.")

    def evidence(self, limit: str, what: str, value: float, below: bool = False) -> Symptom:
        """Return a value beside its limit.

        Args:
            limit: Name of the limit.
            what: What the value is, in words.
            value: Value.
            below: Whether values below the limit speak for the verdict.
        """
        return Symptom(what, float(value), float(getattr(self, limit)), SOURCES[limit], below)


SOURCES = {
    "floor": "a fifth of the loss of guessing stays, whatever the weights are",
    "least_logit": "log-odds of −0.5 are a probability of 0.38",
    "out_of_reach": "a twentieth of the targets' variance stays, whatever the weights are",
    "fewest_labels": "of 300 labels a class of one in a hundred is missing once in twenty times",
}
