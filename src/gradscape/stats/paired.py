"""Two configurations compared seed by seed, with corrections for several looks and several comparisons.

Paired: both have run from the same seeds, so the effect that a seed has on both (its initial weights, its
order of images) drops out of the differences.
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

PairedVerdict = Literal["higher", "lower", "undecided"]
ERROR = 1 - LEVEL  # probability of a wrong decision where there is no difference, over all looks together


@dataclass(frozen=True)
class Difference(Record):
    """Paired differences, second − first, over the seeds that both have.

    Attributes:
        n: Number of those seeds.
        mean: Mean difference, in the unit of the values; None without a seed.
        low, high: Ends of the interval at `level`; None where the differences have no spread.
        level: Level of the interval and of the verdict, 0 to 1.
        effect: Cohen's d_z = mean / standard deviation of the differences (Cohen 1988, §2.3.5), without
            Hedges' correction, which is 0 at n = 2; None without spread.
        p: Two-sided probability of differences this far from 0 if there is no difference; None below n = 2.
        verdict: `higher`, `lower` or `undecided`: the second compared with the first.
        reason: Reason of the verdict, in a few words.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    level: float
    effect: float | None
    p: float | None
    verdict: PairedVerdict
    reason: str

    def __str__(self) -> str:
        if self.mean is None:
            return f"{self.verdict}: {self.reason}"
        between = "" if self.low is None else f" ({percent(self.level)} {self.low:+.3g} … {self.high:+.3g})"
        effect = "" if self.effect is None else f", d_z = {self.effect:.2g}"
        return f"{self.verdict}: {self.mean:+.3g}{between}, n = {self.n}{effect}: {self.reason}"


def compare(
    first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL, alike: float = 0.0
) -> Difference:
    """Decide whether the second is higher, by Student's t on paired differences (Student 1908).

    Where all differences are equal and not 0, t would divide by a spread of 0 and be sure of anything. A
    spread of 0 does not prove that there is no noise: accuracies are whole numbers of images, and two of
    three seeds often agree by chance. There the sign test decides, which needs only their signs: n equal
    signs have p = 2^(1 − n) (Dixon & Mood 1946), and 95 % takes six of them.

    Args:
        first, second: Finite number per seed, both in one unit.
        level: 1 − the probability to see a difference where there is none, between 0 and 1.
        alike: Standard deviation to take where all differences are equal, in the unit of the values; 0 for
            the sign test.

    Returns:
        The paired differences and the verdict on the second.

    Raises:
        GradscapeError: `level` is not between 0 and 1.

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
        spread = alike
    if not spread:
        p, why = _like_signs(mean if abs(mean) > ROUNDING * size else 0.0, n)
        return Difference(n, mean, None, None, level, None, p, _order(mean, p, level), why)
    p = mass_beyond(math.sqrt(n) * abs(mean) / spread, n - 1)
    ends = interval(values, level, alike)
    return Difference(
        n, mean, ends.low, ends.high, level, mean / spread, p, _order(mean, p, level), f"p = {p:.2g}"
    )


def _order(mean: float, p: float, level: float) -> PairedVerdict:
    return "undecided" if p >= 1 - level else "higher" if mean > 0 else "lower"


def _like_signs(mean: float, n: int) -> tuple[float, str]:
    """Return the sign test's p of n equal differences, and the reason in words."""
    if not mean:
        return 1.0, f"all {n} differences are 0"
    p = 2.0 ** (1 - n)
    return p, f"all {n} differences are equal: by their signs p = {p:.2g}"


def holm(ps: Sequence[float]) -> list[float]:
    """Return the adjusted p-values of m comparisons (Holm 1979).

    With a chance of 5 % at most, any of those below 0.05 is wrong. The k-th smallest p is multiplied by
    m − k + 1, and is never less than one before it.

    Args:
        ps: p-values, 0 to 1, in any order; 1 for a comparison that could not be made.

    Returns:
        Adjusted p-values, in the order of `ps`.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, most = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = most
    return adjusted


def look_level(looks: int) -> float:
    """Return the level of each look when a comparison is looked at several times while seeds are added.

    Bonferroni: 1 − 0.05 / looks, which keeps the chance to ever see a difference where there is none at 5 %
    or less, whenever one stops.

    Args:
        looks: Number of looks at most, planned before the first.

    Raises:
        ConfigError: `looks` is below 1.

    Example:
        >>> round(look_level(5), 4)
        0.99
    """
    if looks < 1:
        raise ConfigError(f"looks: expected 1 or more; got {looks!r}")
    return 1 - ERROR / looks


def planned_looks(fewest: int, most: int) -> int:
    """Return the number of looks when each number of seeds from `fewest` to `most` is followed by one.

    Args:
        fewest: Number of seeds at the first look, 2 or more.
        most: Number of seeds at the last look.

    Raises:
        ConfigError: `fewest` is below 2, or `most` below `fewest`.

    Example:
        >>> planned_looks(2, 6)
        5
    """
    if fewest < 2:
        raise ConfigError(f"fewest seeds: expected 2 or more (one decides nothing); got {fewest!r}")
    if most < fewest:
        raise ConfigError(f"most seeds: expected {fewest}, the fewest, or more; got {most!r}")
    return most - fewest + 1
