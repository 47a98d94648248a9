"""Losses of the cases: PyTorch's own where it has one, written out where it has none.

Keras clips probabilities to [1e-7, 1 − 1e-7] before a logarithm, and passes no gradient where it clips.
PyTorch's own binary cross-entropy refuses outputs and targets outside 0 … 1, which are the fault of some
cases: those take the clipped one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

TINY = 1e-7
Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss, and the form of its targets.

    Attributes:
        function: Loss of outputs and targets.
        form: "column", one real number per output's row; "index", whole numbers; "one-hot".
        logit: Whether a single output of 0, and not of 0.5, is where the class changes.
    """

    function: Function
    form: str = "column"
    logit: bool = False


def clipped(p: Tensor) -> Tensor:
    return p.clamp(TINY, 1 - TINY)


def of_probabilities(p: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of a softmax's output (N, C) and classes (N,)."""
    return F.nll_loss(clipped(p).log(), y)


def of_normalized(p: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of outputs (N, C) divided by their sum: Keras' own, on whatever the last layer gives."""
    return F.nll_loss(clipped(p / p.sum(1, keepdim=True)).log(), y)


def of_clipped_logs(p: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of outputs (N, C) taken for probabilities: clipped, their logarithms the logits."""
    return F.cross_entropy(clipped(p).log(), y)


def of_labels(p: Tensor, y: Tensor) -> Tensor:
    """Categorical cross-entropy of outputs (N, C) and labels (N, 1) that are not one-hot.

    They broadcast; and a single output, divided by its sum, is 1.
    """
    return -(y * clipped(p / p.sum(1, keepdim=True)).log()).sum(1).mean()


def of_one_logit(z: Tensor, y: Tensor) -> Tensor:
    """Categorical cross-entropy of a single logit, whose softmax is 1."""
    return -(y * F.log_softmax(z, 1)).sum(1).mean()


def binary_clipped(z: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of whatever outputs, clipped; one of the two may have a single column."""
    p = clipped(z)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def binary(p: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, y)


def binary_logits(z: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(z, y)


def squared(p: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(p, y)


def squared_broadcast(p: Tensor, y: Tensor) -> Tensor:
    """Squared error of outputs (N, C) and targets (N, 1)."""
    return (p - y).square().mean()


def absolute_broadcast(p: Tensor, y: Tensor) -> Tensor:
    """Absolute error of outputs (N, C) and targets (N, 1)."""
    return (p - y).abs().mean()


def log_cosh(p: Tensor, y: Tensor) -> Tensor:
    """log cosh of the error, which broadcasts where outputs are (N, C) and targets (N, 1)."""
    error = p - y
    return (error + F.softplus(-2 * error) - math.log(2)).mean()


def percentage(p: Tensor, y: Tensor) -> Tensor:
    """Mean absolute percentage error: targets of 0 count as 1e-7."""
    return 100 * ((y - p).abs() / y.abs().clamp(min=TINY)).mean()


def poisson(p: Tensor, y: Tensor) -> Tensor:
    return F.poisson_nll_loss(p, y, log_input=False, eps=TINY)


LOSSES = {
    "bce": Loss(binary),
    "bce logits": Loss(binary_logits, logit=True),
    "bce from logits": Loss(binary_logits),
    "bce clipped": Loss(binary_clipped),
    "bce broadcast": Loss(binary_clipped),
    "bce one-hot": Loss(binary, "one-hot"),
    "bce one-hot broadcast": Loss(binary_clipped, "one-hot"),
    "ce": Loss(of_probabilities, "index"),
    "ce logits": Loss(F.cross_entropy, "index"),
    "ce normalized": Loss(of_normalized, "index"),
    "ce clipped": Loss(of_clipped_logs, "index"),
    "ce one logit": Loss(of_one_logit),
    "ce labels": Loss(of_labels),
    "mse": Loss(squared),
    "mse one-hot": Loss(squared, "one-hot"),
    "mse broadcast": Loss(squared_broadcast),
    "mae": Loss(F.l1_loss),
    "mae one-hot": Loss(F.l1_loss, "one-hot"),
    "mae broadcast": Loss(absolute_broadcast),
    "log-cosh": Loss(log_cosh),
    "mape": Loss(percentage),
    "poisson": Loss(poisson),
}
