"""Rules on the outputs of layers: dead, saturated, nothing of the input left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscape.config.fields import settle
from gradscape.measure.diagnose.advice import LOWER, options
from gradscape.records.activations import ActivationHistory
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.encoding import Values
from gradscape.records.signal import WEIGHT_KINDS, SignalRecord, over_seeds


@dataclass(frozen=True)
class SignalLimits:
    """Limits beyond which a number speaks for a verdict.

    Attributes:
        dead: Share of a layer's units that no sample activates.
        saturated: Share of values at which the activation is flat.
        alike: 1 − correlation of two samples, below which nothing tells them apart.
    """

    dead: float = 0.95
    saturated: float = 0.99
    alike: float = 1e-8

    def __post_init__(self) -> None:
        settle(self, "limits.")


TOLD_APART = 1e-3  # 1 − correlation of two samples
SOURCES = {
    "dead": "a twentieth of the units is left to learn with",
    "saturated": "a hundredth of the values passes a gradient; see Glorot & Bengio (2010), §3",
    "alike": "samples that differ by a ten-thousandth; see Schoenholz et al. (2017), §3",
}


@dataclass(frozen=True)
class _Outputs:
    """Statistics of every layer's output: means over seeds before a training, over its last rows within one.

    Attributes:
        layers: Names, in the order in which they run.
        kinds: Kinds of the layers.
        widths: Numbers in an output for each sample.
        dead, saturated: Shares of an output, or of a weight layer's inputs.
        correlation: Correlation of two samples.
        began: The same before the first step; NaN where that is not known.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    widths: tuple[int, ...]
    dead: Values
    saturated: Values
    correlation: Values
    began: Values

    @classmethod
    def of(cls, seen: SignalRecord | ActivationHistory, rows: NDArray[np.intp] | slice) -> _Outputs:
        """Return the means over these rows: seeds, or steps."""
        dead, saturated = over_seeds(seen.dead[rows]), over_seeds(seen.saturated[rows])
        first = isinstance(seen, ActivationHistory) and len(seen.steps) > 0 and seen.steps[0] == 0
        began = seen.correlation[0] if first else np.full(len(seen.layers), np.nan)
        correlation = over_seeds(seen.correlation[rows])
        return cls(seen.layers, seen.kinds, seen.widths, dead, saturated, correlation, began)


def signal_findings(
    signal: SignalRecord, limits: SignalLimits | None = None, norm: bool = False
) -> list[Finding]:
    """Return the faults that the signal before a training shows.

    Args:
        signal: Signal over seeds.
        limits: Limits of the rules.
        norm: Whether the network has normalization layers.
    """
    outputs = _Outputs.of(signal, slice(None))
    return [*_non_finite_signal(signal), *_output_findings(outputs, limits or SignalLimits(), norm)]


def activation_findings(
    seen: ActivationHistory, rows: NDArray[np.intp], limits: SignalLimits, norm: bool
) -> list[Finding]:
    """Return the faults that the outputs within a training show.

    Args:
        seen: Outputs that a watch has read.
        rows: Rows whose means are typical.
        limits: Limits of the rules.
        norm: Whether the network has normalization layers.
    """
    return [*_non_finite_activation(seen), *_output_findings(_Outputs.of(seen, rows), limits, norm)]


def _output_findings(seen: _Outputs, limits: SignalLimits, norm: bool) -> list[Finding]:
    return [
        *_flat(seen, "dead", "dead units", limits.dead, norm),
        *_flat(seen, "saturated", "saturated", limits.saturated, norm),
        *_alike(seen, limits.alike, norm),
    ]


def _non_finite_signal(signal: SignalRecord) -> list[Finding]:
    if not signal.origin:
        return []
    share = float(signal.nonfinite.any(axis=0).mean())
    return [
        Finding(
            verdict="non-finite",
            layer=signal.origin.split()[0].rstrip(","),
            cause=f"the first infinite value or NaN of the forward pass: {signal.origin}",
            remedy="check the batch for NaN; smaller initial weights; a guarded division or root",
            evidence=(Symptom("share of layers with a non-finite output", share, 0.0, "IEEE 754"),),
        )
    ]


