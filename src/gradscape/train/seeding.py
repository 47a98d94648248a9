"""The random numbers of dropout and stochastic depth in training: of the run and its epoch, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from gradscape.config.run import RunConfig
from gradscape.measure.core.preserve import random_state

FORWARD = 1  # sets these draws apart from the epoch's order of images, which is of (seed, epoch)


@contextmanager
def own_draws(config: RunConfig, epoch: int) -> Iterator[None]:
    """Seed torch's generators for an epoch's forward passes, and leave the caller's as found.

    So a run that is continued draws what it would have drawn, whatever else the process does between epochs.
    Within one, nothing else may draw: all threads share a generator, hence on a GPU such runs are trained one
    at a time and not as graphs. This has not been measured on a GPU.

    Args:
        config: nothing is done for a network that draws nothing.
        epoch: from 0.
    """
    if not config.net.random:
        yield
        return
    with random_state():
        state = np.random.SeedSequence((config.seed, epoch, FORWARD)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
        yield
