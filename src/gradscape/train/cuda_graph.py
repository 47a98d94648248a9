"""Whole training step as one CUDA graph per batch size: one launch instead of a thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from gradscape.train.process import lock_gpu
from gradscape.train.step import TrainStep

WARM_UP = 3  # eager steps of a size before its capture: libraries plan, the optimizer allocates its state


class _GraphedStep:
    """`TrainStep` that is captured after a few calls and replayed from then on.

    The first steps of a size train as usual: nothing has to be undone after the warm-up. A smaller last batch
    of an epoch has its own graph; the two share memory, since they never overlap.

    Args:
        step: Step on a CUDA device; the thread's current stream must not be the default one.
    """

    def __init__(self, step: TrainStep) -> None:
        self.step = step
        self.calls: Counter[int] = Counter()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, size: int) -> None:
        """Train on the epoch's next `size` images.

        Args:
            size: Number of images.
        """
        self.calls[size] += 1
        if self.calls[size] <= WARM_UP:
            with lock_gpu(self.step.device):
                self.step(size)
            return
        if size not in self.graphs:
            with lock_gpu(self.step.device):
                self.graphs[size] = self._capture(size)
        self.graphs[size].replay()

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Record a step without executing it; other threads can replay theirs meanwhile."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        with torch.cuda.graph(graph, self.pool, stream, capture_error_mode="thread_local"):
            self.step(size)
        return graph


def advance(step: TrainStep) -> Callable[[int], None]:
    """Return the function that trains on a number of images: replays on CUDA, the step itself elsewhere.

    A step that draws random numbers is never replayed: a graph registers its generator, which `own_draws`
    seeds anew in every epoch. It has not been measured on a GPU whether replays would follow.

    Args:
        step: Step of the run.
    """
    return _GraphedStep(step) if step.device.type == "cuda" and not step.state.random else step
