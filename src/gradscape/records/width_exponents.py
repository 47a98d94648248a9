"""Exponents with which a layer's coordinates grow with width, their intervals over seeds, and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradscape._codec import Record
from gradscape.records.encoding import Values
from gradscape.stats.student_t import Interval, interval

# Theory's exponents are multiples of ½ (Yang & Hu 2021, Everett et al. 2024): ¼ is half way to the next.
MARGIN = 0.25

LayerVerdict = Literal["flat", "grows", "shrinks", "undecided", "still"]
Range = tuple[float, float]


@dataclass(frozen=True)
class LayerExponents(Record):
    """Exponents a of one layer, each of a mean |·| that goes as widthᵃ, and what follows from them.

    Attributes:
        layer: Name of the layer.
        initial: Exponent of the output x₀ before the first step; None where it cannot be fitted, as for 0.
        change: Exponent of xₜ − x₀.
        effective: Exponent of f(Wₜ, xₜ) − f(W₀, xₜ), what the layer's own update does to its output.
        verdict: `flat`; `grows` or `shrinks` with width; `undecided`; or `still` if nothing changes.
        reason: Quantity that the verdict rests on, in words; empty for one that rests on all.
    """

    layer: str
    initial: Interval | None
    change: Interval | None
    effective: Interval | None
    verdict: LayerVerdict
    reason: str

    @property
    def exponent(self) -> Interval | None:
        """Exponent that the verdict rests on; if it rests on all, of the effective update or change."""
        named = {words: getattr(self, name) for name, words in QUANTITIES.items()}
        return named.get(self.reason) or self.effective or self.change


QUANTITIES = {"initial": "initial output", "effective": "effective update", "change": "change of its output"}


def fitted(widths: Values, sizes: Values) -> Interval | None:
    """Return the interval of the slope of log size over log width, of one slope for each seed.

    Slopes are of least squares, the interval is Student's.

    Args:
        widths: (W,) Widths.
        sizes: (S, W) Sizes; None is returned if one is 0 or not finite.
    """
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        return None
    x = np.log(widths) - np.log(widths).mean()
    slopes = np.log(sizes) @ x / (x @ x)
    return interval(slopes.tolist())


def ends(exponent: Interval) -> Range:
    """Return the ends of an interval, both its mean where all seeds are equal.

    Args:
        exponent: Interval over seeds.
    """
    if exponent.low is None or exponent.high is None:
        return exponent.mean, exponent.mean
    return exponent.low, exponent.high


def in_words(exponent: Interval | None) -> str:
    """Return an exponent and its interval, such as `0.98 (0.91 … 1.05)`.

    Args:
        exponent: Interval over seeds.
    """
    if exponent is None:
        return "–"
    mean, (low, high) = _rounded(exponent.mean), map(_rounded, ends(exponent))
    return mean if low == high else f"{mean} ({low} … {high})"


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no −0.00


def nearest(exponent: Interval | None) -> str:
    """Return the multiple of ½ whose neighborhood of ¼ holds the whole interval; empty if none does.

    Args:
        exponent: Interval over seeds.
    """
    if exponent is None:
        return ""
    halves = round(2 * exponent.mean)
    low, high = ends(exponent)
    if not halves / 2 - MARGIN < low <= high < halves / 2 + MARGIN:
        return ""
    whole, half = divmod(abs(halves), 2)
    return ("−" if halves < 0 else "") + (f"{whole or ''}½" if half else str(whole))


def judged(
    layer: str, initial: Interval | None, change: Interval | None, effective: Interval | None, *,
    moves: bool, last: bool,
) -> LayerExponents:  # fmt: skip
    """Return a layer's exponents with their verdict.

    It grows if an interval lies above ¼, shrinks if one lies below −¼, is flat if all lie between, otherwise
    undecided. The network's output may shrink at the start: muP's does, by ½ (Yang et al. 2022, §D.2).

    Args:
        layer: Name of the layer.
        initial, change, effective: Its exponents.
        moves: False if neither its output nor its own part of it changes at any width.
        last: True for the network's output.
    """
    exponents = {"initial": initial, "effective": effective, "change": change}
    ranges = {name: ends(each) for name, each in exponents.items() if each is not None}

    def told(verdict: LayerVerdict, reason: str = "") -> LayerExponents:
        return LayerExponents(layer, initial, change, effective, verdict, QUANTITIES.get(reason, ""))

    for name, (low, _) in ranges.items():
        if low > MARGIN:
            return told("grows", name)
    for name, (_, high) in ranges.items():
        if high < -MARGIN and not (last and name == "initial"):
            return told("shrinks", name)
    if not moves:
        return told("still")
    bounded = {name: each for name, each in ranges.items() if not (last and name == "initial")}
    for name, (low, high) in bounded.items():
        if not -MARGIN < low <= high < MARGIN:
            return told("undecided", name)
    return told("flat" if {"change", "effective"} & set(ranges) else "undecided")
