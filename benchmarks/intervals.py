"""How often intervals cover, and claims and looks are wrong, by simulation: `python benchmarks/intervals.py`.

What docs/statistics.md says of them, in a minute. Decisions are computed for all samples at once, and held
against gradscape's own on the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gradscape.analysis.claims import Claim, above
from gradscape.stats.paired import ERROR, look_level, planned_looks
from gradscape.stats.student_t import interval, student_t
from measure import write

Array = NDArray[Any]
COVERED, DECIDED = 40_000, 20_000  # samples of intervals, and of claims and looks
CHECKED = 50  # of which gradscape's own functions are asked too
TRUE, CLEAR = 2.0, 3.0  # standard deviations of what is true, and of what nobody doubts
PLANS = ((1, 3), (4, 3), (1, 5), (4, 5), (14, 5), (4, 8), (14, 8))  # parts of a claim, seeds
LOOKS = ((2, 2), (2, 6), (3, 10), (2, 20))  # the fewest seeds and the most

Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


def guessing(share: float) -> tuple[Draw, float]:
    """Accuracies of seeds of which a share ends at guessing, 0.1, the others near 0.6; and their mean."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        noise = rng.normal(size=shape)
        return np.where(rng.random(shape) < share, 0.1 + 0.01 * noise, 0.6 + 0.05 * noise)

    return draw, 0.1 * share + 0.6 * (1 - share)


KINDS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "30 % of the seeds at guessing, the others at 0.6": guessing(0.3),
    "10 % of the seeds at guessing": guessing(0.1),
    "log-normal (σ = 1), as gradients are": (
        lambda rng, shape: np.exp(rng.normal(size=shape)),
        math.exp(0.5),
    ),
    "accuracy of 97 % on 75 images": (lambda rng, shape: rng.binomial(75, 0.97, shape) / 75, 0.97),
}


def coverage(kind: str, n: int) -> float:
    """The share of samples whose interval holds the true mean; equal values have no interval."""
    draw, mean = KINDS[kind]
    values = draw(np.random.default_rng(0), (COVERED, n))
    half = student_t(n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n)
    covered = (np.abs(values.mean(axis=1) - mean) <= half) & (np.ptp(values, axis=1) > 0)
    for sample, found in zip(values[:CHECKED], covered, strict=False):
        own = interval(sample.tolist())
        assert found == (own.low is not None and own.high is not None and own.low <= mean <= own.high)
    return float(covered.mean())


def told(parts: int, n: int, means: float | list[float]) -> dict[str, float]:
    """Verdict → the share of claims of independent parts, each above 0 if it is true, that are told so."""
    rng = np.random.default_rng([parts, n])
    values = rng.normal(size=(DECIDED, parts, n)) + np.broadcast_to(means, parts)[None, :, None]
    t = math.sqrt(n) * values.mean(axis=2) / values.std(axis=2, ddof=1)
    p = 2 * stats.t.sf(np.abs(t), n - 1)
    holds = ((t > 0) & (p < ERROR)).all(axis=1)
    # Holm refutes something exactly where the smallest p stands Bonferroni's correction.
    refuted = parts * np.where((t < 0) & (p < ERROR), p, 1.0).min(axis=1) <= ERROR
    for sample, held, broken in zip(values[:CHECKED], holds, refuted, strict=False):
        own = Claim("", "", "", "", tuple(above("", dict(enumerate(part.tolist())), 0.0) for part in sample))
        assert own.verdict == ("does not hold" if broken else "holds" if held else "undecided")
    return {"holds": float(holds.mean()), "does not hold": float(refuted.mean())}


def claims(parts: int, n: int) -> dict[str, float]:
    nothing, one = told(parts, n, 0.0), told(parts, n, [0.0] + [CLEAR] * (parts - 1))
    return {
        "parts": parts,
        "n": n,
        "wrong, all null": nothing["holds"] + nothing["does not hold"],
        "wrong, one null": one["holds"] + one["does not hold"],
        "holds": told(parts, n, TRUE)["holds"],
        "does not hold": told(parts, n, [-TRUE] + [TRUE] * (parts - 1))["does not hold"],
    }


def decided(values: Array, fewest: int) -> float:
    """The share of samples (DECIDED, most) of which any look at the first n ≥ fewest differences decides."""
    most = values.shape[1]
    level, found = look_level(planned_looks(fewest, most)), np.zeros(len(values), dtype=np.bool_)
    for n in range(fewest, most + 1):
        seen = values[:, :n]
        t = math.sqrt(n) * np.abs(seen.mean(axis=1)) / seen.std(axis=1, ddof=1)
        found |= t > student_t(n - 1, level)
    return float(found.mean())


def looks(fewest: int, most: int) -> dict[str, float]:
    rng = np.random.default_rng(7)
    return {
        "fewest": fewest,
        "most": most,
        "level": look_level(planned_looks(fewest, most)),
        "wrong": decided(rng.normal(size=(DECIDED, most)), fewest),
        "wrong, skewed": decided(rng.exponential(size=(DECIDED, most)) - 1, fewest),
    }


def power(shift: float, fewest: int, most: int) -> float:
    """How often looks find a difference of so many standard deviations."""
    return decided(np.random.default_rng(7).normal(shift, 1, (DECIDED, most)), fewest)


def main() -> None:
    write(
        "intervals",
        {
            "samples": {"coverage": COVERED, "claims": DECIDED, "looks": DECIDED},
            "coverage": {kind: {str(n): coverage(kind, n) for n in (2, 3, 5)} for kind in KINDS},
            "claims": [claims(parts, n) for parts, n in PLANS],
            "looks": [looks(fewest, most) for fewest, most in LOOKS],
            "power": {
                "two deviations, looks at 2 to 10": power(2.0, 2, 10),
                "three deviations, looks at 2 to 10": power(3.0, 2, 10),
                "one deviation, looks at 3 to 8": power(1.0, 3, 8),
                "one deviation, one look at 8": power(1.0, 8, 8),
            },
        },
    )


if __name__ == "__main__":
    main()
