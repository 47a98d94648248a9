"""Measures seed generators without a trace: a seed left for CUDA's first use would replace the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from gradscape.measure.core.preserve import random_state, seed_generators
from gradscape.measure.signal.signal import signal

X, Y = torch.linspace(-1, 1, 60).reshape(20, 3), torch.arange(20) % 2
BATCH, LOSS = (X, Y), nn.CrossEntropyLoss()


def made() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2))


def made_wide(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def test_it_draws_what_torch_draws_after_its_own_seed() -> None:
    def drawn(seed: Callable[[int], object]) -> Tensor:
        with random_state():
            seed(3)
            return torch.rand(5)

    assert torch.equal(drawn(seed_generators), drawn(torch.manual_seed))


MEASURES: dict[str, Callable[[], object]] = {
    "check": lambda: gs.check(made, BATCH, LOSS, sgd, seeds=1, fit=5),
    "signal": lambda: signal(made, BATCH, LOSS, seeds=1),
    "lr range": lambda: gs.lr_range(made, [BATCH], LOSS, steps=10, seeds=1),
    "coordinates": lambda: gs.coordinate_check(made_wide, [2, 4, 8], BATCH, LOSS, seeds=2),
    "curvature": lambda: gs.curvature(made(), LOSS, [BATCH], 1),
    "smoothness": lambda: gs.smoothness(made(), LOSS, [BATCH], 0.1),
    "noise": lambda: gs.noise(made(), LOSS, [BATCH, BATCH]),
    "landscape": lambda: gs.landscape(made(), LOSS, [BATCH], points=5, workers=1),
}


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA is in use: nothing waits for its first use")
@pytest.mark.parametrize("measure", MEASURES)
def test_no_measure_leaves_an_order_to_seed_cuda(measure: str) -> None:
    torch.manual_seed(42)  # a user's, which waits for CUDA's first use
    waiting = torch.cuda._lazy_seed_tracker.get_calls()
    assert any(waiting)
    MEASURES[measure]()
    assert torch.cuda._lazy_seed_tracker.get_calls() is waiting
