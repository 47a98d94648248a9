"""A loss that is summed over a batch is held against guessing's, as its mean is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradscape as gs
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits


def curve(loss: str, reduction: str, batch: int = 32) -> Curve:
    """Of a linear model that is not trained."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1 if loss == "binary_cross_entropy_with_logits" or loss == "mse_loss" else 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def target(x: Tensor) -> Tensor:
        if loss == "cross_entropy":
            return x[:, :3].argmax(1)
        return x[:, :1] if loss == "mse_loss" else (x[:, :1] > 0).float()

    with gs.watch(model, optimizer) as flow:
        for step in range(30):
            x = torch.randn(batch, 4, generator=torch.Generator().manual_seed(step))
            getattr(F, loss)(model(x), target(x), reduction=reduction).backward()
            optimizer.step()
            optimizer.zero_grad()
    history = flow.history().loss
    assert history is not None
    return Curve(history, LossLimits())


@pytest.mark.parametrize("loss", ["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"])
def test_a_sum_is_the_mean_times_the_batch(loss: str) -> None:
    mean, total = curve(loss, "mean"), curve(loss, "sum")
    assert mean.guessing is not None
    assert total.guessing == pytest.approx(32 * mean.guessing, rel=1e-6)
    assert total.highest_guess == pytest.approx(32 * mean.highest_guess, rel=1e-6)
    assert total.over_guessing == pytest.approx(mean.over_guessing, rel=1e-5)
    assert np.isfinite(mean.over_guessing)
