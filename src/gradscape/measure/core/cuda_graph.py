"""Repeated computation as one CUDA graph: one launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 2  # calls before the capture, in which libraries plan


class Replayed:
    """Function that is captured at its first call and then replayed, or called if it cannot be captured.

    Args:
        work: Function that reads and writes the same CUDA tensors at every call, and returns one.
    """

    def __init__(self, work: Callable[[], Tensor]) -> None:
        self.work = work
        self.graph: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None
        self.possible = True

    def __call__(self) -> Tensor:
        """Return the result of `work`, which the next call overwrites."""
        if self.possible and self.graph is None:
            self.capture()
        if self.graph is None:
            return self.work()
        self.graph.replay()
        assert self.output is not None
        return self.output

    def capture(self) -> None:
        """Record the work without executing it; impossible if a loss or metric waits for the device."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.work()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.output = self.work()
        except RuntimeError:
            self.possible = False
        else:
            self.graph = graph
