"""From what a watch has seen to a verdict: what is wrong, where it begins, why, and what would help.

Every rule looks at the last rows of a `FlowHistory`, and each is a function of its own. Limits are arguments,
with the source of their defaults beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscape.diagnosis import Evidence
from gradscape.history import FlowHistory, Values


@dataclass(frozen=True)
class Limits:
    """Beyond what a number speaks for a verdict.

    Attributes:
        rows: the last so many are looked at.
        vanishing: ‖∂L/∂W‖ of the last weight layer over that of the first.
        exploding: the same the other way round.
        reach: RMS of ∂L/∂W over itself plus Adam's ε: the share of its normal step that a layer makes.
        resolution: ‖ΔW‖/‖W‖ below which float32 rounds a step away.
        large, small: ‖ΔW‖/‖W‖ of a step.
        noise: mean cosine between gradients of successive rows.
    """

    rows: int = 20
    vanishing: float = 1e3
    exploding: float = 1e3
    reach: float = 0.5
    resolution: float = 2.0**-24
    large: float = 0.3
    small: float = 1e-5
    noise: float = 0.0


SOURCES = {
    "vanishing": "three orders of magnitude between layers that share a learning rate",
    "exploding": "three orders of magnitude between layers that share a learning rate",
    "reach": "Kingma & Ba (2015), Algorithm 1: a step is lr · m / (√v + ε)",
    "resolution": "half a unit in the last place of float32",
    "large": "a step of a third of the weights; healthy ones are near 1/1000 (Karpathy 2015, CS231n)",
    "small": "a hundredth of the healthy 1/1000 (Karpathy 2015, CS231n)",
}


@dataclass(frozen=True)
class View:
    """The typical values of the last rows: medians over steps that were made, (P,)."""

    history: FlowHistory
    limits: Limits
    rows: NDArray[np.intp]

    @classmethod
    def of(cls, history: FlowHistory, limits: Limits) -> View:
        made = np.flatnonzero(~history.skipped)
        return cls(history, limits, made[-limits.rows :])

    def typical(self, values: Values) -> Values:
        chosen = values[self.rows]
        found = np.full(chosen.shape[1], np.nan)
        some = ~np.isnan(chosen).all(axis=0)
        found[some] = np.nanmedian(chosen[:, some], axis=0)
        return found

    @property
    def norm(self) -> Values:
        """‖∂L/∂W‖₂ of each parameter tensor."""
        return self.typical(self.history.rms * np.sqrt(np.array(self.history.sizes)))

    def evidence(self, name: str, what: str, value: float) -> Evidence:
        return Evidence(what, float(value), getattr(self.limits, name), SOURCES[name])

    def layer(self, place: int) -> str:
        return self.history.layers[place]