def _non_finite_activation(seen: ActivationHistory) -> list[Finding]:
    if seen.origin is None:
        return []
    row, column = seen.origin
    before = seen.layers[column - 1] if column else ""
    return [
        Finding(
            verdict="non-finite",
            layer=seen.layers[column],
            cause=f"at step {seen.steps[row]} its output has the first infinite value or NaN"
            + (f": it made that, or what lies between {before} and it did" if before else ""),
            remedy="check the batch for NaN; a lower learning rate; a guarded division or root",
            evidence=(
                Symptom(
                    "layers with a non-finite output at that step",
                    float(seen.nonfinite[row].sum()),
                    0.0,
                    "IEEE 754",
                ),
            ),
        )
    ]


CURES = {
    "dead": ("a lower learning rate if they died in training", "inputs of mean 0 and variance 1",
             "a leaky activation", "biases of 0 or above"),
    "saturated": ("ReLU in place of sigmoid or tanh", "smaller initial weights"),
}  # fmt: skip


FROM_BEFORE = "what reaches it is 0 on every sample: the activation before it is dead"
SHARES = {
    "dead": "its units are active on no sample of the batch",
    "saturated": "its values are where it is flat, and pass no gradient",
}


def _flat(seen: _Outputs, field: str, verdict: str, limit: float, norm: bool) -> list[Finding]:
    """Units that pass no gradient: dead ReLUs, saturated sigmoids."""
    share = getattr(seen, field)
    beyond = np.flatnonzero(share > limit)
    if not len(beyond):
        return []
    first = int(beyond[0])
    name, more = seen.layers[first], len(beyond) - 1
    whose = FROM_BEFORE if seen.kinds[first] in WEIGHT_KINDS else SHARES[field]
    return [
        Finding(
            verdict=verdict,
            layer=name,
            cause=f"{100 * share[first]:.3g} % of {whose}"
            + (f"; so it is in {more} layers after it" if more else ""),
            remedy="; ".join((*CURES[field], *(() if norm else ("a norm before the activation",)))),
            evidence=(
                Symptom(f"share of {name} that is {field}", float(share[first]), limit, SOURCES[field]),
            ),
        )
    ]


def _drowned_since(layer: str, began: float, now: float, limit: float) -> Finding:
    """Report that steps have made the same of samples that the network told apart before them."""
    return Finding(
        verdict="learning rate too large",
        layer=layer,
        cause=f"two samples that it told apart before the first step (1 − correlation {began:.2g} at the "
        "output) give the same now: steps have drowned the input",
        remedy=options(LOWER, "warm-up", "clip gradients"),
        evidence=(
            Symptom("1 − correlation of two samples at the output", now, limit, SOURCES["alike"], below=True),
        ),
    )


def _alike(seen: _Outputs, limit: float, norm: bool) -> list[Finding]:
    """Two samples whose outputs have become the same: what comes out does not depend on what went in.

    Outputs of one number are left out: those of one sign are all alike to a cosine, and so is what follows
    from them, or from an input of one number, without biases.
    """
    live = np.array(seen.widths) * (1 - np.nan_to_num(seen.dead))
    if (live[:-1] < 2).any():
        return []
    counted = (np.array(seen.widths) > 1) & np.isfinite(seen.correlation)
    between = (1 - seen.correlation)[counted]
    names = [name for name, counts in zip(seen.layers, counted, strict=True) if counts]
    if not len(between) or not between[-1] < limit:
        return []
    far = np.flatnonzero(~(between < limit))
    if not len(far):
        return []
    began = float((1 - seen.began)[counted][-1])
    if began > TOLD_APART:
        return [_drowned_since(names[int(far[-1]) + 1], began, float(between[-1]), limit)]
    return [
        Finding(
            verdict="no signal from the input",
            layer=names[int(far[-1]) + 1],
            cause="from here on two samples of the batch give the same: biases, or what all samples share, "
            "have drowned the input",
            remedy="; ".join(
                (
                    *(() if norm else ("a norm after each layer",)),
                    "skip connections where there are none",
                    "biases of 0",
                )
            ),
            evidence=(
                Symptom(
                    "1 − correlation of two samples at the output",
                    float(between[-1]),
                    limit,
                    SOURCES["alike"],
                    below=True,
                ),
            ),
        )
    ]
