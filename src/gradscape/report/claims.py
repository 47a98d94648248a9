"""Claims and the evidence for them: rules in words, numbers per seed, and a verdict that follows.

A rule is one of `above`, `below`, `equivalent` and `within`. All share three refusals: a run that is
missing leaves the verdict open (deciding on the seeds at hand would reward stopping at a good moment),
a single seed claims nothing, and a claim without evidence is "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradscape.intervals import Interval, interval

Verdict = Literal["holds", "does not hold", "undecided", "not measured"]
ONE_SEED = "n = 1: one seed claims nothing"


@dataclass(frozen=True)
class Evidence:
    """One part of a claim, measured.

    Attributes:
        measured: what the numbers are, with their unit.
        rule: in words, when it holds.
        numbers: (seed, values) per run: one value, or the lowest and the highest.
        interval: over seeds; None where there are no numbers or the rule is about each seed.
        verdict: what follows from rule and numbers.
        reason: why, in a few words.
    """

    measured: str
    rule: str
    numbers: tuple[tuple[int, tuple[float, ...]], ...]
    interval: Interval | None
    verdict: Verdict
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinite and NaN numbers become text, which JSON lacks."""
        return {
            "measured": self.measured,
            "rule": self.rule,
            "n": len(self.numbers),
            "numbers": [{"seed": s, "values": [plain(v) for v in values]} for s, values in self.numbers],
            "interval": None if self.interval is None else self.interval.to_dict(),
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Claim:
    """One claim and its parts; no parts means it was not measured.

    Attributes:
        id: such as `C1`.
        title: a few words.
        text: the claim itself.
        where: its place in the paper.
        parts: the evidence; the claim is the worst of them.
        note: why there are no parts, or what else a reader should know.
    """

    id: str
    title: str
    text: str
    where: str
    parts: tuple[Evidence, ...]
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """`does not hold` if any part does not, `holds` if all do, else `undecided`."""
        verdicts = [part.verdict for part in self.parts]
        if not verdicts:
            return "not measured"
        if "does not hold" in verdicts:
            return "does not hold"
        return "holds" if set(verdicts) == {"holds"} else "undecided"

    @property
    def reason(self) -> str:
        """The reasons of the parts that decided the verdict."""
        if not self.parts:
            return self.note
        deciding = [part.reason for part in self.parts if part.verdict == self.verdict]
        return "; ".join(dict.fromkeys(deciding))

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("id", "title", "text", "where", "verdict", "reason")}
        return {**fields, "note": self.note, "parts": [part.to_dict() for part in self.parts]}


def above(measured: str, values: Mapping[int, float], threshold: float, missing: str = "") -> Evidence:
    """Holds where the 95 % interval over seeds lies above `threshold`.

    Args:
        measured: what the values are, with their unit.
        values: seed → number.
        threshold: in the unit of the values.
        missing: which runs are missing, in words; leaves the verdict open.

    Example:
        >>> above("train accuracy", {0: 0.47, 1: 0.48, 2: 0.49}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies above {threshold:g}"
    return judge(measured, rule, values, missing, lambda low, high: order(threshold, low, high))


def below(measured: str, values: Mapping[int, float], threshold: float, missing: str = "") -> Evidence:
    """Holds where the 95 % interval over seeds lies below `threshold`; arguments as of `above`.

    Example:
        >>> below("train accuracy", {0: 0.01, 1: 0.011, 2: 0.01}, 0.02).verdict
        'holds'
    """
    rule = f"the 95 % interval over seeds lies below {threshold:g}"
    return judge(measured, rule, values, missing, lambda low, high: order(-threshold, -high, -low))


def equivalent(measured: str, differences: Mapping[int, float], margin: float, missing: str = "") -> Evidence:
    """Holds where the 95 % interval of the differences lies within ± `margin`, fails where it lies outside.

    Args:
        measured: what the differences are, with their unit.
        differences: seed → paired difference.
        margin: the largest difference that counts as none.
        missing: which runs are missing, in words; leaves the verdict open.

    Example:
        >>> equivalent("difference", {0: 0.001, 1: -0.002, 2: 0.0}, 0.02).verdict
        'holds'
    """

    def verdict(low: float, high: float) -> Verdict:
        if -margin <= low and high <= margin:
            return "holds"
        return "does not hold" if low > margin or high < -margin else "undecided"

    rule = f"the 95 % interval over seeds lies within ± {margin:g}"
    return judge(measured, rule, differences, missing, verdict)


def within(
    measured: str, values: Mapping[int, Sequence[float]], low: float, high: float, missing: str = ""
) -> Evidence:
    """Holds where every value of every seed is in [low, high], fails where no seed is wholly inside.

    Args:
        measured: what the values are, with their unit.
        values: seed → its values; the extremes are kept.
        low, high: the range, ends included; `-inf` leaves the low end open.
        missing: which runs are missing, in words; leaves the verdict open.

    Example:
        >>> within("gradient", {0: [1e-3, 0.02], 1: [2e-4, 0.05]}, 1e-4, 1e-1).verdict
        'holds'
    """
    inside = [bool(v) and all(low <= x <= high for x in v) for v in values.values()]
    where = f"at most {high:g}" if math.isinf(low) else f"in [{low:g}, {high:g}]"
    rule = f"every seed's values are {where}"
    numbers = tuple((seed, extremes(v)) for seed, v in sorted(values.items()))
    reason = refusal(len(values), missing)
    if reason:
        return Evidence(measured, rule, numbers, None, "undecided", reason)
    verdict: Verdict = "holds" if all(inside) else "undecided" if any(inside) else "does not hold"
    return Evidence(measured, rule, numbers, None, verdict, f"{sum(inside)} of {len(inside)} seeds {where}")


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """first − second, paired by the seeds both have.

    Example:
        >>> differences({0: 3.0, 1: 5.0}, {1: 1.0})
        {1: 4.0}
    """
    return {seed: first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())}


def judge(
    measured: str,
    rule: str,
    values: Mapping[int, float],
    missing: str,
    verdict: Callable[[float, float], Verdict],
) -> Evidence:
    """Apply `verdict` to the interval of the values, unless there is reason to refuse."""
    numbers = tuple((seed, (value,)) for seed, value in sorted(values.items()))
    found = interval(list(values.values())) if values else None
    reason = refusal(len(values), missing)
    if reason or found is None or found.low is None or found.high is None:
        return Evidence(measured, rule, numbers, found, "undecided", reason)
    return Evidence(measured, rule, numbers, found, verdict(found.low, found.high), str(found))


def refusal(n: int, missing: str) -> str:
    """Why nothing can be decided, or an empty string."""
    if missing:
        return missing
    return "no runs" if n == 0 else ONE_SEED if n == 1 else ""


def unsettled(claims: Iterable[Claim]) -> str:
    """Why these claims are open, in a few words for an answer."""
    if any(ONE_SEED in claim.reason for claim in claims):
        return "one seed per run claims nothing"
    return "runs are missing, or the seeds are too few or disagree"


def order(threshold: float, low: float, high: float) -> Verdict:
    """Where [low, high] lies: above the threshold, not above it, or across."""
    return "holds" if low > threshold else "does not hold" if high <= threshold else "undecided"


def extremes(values: Sequence[float]) -> tuple[float, ...]:
    """Lowest and highest, once if equal; NaN, which has no order, is shown instead of them."""
    if any(math.isnan(v) for v in values):
        return (math.nan,)
    return tuple(dict.fromkeys((min(values), max(values)))) if values else ()


def plain(value: float) -> float | str:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)
