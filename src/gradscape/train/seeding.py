"""Random numbers of dropout and stochastic depth in training: a function of the run and its epoch only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from gradscape.config.run import RunConfig
from gradscape.measure.core.preserve import random_state, seed_generators

FORWARD = 1  # separates these draws from the order of images, which uses (seed, epoch)


@contextmanager
def own_draws(config: RunConfig, epoch: int) -> Iterator[None]:
    """Seed torch's generators for an epoch's forward passes, and restore their states on exit.

    A continued run draws what it would have drawn, whatever else the process does between epochs. Within an
    epoch nothing else may draw: all threads share a generator, hence on a GPU such runs train one at a time
    and without graphs. This has not been measured on a GPU.

    Args:
        config: Configuration of the run; without random layers nothing is done.
        epoch: Epoch, from 0.
    """
    if not config.net.random:
        yield
        return
    with random_state():
        state = np.random.SeedSequence((config.seed, epoch, FORWARD)).generate_state(1, np.uint64)
        seed_generators(int(state[0]))
        yield
