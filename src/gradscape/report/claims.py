"""Claims and the evidence for them: rules in words, numbers per seed, and a verdict that follows.

A rule is one of `above`, `below` and `equivalent`. All decide as `gradscape.paired` does and share its
refusals: a single seed claims nothing, nor do a few seeds that are all equal; a run that is missing leaves
the verdict open (deciding on the seeds at hand would reward stopping at a good moment); and where a network
that a claim compares does no better than guessing, the claim is not testable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradscape.intervals import ROUNDING, Interval, interval
from gradscape.paired import ERROR, Difference, compare, holm

Verdict = Literal["holds", "does not hold", "undecided", "not testable", "not measured"]
ONE_SEED = "n = 1: one seed claims nothing"


@dataclass(frozen=True)
class Evidence:
    """One part of a claim, measured.

    Attributes:
        measured: what the numbers are, with their unit.
        rule: in words, when it holds.
        numbers: (seed, value) per run.
        interval: over seeds; None where there are no numbers.
        verdict: what follows from rule and numbers, of this part alone.
        reason: why, in a few words.
        p: two-sided probability of numbers this far from the rule's threshold if they lay on it; of a
            bootstrap the most that it can be; None where nothing was tested.
    """

    measured: str
    rule: str
    numbers: tuple[tuple[int, float], ...]
    interval: Interval | None
    verdict: Verdict
    reason: str
    p: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinite and NaN numbers become text, which JSON lacks."""
        return {
            "measured": self.measured,
            "rule": self.rule,
            "n": len(self.numbers),
            "numbers": [{"seed": seed, "value": plain(value)} for seed, value in self.numbers],
            "interval": None if self.interval is None else self.interval.to_dict(),
            "verdict": self.verdict,
            "reason": self.reason,
            "p": self.p,
        }


@dataclass(frozen=True)
class Claim:
    """One claim and its parts, which it says are all true; no parts means it was not measured.

    Attributes:
        id: such as `C1`.
        title: a few words.
        text: the claim itself.
        where: its place in the paper.
        parts: the evidence.
        note: why there are no parts, or what else a reader should know.
        yes, no: the sentence that an answer has where it holds, and where it does not; the title without one.
    """

    id: str
    title: str
    text: str
    where: str
    parts: tuple[Evidence, ...]
    note: str = ""
    yes: str = ""
    no: str = ""

    @property
    def tests(self) -> int:
        """How many of its parts were put to a test."""
        return sum(part.p is not None for part in self.parts)

    @property
    def corrected(self) -> list[float]:
        """Per part, the p-value with which it speaks against the claim, after Holm's correction; else 1."""
        # A verdict without a p-value is that of an interval of 95 %: p is ERROR at most.
        known = [ERROR if part.p is None else part.p for part in self.parts]
        return holm([p if part in self.against else 1.0 for part, p in zip(self.parts, known, strict=True)])

    @property
    def refuting(self) -> list[Evidence]:
        """The parts that refute it."""
        return [part for part, p in zip(self.parts, self.corrected, strict=True) if p <= ERROR]

    @property
    def verdict(self) -> Verdict:
        """What follows from all parts.

        It does not hold if a part does not after Holm's correction for the number of parts: one of many is
        wrong by chance more often than one alone. It holds if every part does, each at its own level: to be
        told so by mistake takes a mistake in the very part that is not true (Berger 1982).
        """
        verdicts = {part.verdict for part in self.parts}
        if not verdicts:
            return "not measured"
        if self.refuting:
            return "does not hold"
        if "not testable" in verdicts:
            return "not testable"
        return "holds" if verdicts == {"holds"} else "undecided"

    @property
    def deciding(self) -> list[Evidence]:
        """The parts from which the verdict follows."""
        if self.verdict == "does not hold":
            return self.refuting
        wanted = {"undecided", "does not hold"} if self.verdict == "undecided" else {self.verdict}
        return [part for part in self.parts if part.verdict in wanted]

    @property
    def reason(self) -> str:
        """The reasons of the parts that decided the verdict."""
        if not self.parts:
            return self.note
        words = "; ".join(dict.fromkeys(part.reason for part in self.deciding))
        return f"{words}{self.tally}" if self.verdict == "undecided" and len(self.parts) > 1 else words

    @property
    def tally(self) -> str:
        """How the parts of an undecided claim stand."""
        hold = sum(part.verdict == "holds" for part in self.parts)
        against = [p for part, p in zip(self.parts, self.corrected, strict=True) if part in self.against]
        words = f"{hold} of {len(self.parts)} parts hold"
        return (
            f" ({words}{f', {len(against)} against it, p {min(against):.2g} after Holm' if against else ''})"
        )

    @property
    def against(self) -> list[Evidence]:
        return [part for part in self.parts if part.verdict == "does not hold"]

    @property
    def sentence(self) -> str:
        """What an answer says of it once it is decided."""
        said = {"holds": self.yes, "does not hold": self.no}.get(self.verdict)
        return said or f"{self.title}: {self.verdict}."

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("id", "title", "text", "where", "verdict", "reason")}
        parts = [
            {**part.to_dict(), "p_against_after_holm": p}
            for part, p in zip(self.parts, self.corrected, strict=True)
        ]
        return {**fields, "note": self.note, "tests": self.tests, "parts": parts}


