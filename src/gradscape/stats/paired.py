"""Two configurations compared seed by seed; how often one may look, and how much one may compare at once.

Paired: both have run from the same seeds, so what a seed does to both (its initial weights, its order of
images) drops out of the differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from gradscape._codec import Record
from gradscape.errors import ConfigError
from gradscape.stats.student_t import LEVEL, ROUNDING, interval, mass_beyond, percent

Order = Literal["higher", "lower", "undecided"]
ERROR = 1 - LEVEL  # probability of a wrong decision where there is no difference, over all looks together


@dataclass(frozen=True)
class Difference(Record):
    """Paired differences, second − first, over the seeds that both have.

    Attributes:
        n: number of those seeds.
        mean: mean difference, in the unit of the values; None without a seed.
        low, high: ends of the interval at `level`; None where there is no spread to make one from.
        level: of the interval and of the verdict, 0 to 1.
        effect: Cohen's d_z = mean / standard deviation of the differences (Cohen 1988, §2.3.5), without
            Hedges' correction, which is 0 at n = 2; None without spread.
        p: two-sided probability of differences this far from 0 if there is no difference; None below n = 2.
        verdict: of the second: `higher`, `lower` or `undecided`.
        reason: why, in a few words.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    level: float
    effect: float | None
    p: float | None
    verdict: Order
    reason: str

    def __str__(self) -> str:
        if self.mean is None:
            return f"{self.verdict}: {self.reason}"
        between = "" if self.low is None else f" ({percent(self.level)} {self.low:+.3g} … {self.high:+.3g})"
        effect = "" if self.effect is None else f", d_z = {self.effect:.2g}"
        return f"{self.verdict}: {self.mean:+.3g}{between}, n = {self.n}{effect}: {self.reason}"


def compare(first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL) -> Difference:
    """Whether the second is higher than the first, by Student's t on paired differences (Student 1908).

    Where all differences are equal and not 0, t would divide by a spread of 0 and be sure of anything.
    No spread is no proof of no noise: accuracies are whole numbers of images, and two of three seeds often
    agree by chance. So there the sign test decides, which asks for nothing but their signs: n like signs have
    p = 2^(1 − n) (Dixon & Mood 1946), and 95 % takes six of them.

    Args:
        first, second: seed → finite number, in one unit.
        level: 1 − the probability to see a difference where there is none, between 0 and 1.

    Raises:
        GradscapeError: a level that is none.

    Example:
        >>> print(compare({0: 0.40, 1: 0.42, 2: 0.41}, {0: 0.45, 1: 0.48, 2: 0.46}))
        higher: +0.0533 (95 % +0.039 … +0.0677), n = 3, d_z = 9.2: p = 0.0039
    """
    values = [second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())]
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Difference(n, None, None, None, level, None, None, "undecided", "a value is not finite")
    mean = math.fsum(values) / n if n else None
    if n < 2 or mean is None:
        return Difference(n, mean, None, None, level, None, None, "undecided", "n is too small")
    size = max(abs(value) for each in (first, second) for value in each.values())
    spread = stdev(values)
    if spread <= ROUNDING * size:
        p, why = _like_signs(mean if abs(mean) > ROUNDING * size else 0.0, n)
        return Difference(n, mean, None, None, level, None, p, _order(mean, p, level), why)
    p = mass_beyond(math.sqrt(n) * abs(mean) / spread, n - 1)
    found = interval(values, level)
    return Difference(
        n, mean, found.low, found.high, level, mean / spread, p, _order(mean, p, level), f"p = {p:.2g}"
    )


def _order(mean: float, p: float, level: float) -> Order:
    return "undecided" if p >= 1 - level else "higher" if mean > 0 else "lower"


def _like_signs(mean: float, n: int) -> tuple[float, str]:
    """The sign test's p of n equal differences, and what to say of it."""
    if not mean:
        return 1.0, f"all {n} differences are 0"
    p = 2.0 ** (1 - n)
    return p, f"all {n} differences are equal: by their signs p = {p:.2g}"


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values of m comparisons: those below 0.05 hold together but for a chance of 5 % (Holm 1979).

    The k-th smallest p times m − k + 1, and never less than one before it.

    Args:
        ps: p-values, 0 to 1, in any order; 1 for a comparison that could not be made.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, most = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = most
    return adjusted


def look_level(looks: int) -> float:
    """The level of each look when a comparison is looked at several times while seeds are added.

    Bonferroni: 1 − 0.05 / looks, so that the chance to ever see a difference where there is none is 5 % at
    most, whenever one stops.

    Args:
        looks: how many there are at most, planned before the first.

    Raises:
        ConfigError: fewer than one.

    Example:
        >>> round(look_level(5), 4)
        0.99
    """
    if looks < 1:
        raise ConfigError(f"looks: {looks!r} is not possible; give 1 or more")
    return 1 - ERROR / looks


def planned_looks(fewest: int, most: int) -> int:
    """How many looks there are when each seed from `fewest` to `most` is followed by one.

    Raises:
        ConfigError: a first look below two seeds, or a last one before the first.

    Example:
        >>> planned_looks(2, 6)
        5
    """
    if fewest < 2:
        raise ConfigError(f"fewest seeds: {fewest!r} is not possible; give 2 or more: one decides nothing")
    if most < fewest:
        raise ConfigError(f"most seeds: {most!r} is not possible; give {fewest} or more, the fewest")
    return most - fewest + 1
