"""When a run that has not diverged need not go on: it guesses, and no step can change that."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.config.run import RunConfig
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import EpochRecord

PATIENCE = 2  # epochs in a row
SIGMAS = 3.0  # above guessing, by which an accuracy counts as more than luck
ROUNDING = 2.0**-24  # of a float32 number: a step below it leaves the number as it is


class Stopped(Exception):
    """The run is to end here, though it could go on; its text says why."""


def hopeless(config: RunConfig, epochs: Sequence[EpochRecord], flow: FlowHistory) -> str:
    """Why the run has no hope, judged by its last two epochs; empty while there is some.

    In both its training accuracy is no better than guessing (by three standard deviations of the binomial),
    and some layer stands still. With Adam: its mean gradient is below epsilon, so that its step is less than
    half its learning rate and shrinks with the gradient (Kingma & Ba 2015, algorithm 1). With SGD: what its
    gradients move it by in a step, momentum and all, is below float32's resolution of its weights.

    Args:
        config: the run.
        epochs: all that it has finished.
        flow: a row for each of the last ones.

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
    said = {
        "adam": f"the gradient of {name} is {size:.0e}, below Adam's {config.optim.eps:.0e}",
        "sgd": f"SGD's steps for {name} are {size:.0e} of it, below float32's resolution {ROUNDING:.0e}",
    }
    return f"guesses (accuracy {epochs[-1].train_accuracy:.3f}), and {said[config.optim.name]}"


def _guesses(config: RunConfig, epoch: EpochRecord) -> bool:
    assert config.data.train is not None
    chance = 1 / config.data.dataset.classes
    luck = math.sqrt(chance * (1 - chance) / config.data.train)
    return epoch.train_accuracy <= chance + SIGMAS * luck


def _faintest(config: RunConfig, lr: float, flow: FlowHistory, row: int) -> tuple[str, float]:
    """The convolution or linear layer that moves least, and by what: its mean gradient, or SGD's step.

    The step is lr ‖∂L/∂W‖ / (1 − momentum), as a share of ‖W‖; weight decay is no part of it.
    """
    scale, sizes = 1.0, flow.mean_abs[row]
    if config.optim.name == "sgd":
        scale, sizes = lr / (1 - config.optim.momentum), flow.relative[row]
    size, name = min((scale * float(sizes[column]), flow.layers[column]) for column in flow.weights)
    return name, size
