"""Claims and the evidence for them: rules in words, numbers per seed, and the verdict that follows.

A rule is one of `above`, `below` and `equivalent`. All decide as `gradscape.stats.paired` does and refuse as
it does: a single seed claims nothing, nor do a few seeds that are all equal. A missing run leaves the verdict
open, because deciding on the seeds at hand would reward stopping at a good moment. Where a network that a
claim compares does no better than guessing, the claim is not testable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from gradscape._codec import encode
from gradscape.stats.paired import ERROR, Difference, compare, holm
from gradscape.stats.student_t import ROUNDING, Interval, interval

Verdict = Literal["holds", "does not hold", "undecided", "not testable", "not measured"]
Key = TypeVar("Key", bound=float)  # a seed, or a place on an axis
ONE_SEED = "n = 1: one seed claims nothing"


@dataclass(frozen=True)
class Evidence:
    """One part of a claim, measured.

    Attributes:
        measured: Name of the numbers, with their unit.
        rule: Rule in words: when the part holds.
        numbers: (seed, value) per run.
        interval: Interval over seeds; None where there are no numbers.
        verdict: Verdict of rule and numbers on this part alone.
        reason: Reason of the verdict, in a few words.
        p: Two-sided probability of numbers this far from the rule's threshold if they lay on it; of a
            bootstrap, the most that it can be; None where nothing was tested.
        limits: Numbers that the rule holds the interval against; empty if it has none.
    """

    measured: str
    rule: str
    numbers: tuple[tuple[int, float], ...]
    interval: Interval | None
    verdict: Verdict
    reason: str
    p: float | None = None
    limits: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinite and NaN numbers become text, because JSON has none."""
        return {
            "measured": self.measured,
            "rule": self.rule,
            "n": len(self.numbers),
            "numbers": [{"seed": seed, "value": encode(value)} for seed, value in self.numbers],
            "interval": None if self.interval is None else self.interval.to_dict(),
            "verdict": self.verdict,
            "reason": self.reason,
            "p": self.p,
        }


@dataclass(frozen=True)
class Claim:
    """One claim and its parts, all of which it says are true; without parts it was not measured.

    Attributes:
        id: Short name, such as `C1`.
        title: Title of a few words.
        text: The claim itself.
        where: Its place in the paper, such as `§5.3, Fig. 2`, or its source in other words.
        parts: Evidence.
        note: Reason why there are no parts, or another remark.
        yes, no: Sentence of an answer if the claim holds, and if it does not; empty: the title is used.
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
        """Number of its parts that were tested."""
        return sum(part.p is not None for part in self.parts)

    @property
    def corrected(self) -> list[float]:
        """p-value of each part that is against the claim, after Holm's correction; 1 for the others."""
        # A verdict without a p-value is that of an interval of 95 %: p is ERROR at most.
        ps = [ERROR if part.p is None else part.p for part in self.parts]
        return holm([p if part in self.against else 1.0 for part, p in zip(self.parts, ps, strict=True)])

    @property
    def refuting(self) -> list[Evidence]:
        """Parts that refute the claim."""
        return [part for part, p in zip(self.parts, self.corrected, strict=True) if p <= ERROR]

    @property
    def verdict(self) -> Verdict:
        """Verdict of all parts together.

        The claim does not hold if a part does not after Holm's correction for the number of parts: one of
        many is wrong by chance more often than one alone. It holds if every part does, each at its own level:
        a false "holds" needs an error in the very part that is not true (Berger 1982).
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
        """Parts from which the verdict follows."""
        if self.verdict == "does not hold":
            return self.refuting
        wanted = {"undecided", "does not hold"} if self.verdict == "undecided" else {self.verdict}
        return [part for part in self.parts if part.verdict in wanted]

    @property
    def reason(self) -> str:
        """Reasons of the parts that decided the verdict."""
        if not self.parts:
            return self.note
        if self.verdict == "not testable":  # parts often lack the same runs
            lacking = (reason for part in self.deciding for reason in part.reason.split("; "))
            return "; ".join(dict.fromkeys(lacking))
        words = "; ".join(dict.fromkeys(part.reason for part in self.deciding))
        return f"{words}{self.tally}" if self.verdict == "undecided" and len(self.parts) > 1 else words

    @property
    def tally(self) -> str:
        """Count of the parts of an undecided claim that hold, and that are against it."""
        hold = sum(part.verdict == "holds" for part in self.parts)
        against = [p for part, p in zip(self.parts, self.corrected, strict=True) if part in self.against]
        words = f"{hold} of {len(self.parts)} parts hold"
        return (
            f" ({words}{f', {len(against)} against it, p {min(against):.2g} after Holm' if against else ''})"
        )

    @property
    def against(self) -> list[Evidence]:
        """Parts that do not hold."""
        return [part for part in self.parts if part.verdict == "does not hold"]

    def after_holm(self, part: Evidence) -> str:
        """Return why a part that does not hold leaves its claim undecided; empty for any other part.

        Args:
            part: One of the claim's parts.
        """
        p = self.corrected[self.parts.index(part)]
        if part not in self.against or p <= ERROR:
            return ""
        return f"p {p:.2g} after Holm's correction for {len(self.parts)} parts: too weak to refute the claim"

    @property
    def sentence(self) -> str:
        """Sentence of an answer once the claim is decided."""
        sentence = {"holds": self.yes, "does not hold": self.no}.get(self.verdict)
        return sentence or f"{self.title}: {self.verdict}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and texts."""
        fields = {name: getattr(self, name) for name in ("id", "title", "text", "where", "verdict", "reason")}
        parts = [
            {**part.to_dict(), "p_against_after_holm": p}
            for part, p in zip(self.parts, self.corrected, strict=True)
        ]
        return {**fields, "note": self.note, "tests": self.tests, "parts": parts}


