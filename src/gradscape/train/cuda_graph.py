"""The whole training step as one CUDA graph for each batch size: a launch instead of a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from gradscape.train.process import alone
from gradscape.train.step import TrainStep

WARM_UP = 3  # eager steps of a size before its capture: libraries plan, the optimiser makes its state


class _GraphedStep:
    """A `TrainStep` that is captured when it has been called a few times, and replayed from then on.

    The first steps of a size are eager and real: nothing has to be put back after warming up. The last batch
    of an epoch, if smaller, has a graph of its own; the two share their memory, for they never overlap.

    Args:
        step: on a CUDA device; the thread's current stream must not be the default one.
    """

    def __init__(self, step: TrainStep) -> None:
        self.step = step
        self.calls: Counter[int] = Counter()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, size: int) -> None:
        """Train on the epoch's next `size` images."""
        self.calls[size] += 1
        if self.calls[size] <= WARM_UP:
            with alone(self.step.device):
                self.step(size)
            return
        if size not in self.graphs:
            with alone(self.step.device):
                self.graphs[size] = self.capture(size)
        self.graphs[size].replay()

    def capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Record a step without executing it; other threads' replays go on meanwhile."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        with torch.cuda.graph(graph, self.pool, stream, capture_error_mode="thread_local"):
            self.step(size)
        return graph


def advance(step: TrainStep) -> Callable[[int], None]:
    """How the step is taken on its device: replayed on CUDA, as it stands elsewhere.

    A step that draws random numbers is never replayed: a graph registers the generator it draws from, which
    `own_draws` seeds anew in every epoch. Whether replays could follow that has not been measured on a GPU.
    """
    return _GraphedStep(step) if step.device.type == "cuda" and not step.state.random else step
