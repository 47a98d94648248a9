"""Limits beyond which a number speaks for a verdict on a training, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

from gradscape.measure.diagnose.activation_rules import SignalLimits


@dataclass(frozen=True)
class Limits(SignalLimits):
    """Limits of the rules; those on activations are `SignalLimits`.

    Attributes:
        rows: the last so many are looked at.
        steep: ‖∂L/∂W‖/‖W‖, above which a gradient is large for any learning rate.
        span: ‖∂L/∂W‖ of one end of the network over that of the other.
        reach: RMS of ∂L/∂W over the sum of it and Adam's ε: the share of its normal step that a layer makes.
        still: ‖ΔW‖/‖W‖ of a step, below which a layer of SGD's stands still.
        small: the same of the layer that moves most.
        large: the same of a single step.
        shaken: the same of the layer that moves most, where gradients have nothing in common (see `noise`).
        gain: ‖∂L/∂W‖·‖ΔW‖ of the first layer, in units of the loss: the most by which its step can change
            the loss, to first order.
        noise: median cosine between the gradients of successive rows.
        overshoot: the same, below which each step undoes the one before.
        faded: the last layer's gradient when the watch began over what it is now.
    """

    rows: int = 50
    steep: float = 1e3
    span: float = 1e3
    reach: float = 0.1
    still: float = 1e-6
    small: float = 1e-4
    large: float = 3.0
    shaken: float = 0.5
    gain: float = 3e-5
    noise: float = 0.05
    overshoot: float = -0.5
    faded: float = 30.0


SOURCES = {
    "steep": "a step of SGD with a learning rate of 0.001 replaces the weights",
    "span": "three orders of magnitude between layers that share a learning rate",
    "reach": "Kingma & Ba (2015), Algorithm 1: a step is lr · m / (√v + ε)",
    "still": "a thousandth of the healthy 1/1000 (Karpathy 2015, CS231n)",
    "small": "a tenth of the healthy 1/1000 (Karpathy 2015, CS231n)",
    "large": "a step three times the weights; healthy ones are near 1/1000 (Karpathy 2015, CS231n)",
    "shaken": "half of the weights replaced at each step, on gradients that have nothing in common",
    "gain": "by Cauchy and Schwarz |∂L/∂W · ΔW| is no more; 30,000 steps for a change of 1",
    "noise": "McCandlish et al. (2018), §2.2: |G|² a twentieth of |G|² + tr Σ",
    "overshoot": "a step beyond the minimum meets the opposite gradient; twice as long, the cosine is −1",
    "faded": "of softmax and cross-entropy, a loss that fell by about as much",
}

# ‖W‖ of a matrix that is small by design (a head or a branch that begins at 0) tells nothing of its steps:
# they are held against a tenth of √outputs, the norm at which a matrix keeps a signal's size.
LEAST = 0.1
