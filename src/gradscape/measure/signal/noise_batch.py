"""Batch of noise for a classifier whose data are not at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch, described
from gradscape.measure.core.layer_trace import CHANGE, Trace
from gradscape.measure.core.preserve import random_state, refuse, seed_generators
from gradscape.measure.signal.signal import call_factory


def noise_batch(
    make_model: Callable[[], nn.Module],
    shape: Sequence[int],
    instead: str,
    causal: bool = False,
    change: str = "give the shape of a sample by --input",
) -> tuple[Tensor, Tensor]:
    """Return standard normal samples, and labels drawn from as many as a classifier has outputs.

    Args:
        make_model: Factory of a module from samples (N, …) to (N, classes).
        shape: Shape of the batch, (N, …).
        instead: Words for what to use for a module that is no classifier, for messages.
        causal: True for a module from (N, T, …) to (N, T, classes), with a label for each position.
        change: Words for what to do where samples of that shape do not fit.

    Raises:
        ConfigError: The factory fails, or its module has another output.
    """
    with random_state(), torch.no_grad():
        seed_generators(0)
        x = torch.randn(tuple(shape))
        model = call_factory(make_model)
        refuse(model)
        with Trace(model, lambda *_: None) as trace:
            try:
                output = trace.forward(Batch.of(x))
            except ConfigError as error:
                raise ConfigError(str(error).replace(CHANGE, change)) from error
        real = isinstance(output, Tensor) and output.is_floating_point()
        if not real or output.dim() != 2 + causal or output.shape[:-1] != x.shape[: 1 + causal]:
            got = tuple(output.shape) if real else described(output)
            wanted = "(N, T, classes) for an input (N, T, …)" if causal else "(N, classes)"
            raise ConfigError(f"make_model: its output is {got}, not {wanted}; use {instead}")
        if output.shape[-1] < 2:
            raise ConfigError(f"make_model: its one output is no classifier's; use {instead}")
        return x, torch.randint(0, output.shape[-1], output.shape[:-1])
