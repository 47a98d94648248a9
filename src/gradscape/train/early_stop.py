"""Detect a run that has not diverged yet cannot learn: it guesses, and its steps change nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.config.run import RunConfig
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import EpochRecord

PATIENCE = 2  # consecutive epochs
SIGMAS = 3.0  # standard deviations above guessing at which an accuracy is more than luck
ROUNDING = 2.0**-24  # relative resolution of float32: a smaller step leaves a number unchanged


class Stopped(Exception):
    """Request to end a run that could continue; its text is the reason."""


def hopeless(config: RunConfig, epochs: Sequence[EpochRecord], flow: FlowHistory) -> str:
    """Return the reason why a run cannot learn, from its last two epochs, or an empty string.

    In both epochs the training accuracy is within three standard deviations (of the binomial) of guessing,
    and some layer does not move. With Adam, its mean gradient is below epsilon: its step is less than half
    the learning rate and shrinks with the gradient (Kingma & Ba 2015, algorithm 1). With SGD, its step,
    including momentum, is below float32's resolution of its weights.

    Args:
        config: Configuration of the run.
        epochs: All finished epochs.
        flow: Gradients, with a row for each of the last epochs.

    Example:
        >>> hopeless(config, folder.epochs(), folder.flow())
        'guesses (accuracy 0.101), and the gradient of stages.0.0.conv1.weight is 3e-12, below Adam's 1e-08'
    """
    if len(epochs) < PATIENCE or not all(_guesses(config, epoch) for epoch in epochs[-PATIENCE:]):
        return ""
    limit = {"adam": config.optim.eps, "sgd": ROUNDING}[config.optim.name]
    rows = range(-PATIENCE, 0)
    if not all(_faintest(config, epochs[row].lr, flow, row)[1] < limit for row in rows):
        return ""
    name, size = _faintest(config, epochs[-1].lr, flow, -1)
    reasons = {
        "adam": f"the gradient of {name} is {size:.0e}, below Adam's {config.optim.eps:.0e}",
        "sgd": f"SGD's steps for {name} are {size:.0e} of it, below float32's resolution {ROUNDING:.0e}",
    }
    return f"guesses (accuracy {epochs[-1].train_accuracy:.3f}), and {reasons[config.optim.name]}"


def _guesses(config: RunConfig, epoch: EpochRecord) -> bool:
    assert config.data.train is not None
    chance = 1 / config.data.dataset.classes
    luck = math.sqrt(chance * (1 - chance) / config.data.train)
    return epoch.train_accuracy <= chance + SIGMAS * luck


def _faintest(config: RunConfig, lr: float, flow: FlowHistory, row: int) -> tuple[str, float]:
    """Return the convolution or linear layer that moves least, and its mean gradient or SGD's relative step.

    The step is lr ‖∂L/∂W‖ / ((1 − momentum) ‖W‖), without weight decay.
    """
    scale, sizes = 1.0, flow.mean_abs[row]
    if config.optim.name == "sgd":
        scale, sizes = lr / (1 - config.optim.momentum), flow.relative[row]
    size, name = min((scale * float(sizes[column]), flow.layers[column]) for column in flow.weights)
    return name, size
