"""Numbers of a claim's part on a line: a point for each seed, their interval, and what it is held against."""

from __future__ import annotations

import math
from typing import Any

from gradscape._text import apart
from gradscape.analysis.claims import Evidence

EDGE = 4.0  # per cent of the line that are left free at either end


def forest(part: Evidence) -> dict[str, Any] | None:
    """Return where a part's numbers lie on a line, in per cent of its width; None without finite numbers.

    Args:
        part: Part of a claim.

    Returns:
        `points`, place and text of each seed; `bar`, places of the interval's ends, or None; `marks`, places
        of the rule's limits; `low` and `high`, the line's ends in text; `text`, all of it in words.
    """
    numbers = [(seed, value) for seed, value in part.numbers if math.isfinite(value)]
    if not numbers:
        return None
    found = part.interval
    ends = () if found is None or found.low is None or found.high is None else (found.low, found.high)
    values = [
        value for value in (*(value for _, value in numbers), *ends, *part.limits) if math.isfinite(value)
    ]
    low, high = min(values), max(values)

    def place(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        return round(EDGE + (100 - 2 * EDGE) * share, 2)

    texts = [f"seed {seed}: {apart(value, part.limits)}" for seed, value in numbers]
    between = f"interval {' … '.join(apart(end, part.limits) for end in ends)}" if ends else ""
    limits = ", ".join(f"{limit:.3g}" for limit in part.limits)
    words = [*texts, between, f"limit {limits}" if limits else ""]
    return {
        "points": [
            {"at": place(value), "text": text} for (_, value), text in zip(numbers, texts, strict=True)
        ],
        "bar": [place(each) for each in ends] if ends else None,
        "marks": [place(limit) for limit in part.limits],
        "low": apart(low, part.limits),
        "high": apart(high, part.limits),
        "text": ", ".join(filter(None, words)),
    }
