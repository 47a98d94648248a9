"""Limits of the rules on transformers, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

from gradscape.config.fields import settle
from gradscape.records.diagnosis import Symptom


@dataclass(frozen=True)
class TransformerLimits:
    """Limits beyond which a number of a transformer speaks for a verdict.

    Attributes:
        readings: Number of the last readings, whose median counts,
        fewest: and below which nothing is said.
        entropy: Entropy of attention over that of equal weights, of the head of a layer that has most of it.
        logit: Largest attention logit of a layer.
        copied: Correlation of the logits of two heads.
        keys: Number of keys below which all heads may be alike.
        dead: Size of a head's output over that of the layer's largest.
    """

    readings: int = 10
    fewest: int = 3
    entropy: float = 0.01
    logit: float = 1e3
    copied: float = 0.999
    keys: int = 4
    dead: float = 1e-3

    def __post_init__(self) -> None:
        settle(self, "limits.")


SOURCES = {
    "entropy": "Zhai et al. (2023), §3: training is unstable where entropy comes near 0; a hundredth of all",
    "logit": "a tenth of the 10,000 above which models diverge (Wortsman et al. 2023; Dehghani et al. 2023)",
    "copied": "Cordonnier et al. (2020), §3: heads that look at the same; a thousandth is left to tell apart",
    "dead": "a quarter of bfloat16's rounding, in which the sum of heads loses it; see Michel et al. (2019)",
}


def evidence(name: str, what: str, value: float, below: bool = False) -> Symptom:
    """Return a value beside its limit.

    Args:
        name: Name of the limit.
        what: Quantity in words.
        value: Value.
        below: Whether values below the limit speak for the verdict.
    """
    return Symptom(what, float(value), float(getattr(TransformerLimits(), name)), SOURCES[name], below)
