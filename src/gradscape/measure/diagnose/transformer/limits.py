"""Limits of the rules on transformers, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradscape.config.fields import settle
from gradscape.records.diagnosis import Symptom
from gradscape.records.encoding import Values


@dataclass(frozen=True)
class TransformerLimits:
    """Limits beyond which a number of a transformer speaks for a verdict.

    Attributes:
        readings: Number of the last readings, whose median counts.
        fewest: Number of readings below which nothing is said.
        entropy: Entropy of attention over that of equal weights, of the head of a layer that has most of it.
        logit: Largest attention logit of a layer.
        copied: Correlation of the logits of two heads.
        keys: Number of keys below which all heads may be alike.
        dead: Size of a head's output over that of the layer's largest.
        grown: Size of the residual stream over that of the embedding.
        added: Share of the stream that blocks have added,
        begun: and steps before which they may add nothing, as blocks that begin at 0 do.
        log_z: Size of log Z of the output logits.
        gain: Factor by which gains change.
        balance: Entropy of a router's load, from 0 of as few experts as can be to 1 of all alike.
        idle: Share of a router's experts that get no token,
        expected: where so many each would be even.
    """

    readings: int = 10
    fewest: int = 3
    entropy: float = 0.01
    logit: float = 1e3
    copied: float = 0.999
    keys: int = 4
    dead: float = 1e-3
    grown: float = 1e3
    added: float = 1e-3
    begun: int = 100
    log_z: float = 100.0
    gain: float = 100.0
    balance: float = 0.25
    idle: float = 0.1
    expected: float = 20.0

    def __post_init__(self) -> None:
        settle(self, "limits.")


SOURCES = {
    "entropy": "Zhai et al. (2023): training is unstable where entropy comes near 0; a hundredth of all",
    "logit": "a tenth of the 10,000 above which models diverge (Wortsman et al. 2023; Dehghani et al. 2023)",
    "copied": "Cordonnier et al. (2020): heads that look at the same; a thousandth is left to tell apart",
    "dead": "a quarter of bfloat16's rounding, in which the sum of heads loses it; see Michel et al. (2019)",
    "grown": "three orders of magnitude through depth; see Zhang et al. (2019), Fixup",
    "added": "Liu et al. (2020): what depends on residual branches is what a block can learn",
    "log_z": "z-loss keeps it near 0 (Chowdhery et al. 2022, §5); bfloat16 rounds to halves from 64 on",
    "gain": "gains begin at 1 (Ba et al. 2016); two orders of magnitude",
    "balance": "a quarter; routers favor what they favored (Shazeer et al. 2017; Fedus et al. 2021, §2.2)",
    "idle": "a tenth of the experts learn nothing; balanced ones all learn (Fedus et al. 2021, §2.2)",
}


def median_of_last(values: Values, limits: TransformerLimits) -> Values:
    """Return the median of the last readings; NaN where there is none.

    Args:
        values: (T, …) Numbers of each reading.
        limits: Limits of the rules.
    """
    last = values[-limits.readings :]
    known = np.isfinite(last).any(axis=0)
    found: Values = np.where(known, np.nanmedian(np.where(known, last, 0.0), axis=0), np.nan)
    return found


def evidence(name: str, what: str, value: float, below: bool = False) -> Symptom:
    """Return a value beside its limit.

    Args:
        name: Name of the limit.
        what: Quantity in words.
        value: Value.
        below: Whether values below the limit speak for the verdict.
    """
    return Symptom(what, float(value), float(getattr(TransformerLimits(), name)), SOURCES[name], below)