def above(
    measured: str, values: Mapping[int, float], threshold: float, missing: str = "", untestable: str = ""
) -> Evidence:
    """Holds where the 95 % interval over seeds lies above `threshold`, fails where it lies below.

    Args:
        measured: what the values are, with their unit.
        values: seed → number.
        threshold: in the unit of the values.
        missing: which runs are missing, in words; leaves the verdict open.
        untestable: which network that is compared does no better than guessing, in words.

    Example:
        >>> above("train accuracy", {0: 0.47, 1: 0.48, 2: 0.49}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies above {threshold:g}"
    return judge(measured, rule, values, missing, untestable, against(values, threshold))


def below(
    measured: str, values: Mapping[int, float], threshold: float, missing: str = "", untestable: str = ""
) -> Evidence:
    """Holds where the 95 % interval over seeds lies below `threshold`; arguments as of `above`.

    Example:
        >>> below("train accuracy", {0: 0.01, 1: 0.011, 2: 0.01}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies below {threshold:g}"
    mirrored = {seed: -value for seed, value in values.items()}
    return judge(measured, rule, values, missing, untestable, against(mirrored, -threshold))


def equivalent(
    measured: str, differences: Mapping[int, float], margin: float, missing: str = "", untestable: str = ""
) -> Evidence:
    """Holds where the 95 % interval of the differences lies within ± `margin`, fails where it lies outside.

    Two one-sided tests (Schuirmann 1987). With n seeds it can hold only if their differences deviate by less
    than margin · √n / t: by less than 0.8 margins for five, 0.4 for three.

    Args:
        measured: what the differences are, with their unit.
        differences: seed → paired difference.
        margin: the largest difference that counts as none.
        missing, untestable: see `above`.

    Example:
        >>> equivalent("difference", {0: 0.001, 1: -0.002, 2: 0.0}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies within ± {margin:g}"
    mirrored = {seed: -value for seed, value in differences.items()}
    # Two conditions: the worse of them decides.
    sides = [against(values, -margin) for values in (differences, mirrored)]
    worst = min(sides, key=lambda side: side.mean or 0.0)
    return judge(measured, rule, differences, missing, untestable, worst)


def against(values: Mapping[int, float], threshold: float) -> Difference:
    """The values compared with a number, by the rules of `paired.compare`."""
    return compare(dict.fromkeys(values, threshold), values)


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """first − second, paired by the seeds both have; 0 where they differ by rounding.

    Example:
        >>> differences({0: 3.0, 1: 5.0}, {1: 1.0})
        {1: 4.0}
    """
    both = {seed: (first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}
    return {seed: 0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for seed, (a, b) in both.items()}


ORDER: Mapping[str, Verdict] = {"higher": "holds", "lower": "does not hold", "undecided": "undecided"}


def judge(
    measured: str,
    rule: str,
    values: Mapping[int, float],
    missing: str,
    untestable: str,
    found: Difference,
) -> Evidence:
    """The evidence that a comparison with a threshold is, unless there is reason to refuse."""
    numbers = tuple(sorted(values.items()))
    finite = bool(values) and all(map(math.isfinite, values.values()))
    over = interval(list(values.values())) if finite else None
    why = missing or untestable or refusal(len(values), found)
    if why:
        verdict: Verdict = "not testable" if untestable and not missing else "undecided"
        return Evidence(measured, rule, numbers, over, verdict, why)
    unspread = f": {found.reason}" if found.low is None else ""
    return Evidence(measured, rule, numbers, over, ORDER[found.verdict], f"{over}{unspread}", found.p)


def refusal(n: int, found: Difference) -> str:
    """Why nothing can be decided on the numbers alone, or an empty string."""
    return "no runs" if n == 0 else ONE_SEED if n == 1 else found.reason if found.p is None else ""


def in_words(claims: Sequence[Claim]) -> str:
    """What is decided, a sentence each; what is not testable, and what is open."""
    settled = [claim.sentence for claim in claims if claim.verdict in ("holds", "does not hold")]
    idle = [claim for claim in claims if claim.verdict == "not testable"]
    left = [claim for claim in claims if claim.verdict in ("undecided", "not measured")]
    names = "; ".join(f"{claim.title} ({claim.id})" for claim in idle)
    why = "; ".join(dict.fromkeys(claim.reason for claim in idle))
    open_ = "; ".join(f"{claim.title} ({claim.id})" for claim in left)
    said = [
        *settled,
        f"Not testable here: {names}: {why}." if idle else "",
        f"Open here: {open_}: {unsettled(left)}." if left else "",
    ]
    return " ".join(sentence for sentence in said if sentence)


def unsettled(claims: Iterable[Claim]) -> str:
    """Why these claims are open, in a few words for an answer."""
    if any(ONE_SEED in claim.reason for claim in claims):
        return "one seed per run claims nothing"
    return "runs are missing, or the seeds are too few or disagree"


def multiplicity(claims: Sequence[Claim]) -> str:
    """How many claims and tests there are, and what that does to them."""
    tested = [claim for claim in claims if claim.tests]
    tests = sum(claim.tests for claim in tested)
    if not tested:
        return "No claim was put to a test."
    chance = f"{100 * (1 - (1 - ERROR) ** len(tested)):.0f} %"
    return (
        f"{len(claims)} claims, of which {len(tested)} were put to {tests} tests. Within a claim the parts "
        "are corrected for their number; claims are not corrected for one another: each errs with a chance "
        f"of at most 5 %, one at least of {len(tested)} with a chance of up to {chance}."
    )


def plain(value: float) -> float | str:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)