def above(
    measured: str,
    values: Mapping[int, float],
    threshold: float,
    missing: str = "",
    untestable: str = "",
    alike: float = 0.0,
) -> Evidence:
    """Judge values: they hold if their 95 % interval over seeds lies above `threshold`, fail if below.

    Args:
        measured: Name of the values, with their unit.
        values: Number per seed.
        threshold: Limit, in the unit of the values.
        missing: Runs that are missing, in words; they leave the verdict open.
        untestable: Compared networks that do no better than guessing, in words.
        alike: Standard deviation to take where all values are equal; 0 for the sign test.

    Example:
        >>> above("train accuracy", {0: 0.47, 1: 0.48, 2: 0.49}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies above {threshold:g}"
    against = _against(values, threshold, alike)
    return _judge(measured, rule, values, missing, untestable, against, (threshold,), alike)


def below(
    measured: str,
    values: Mapping[int, float],
    threshold: float,
    missing: str = "",
    untestable: str = "",
    alike: float = 0.0,
) -> Evidence:
    """Judge values: they hold if their 95 % interval over seeds lies below `threshold`, fail if above.

    Args:
        measured, values, threshold, missing, untestable, alike: See `above`.

    Example:
        >>> below("train accuracy", {0: 0.01, 1: 0.011, 2: 0.01}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies below {threshold:g}"
    mirrored = {seed: -value for seed, value in values.items()}
    against = _against(mirrored, -threshold, alike)
    return _judge(measured, rule, values, missing, untestable, against, (threshold,), alike)


def equivalent(
    measured: str, differences: Mapping[int, float], margin: float, missing: str = "", untestable: str = ""
) -> Evidence:
    """Judge differences: they hold if their 95 % interval lies within ± `margin`, fail if outside.

    Two one-sided tests (Schuirmann 1987). With n seeds it can hold only if their differences deviate by less
    than margin · √n / t: by less than 0.8 margins for five, 0.4 for three.

    Args:
        measured: Name of the differences, with their unit.
        differences: Paired difference per seed.
        margin: Largest difference that counts as none.
        missing, untestable: See `above`.

    Example:
        >>> equivalent("difference", {0: 0.001, 1: -0.002, 2: 0.0}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies within ± {margin:g}"
    mirrored = {seed: -value for seed, value in differences.items()}
    # Two conditions: the worse of them decides.
    sides = [_against(values, -margin) for values in (differences, mirrored)]
    worst = min(sides, key=lambda side: side.mean or 0.0)
    return _judge(measured, rule, differences, missing, untestable, worst, (-margin, margin))


def _against(values: Mapping[int, float], threshold: float, alike: float = 0.0) -> Difference:
    """Compare the values with a number, by the rules of `paired.compare`."""
    return compare(dict.fromkeys(values, threshold), values, alike=alike)


def differences(first: Mapping[Key, float], second: Mapping[Key, float]) -> dict[Key, float]:
    """Return first − second, paired by the keys both have; 0 where they differ by rounding.

    Args:
        first, second: Number per seed, or per other key.

    Example:
        >>> differences({0: 3.0, 1: 5.0}, {1: 1.0})
        {1: 4.0}
    """
    both = {seed: (first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}
    return {seed: 0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for seed, (a, b) in both.items()}


ORDER: Mapping[str, Verdict] = {"higher": "holds", "lower": "does not hold", "undecided": "undecided"}


def _judge(
    measured: str,
    rule: str,
    values: Mapping[int, float],
    missing: str,
    untestable: str,
    difference: Difference,
    limits: tuple[float, ...],
    alike: float = 0.0,
) -> Evidence:
    """Return the evidence of a comparison with a threshold, or the reason why it decides nothing."""
    numbers = tuple(sorted(values.items()))
    finite = bool(values) and all(map(math.isfinite, values.values()))
    over = interval(list(values.values()), alike=alike) if finite else None
    why = missing or untestable or _refusal(len(values), difference)
    if why or over is None:
        verdict: Verdict = "not testable" if untestable and not missing else "undecided"
        return Evidence(measured, rule, numbers, over, verdict, why, limits=limits)
    unspread = f": {difference.reason}" if difference.low is None else ""
    reason = f"{over.beside(limits)}{unspread}"
    return Evidence(measured, rule, numbers, over, ORDER[difference.verdict], reason, difference.p, limits)


def _refusal(n: int, difference: Difference) -> str:
    """Return the reason why the numbers alone decide nothing, or an empty string."""
    return "no runs" if n == 0 else ONE_SEED if n == 1 else difference.reason if difference.p is None else ""


def answer(claims: Sequence[Claim], lead: Sequence[str] = ()) -> list[str]:
    """Return the paragraphs that answer a study's question, from the verdicts of its claims alone.

    Args:
        claims: Claims that were checked.
        lead: Ids of the claims that answer the question itself; they come first.
    """
    first = [claim for claim in claims if claim.id in lead]
    others = [claim for claim in claims if claim.id not in lead]
    return [text for text in (in_words(first), in_words(others), _tally(claims)) if text]


def _tally(claims: Sequence[Claim]) -> str:
    """Return the number of claims with each verdict, and their ids; empty without claims."""
    plural = {"holds": "hold", "does not hold": "do not hold"}
    words = []
    for verdict in dict.fromkeys(claim.verdict for claim in claims):
        ids = [claim.id for claim in claims if claim.verdict == verdict]
        names = " and ".join([", ".join(ids[:-1]), ids[-1]]) if len(ids) > 1 else ids[0]
        words.append(f"{len(ids)} {plural.get(verdict, verdict) if len(ids) > 1 else verdict} ({names})")
    return f"Of {len(claims)} claims: {'; '.join(words)}." if claims else ""


def in_words(claims: Sequence[Claim]) -> str:
    """Return a sentence for each decided claim, one for those not testable, and one for the open ones.

    Args:
        claims: Claims that were checked.
    """
    settled = [claim.sentence for claim in claims if claim.verdict in ("holds", "does not hold")]
    idle = [claim for claim in claims if claim.verdict == "not testable"]
    left = [claim for claim in claims if claim.verdict in ("undecided", "not measured")]
    names = "; ".join(f"{claim.title} ({claim.id})" for claim in idle)
    why = "; ".join(dict.fromkeys(text for claim in idle for text in claim.reason.split("; ")))
    sentences = [
        *settled,
        f"Not testable here: {names}: {why}." if idle else "",
        f"Open here: {_unsettled(left)}." if left else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _unsettled(claims: Sequence[Claim]) -> str:
    """Return the open claims with the reasons why they are, in a few words for an answer."""
    alone = [claim for claim in claims if ONE_SEED in claim.reason]
    tested = [
        claim for claim in claims
        if claim not in alone and claim.deciding and all(part.p is not None for part in claim.deciding)
    ]  # fmt: skip
    others = [claim for claim in claims if claim not in alone and claim not in tested]
    reasons = (
        (alone, "one seed per run claims nothing"),
        (tested, "the seeds disagree too much, or are too few, to tell"),
        (others, "runs or measures are missing"),
    )
    return "; ".join(
        f"{', '.join(f'{claim.title} ({claim.id})' for claim in group)}: {why}"
        for group, why in reasons
        if group
    )


def multiplicity(claims: Sequence[Claim]) -> str:
    """Return the number of claims and tests, and the chance of an error that comes with it, in words.

    Args:
        claims: Claims that were checked.
    """
    tested = [claim for claim in claims if claim.tests]
    tests = sum(claim.tests for claim in tested)
    if not tested:
        return "No claim was put to a test."
    chance = f"{min(100.0, 100 * ERROR * len(tested)):.0f} %"  # claims share runs: they are not independent
    return (
        f"{len(claims)} claims, of which {len(tested)} were put to {tests} tests. Within a claim the parts "
        "are corrected for their number; claims are not corrected for one another: each errs with a chance "
        f"of at most 5 % where values are normal, one at least of {len(tested)} with a chance of up to "
        f"{chance}."
    )
