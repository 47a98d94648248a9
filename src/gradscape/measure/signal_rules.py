"""From the signal through a network to what is wrong with it: dead, saturated, nothing of the input left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradscape.diagnosis import Evidence, Finding
from gradscape.signal import SignalRecord, over_seeds


@dataclass(frozen=True)
class SignalLimits:
    """Beyond what a number speaks for a verdict.

    Attributes:
        dead: share of a layer's units that no sample activates.
        saturated: share of values at which the activation is flat.
        alike: 1 − correlation of two samples, below which nothing tells them apart.
    """

    dead: float = 0.9
    saturated: float = 0.5
    alike: float = 1e-4


SOURCES = {
    "dead": "a tenth of the units is left to learn with",
    "saturated": "half of the values pass less than 1 % of the gradient (Glorot & Bengio 2010, §3)",
    "alike": "Schoenholz et al. (2017), §3: inputs that become the same cannot be told apart",
}


def signal_findings(signal: SignalRecord, limits: SignalLimits | None = None) -> list[Finding]:
    """What the signal says is wrong, the gravest first."""
    chosen = limits or SignalLimits()
    return [
        *non_finite(signal),
        *flat(signal, "dead", "dead units", chosen.dead),
        *flat(signal, "saturated", "saturated", chosen.saturated),
        *alike(signal, chosen.alike),
    ]


def non_finite(signal: SignalRecord) -> list[Finding]:
    if not signal.origin:
        return []
    share = float(signal.nonfinite.any(axis=0).mean())
    return [
        Finding(
            verdict="non-finite",
            layer=signal.origin.split()[0],
            cause=f"the first infinite value or NaN of the forward pass: {signal.origin}",
            remedy="check the batch for NaN; smaller initial weights, a norm, a guarded division or root",
            evidence=(Evidence("share of layers with a non-finite output", share, 0.0, "IEEE 754"),),
        )
    ]


CURES = {
    "dead": "a leaky activation, He initialisation, biases of 0 or above, a norm before the activation",
    "saturated": "ReLU in place of sigmoid or tanh, smaller initial weights, a norm before the activation",
}


def flat(signal: SignalRecord, field: str, verdict: str, limit: float) -> list[Finding]:
    """Units that pass no gradient: dead ReLUs, saturated sigmoids."""
    share = over_seeds(getattr(signal, field))
    beyond = np.flatnonzero(share > limit)
    if not len(beyond):
        return []
    first = int(beyond[0])
    return [
        Finding(
            verdict=verdict,
            layer=signal.layers[first],
            cause=f"{share[first]:.0%} of it passes no gradient, nor do {len(beyond) - 1} layers after it",
            remedy=CURES[field],
            evidence=(
                Evidence(
                    f"share of {signal.layers[first]} that is {field}",
                    float(share[first]),
                    limit,
                    SOURCES[field],
                ),
            ),
        )
    ]


def alike(signal: SignalRecord, limit: float) -> list[Finding]:
    """Two samples whose outputs have become the same: what comes out does not depend on what went in."""
    between = 1 - over_seeds(signal.correlation)
    if signal.samples < 2 or not len(between) or not between[-1] < limit:
        return []
    far = np.flatnonzero(~(between < limit))
    first = int(far[-1]) + 1 if len(far) else 0
    return [
        Finding(
            verdict="no signal from the input",
            layer=signal.layers[first],
            cause="from here on two samples of the batch give the same: biases, or what all samples share, "
            "have drowned the input",
            remedy="a norm after each layer, skip connections, He initialisation, biases of 0",
            evidence=(
                Evidence(
                    "1 − correlation of two samples at the output",
                    float(between[-1]),
                    limit,
                    SOURCES["alike"],
                ),
            ),
        )
    ]
