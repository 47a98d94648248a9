"""The same plane by loss-landscapes, where it is installed: `pip install '.[compare]'`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradscape.measure.landscape.landscape import landscape
from libraries import skip_without

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def test_a_plane_through_three_models_is_theirs() -> None:
    skip_without("loss_landscapes")
    import loss_landscapes as theirs
    from loss_landscapes import metrics

    torch.manual_seed(0)
    start = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.01), nn.Flatten(), nn.Linear(144, 5)
    )
    x, y = torch.randn(60, 3, 8, 8), torch.arange(60) % 5
    start(x)
    models = [copy.deepcopy(start).eval() for _ in range(3)]
    with torch.no_grad():
        for model in models[1:]:
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
    steps = 4
    found = theirs.planar_interpolation(
        *models, metrics.Loss(cross_entropy, x, y), steps=steps, deepcopy_model=True
    )
    ours = landscape(models[0], cross_entropy, (x, y), through=models[1:], points=steps + 1, span=(0, 1))
    # It goes to and fro, and takes a step along its second direction before it looks.
    for i, row in enumerate(found):
        assert row == pytest.approx(ours.loss[0, i, 1:] if i % 2 == 0 else ours.loss[0, i, :-1], rel=1e-4)
