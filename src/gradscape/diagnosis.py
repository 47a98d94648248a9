"""A verdict on a training, with the numbers it rests on; plain values, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradscape.arrays import plain_values

VERDICTS = (
    "non-finite",
    "dead units",
    "frozen layer",
    "exploding",
    "vanishing",
    "below the optimiser's reach",
    "saturated",
    "no signal from the input",
    "learning rate too large",
    "learning rate too small",
    "noise-dominated",
    "healthy",
)


@dataclass(frozen=True)
class Evidence:
    """A number, what it was held against, and where that comes from.

    Attributes:
        what: is measured, in words with its unit.
        value: measured.
        limit: beyond which it counts.
        source: of the limit.
    """

    what: str
    value: float
    limit: float
    source: str

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.3g} (limit {self.limit:.3g}; {self.source})"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that nothing is.

    Attributes:
        verdict: one of `VERDICTS`.
        layer: where it begins; empty where it is of the whole network.
        cause: that is inferred.
        remedy: what would help.
        evidence: numbers.
    """

    verdict: str
    layer: str
    cause: str
    remedy: str
    evidence: tuple[Evidence, ...]

    def __str__(self) -> str:
        where = f", beginning at {self.layer}" if self.layer else ""
        lines = [f"{self.verdict}{where}", f"  cause: {self.cause}", f"  what would help: {self.remedy}"]
        return "\n".join([*lines, *(f"  {each}" for each in self.evidence)])


def gravest_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each verdict once, in the order of `VERDICTS`; `healthy` only where it stands alone."""
    ill = [finding for finding in findings if finding.verdict != "healthy"]
    once = {finding.verdict: finding for finding in reversed(ill)}
    return tuple(sorted(once.values(), key=lambda finding: VERDICTS.index(finding.verdict))) or tuple(
        findings[:1]
    )


@dataclass(frozen=True)
class Diagnosis:
    """Findings, the gravest first; the first is the verdict.

    Attributes:
        findings: one at least.
        seen: what the gradients are that it rests on.
        notes: what was found odd, in words.
    """

    findings: tuple[Finding, ...]
    seen: str
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return self.findings[0].verdict

    @property
    def layer(self) -> str:
        return self.findings[0].layer

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers; None for a number that is not finite."""
        plain = {**plain_values(self), "notes": list(self.notes)}
        return {"verdict": self.verdict, "layer": self.layer, **plain}

    def __str__(self) -> str:
        told = [str(finding) for finding in self.findings]
        return "\n".join(
            [*told, f"gradients were read {self.seen}", *(f"note: {note}" for note in self.notes)]
        )
