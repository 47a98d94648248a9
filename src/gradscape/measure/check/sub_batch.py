"""Part of a batch that allows a number of steps within a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradscape.measure.check.dependence import is_of_a_graph
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.batch import Batch, sample_axis
from gradscape.measure.core.containers import mapped, tensors
from gradscape.measure.core.preserve import random_state, seed_generators

SECONDS = 5.0  # for a fit, and for a range test
FEWEST = 8  # samples: of fewer, BatchNorm's statistics are no longer those of a batch
TIMED = 3  # steps: the first one prepares


def affordable(twin: Callable[[], nn.Module], steps: Steps, count: int) -> tuple[Steps, float]:
    """Return steps on as many samples as allow a number of them within `SECONDS`, and a step's seconds.

    Args:
        twin: Maker of copies.
        steps: Steps on the whole batch.
        count: Number of steps.
    """
    pace = seconds_of_step(twin(), steps)
    size = max(FEWEST, int(steps.batch.size * SECONDS / (count * pace)))
    if count * pace <= SECONDS or size >= steps.batch.size:
        return steps, pace
    try:
        model = twin()
        part = spread(model, steps.batch, size)
        return (steps, pace) if part is None else _timed(model, replace(steps, batch=part))
    except Exception:  # of any kind: a model or a loss may know how many samples there are
        return steps, pace


def _timed(model: nn.Module, steps: Steps) -> tuple[Steps, float]:
    return steps, seconds_of_step(model, steps)


def seconds_of_step(model: nn.Module, steps: Steps) -> float:
    """Return the seconds of a step, the fastest of up to `TIMED` but the first.

    On a GPU a step ends when the next one reads its loss.

    Args:
        model: Copy, which is trained.
        steps: Batch, loss and optimizer.
    """
    taken: list[float] = []
    with random_state(), torch.enable_grad():
        seed_generators(0)
        stepper = steps.optimizer(model)
        while len(taken) < TIMED and sum(taken) < SECONDS / 10:
            began = time.perf_counter()
            stepper.zero_grad()
            steps.backward(model)
            stepper.step()
            taken.append(time.perf_counter() - began)
    return min(taken[1:] or taken)


def spread(model: nn.Module, batch: Batch, count: int) -> Batch | None:
    """Return samples from all over a batch: neighbors may be of one class.

    Args:
        model: Network that takes the batch.
        batch: Batch of more samples.
        count: Number of samples.

    Returns:
        Batch; None where samples cannot be taken apart, as nodes of a graph.
    """
    main = next((t for t in tensors(batch.given) if t.dim()), None)
    if main is None or sample_axis(main, batch.size) is None or is_of_a_graph(model, batch):
        return None
    index = torch.linspace(0, batch.size - 1, count).round().long()

    def take(value: Tensor) -> Tensor:
        axis = sample_axis(value, batch.size)
        return value if axis is None else value.index_select(axis, index.to(value.device))

    return replace(batch.mapped(take), further=mapped(batch.further, take), size=count)
