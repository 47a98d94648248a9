"""When a run that has not diverged need not go on: it guesses, and no step can change that."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.config import RunConfig
from gradscape.records import WEIGHT_KINDS, EpochRecord

PATIENCE = 2  # epochs in a row
SIGMAS = 3.0  # above guessing, by which an accuracy counts as more than luck


class Stopped(Exception):
    """The run is to end here, though it could go on; its text says why."""


def hopeless(config: RunConfig, epochs: Sequence[EpochRecord]) -> str:
    """Why the run has no hope, judged by its last two epochs; empty while there is some.

    In both its training accuracy is no better than guessing (by three standard deviations of the binomial),
    and the mean gradient of some weight is below Adam's epsilon: such a weight's step is less than half its
    learning rate and shrinks with the gradient (Kingma & Ba 2015, algorithm 1), so that nothing behind it
    can be reached.

    Example:
        >>> hopeless(config, folder.epochs())
        'guesses (accuracy 0.101), and the gradient of stages.0.0.conv1.weight is 3e-12, below Adam's 1e-08'
    """
    last = epochs[-PATIENCE:]
    if len(last) < PATIENCE or not all(guesses(config, epoch) and vanished(config, epoch) for epoch in last):
        return ""
    name, size = faintest(last[-1])
    return (
        f"guesses (accuracy {last[-1].train_accuracy:.3f}), and the gradient of {name} is {size:.0e}, "
        f"below Adam's {config.optim.eps:.0e}"
    )


def guesses(config: RunConfig, epoch: EpochRecord) -> bool:
    assert config.data.train is not None
    chance = 1 / config.data.dataset.classes
    luck = math.sqrt(chance * (1 - chance) / config.data.train)
    return epoch.train_accuracy <= chance + SIGMAS * luck


def vanished(config: RunConfig, epoch: EpochRecord) -> bool:
    return faintest(epoch)[1] < config.optim.eps


def faintest(epoch: EpochRecord) -> tuple[str, float]:
    """The convolution or linear layer of smallest mean gradient, and that."""
    flow = epoch.flow
    weights = [
        (size, name)
        for size, name, kind in zip(flow.mean_abs, flow.layers, flow.kinds, strict=True)
        if kind in WEIGHT_KINDS
    ]
    size, name = min(weights)
    return name, size
