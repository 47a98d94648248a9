"""When a run that has not diverged need not go on: it guesses, and no step can change that."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.config.run import RunConfig
from gradscape.records.run import WEIGHT_KINDS, EpochRecord

PATIENCE = 2  # epochs in a row
SIGMAS = 3.0  # above guessing, by which an accuracy counts as more than luck
ROUNDING = 2.0**-24  # of a float32 number: a step below it leaves the number as it is


class Stopped(Exception):
    """The run is to end here, though it could go on; its text says why."""


def hopeless(config: RunConfig, epochs: Sequence[EpochRecord]) -> str:
    """Why the run has no hope, judged by its last two epochs; empty while there is some.

    In both its training accuracy is no better than guessing (by three standard deviations of the binomial),
    and some layer stands still. With Adam: its mean gradient is below epsilon, so that its step is less than
    half its learning rate and shrinks with the gradient (Kingma & Ba 2015, algorithm 1). With SGD: what its
    gradients move it by in a step, momentum and all, is below float32's resolution of its weights.

    Example:
        >>> hopeless(config, folder.epochs())
        'guesses (accuracy 0.101), and the gradient of stages.0.0.conv1.weight is 3e-12, below Adam's 1e-08'
    """
    last = epochs[-PATIENCE:]
    if len(last) < PATIENCE or not all(
        _guesses(config, epoch) and _vanished(config, epoch) for epoch in last
    ):
        return ""
    name, size = _faintest(config, last[-1])
    said = {
        "adam": f"the gradient of {name} is {size:.0e}, below Adam's {config.optim.eps:.0e}",
        "sgd": f"SGD's steps for {name} are {size:.0e} of it, below float32's resolution {ROUNDING:.0e}",
    }
    return f"guesses (accuracy {last[-1].train_accuracy:.3f}), and {said[config.optim.name]}"


def _guesses(config: RunConfig, epoch: EpochRecord) -> bool:
    assert config.data.train is not None
    chance = 1 / config.data.dataset.classes
    luck = math.sqrt(chance * (1 - chance) / config.data.train)
    return epoch.train_accuracy <= chance + SIGMAS * luck


def _vanished(config: RunConfig, epoch: EpochRecord) -> bool:
    limit = {"adam": config.optim.eps, "sgd": ROUNDING}[config.optim.name]
    return _faintest(config, epoch)[1] < limit


def _faintest(config: RunConfig, epoch: EpochRecord) -> tuple[str, float]:
    """The convolution or linear layer that moves least, and by what: its mean gradient, or SGD's step.

    The step is lr ‖∂L/∂W‖ / (1 − momentum), as a share of ‖W‖; weight decay is no part of it.
    """
    flow, optim = epoch.flow, config.optim
    scale, sizes = 1.0, flow.mean_abs
    if optim.name == "sgd":
        scale, sizes = epoch.lr / (1 - optim.momentum), flow.relative
    weights = [
        (scale * size, name)
        for size, name, kind in zip(sizes, flow.layers, flow.kinds, strict=True)
        if kind in WEIGHT_KINDS
    ]
    size, name = min(weights)
    return name, size
