"""Images with the colors in the last axis before a convolution, and those in PyTorch's order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs

VERDICT = "channel order"


def verdicts(convolution: nn.Module, *shape: int) -> list[str]:
    torch.manual_seed(0)
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(4, *shape)
    model(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gs.watch(model, optimizer) as flow:
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(x), torch.tensor([0, 1, 0, 1])).backward()
            optimizer.step()
    found = gs.diagnose(flow)
    assert all(each.grade == "warn" for each in found.findings if each.verdict == VERDICT)
    return [each.verdict for each in found.findings]


@pytest.mark.parametrize("colors", [1, 3])
def test_rows_that_are_taken_for_channels(colors: int) -> None:
    assert VERDICT in verdicts(nn.Conv2d(16, 4, 3, padding=1), 16, 12, colors)


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (3, 16, 16)),
        (nn.Conv2d(3, 4, 3, padding=1), (3, 16, 3)),
        (nn.Conv2d(16, 4, (3, 1)), (16, 20, 1)),  # sixteen signals of one column each
        (nn.Conv2d(16, 4, 3), (16, 16, 16)),
        (nn.Conv1d(16, 4, 3, padding=1), (16, 3)),
    ],
)
def test_channels_that_are_meant_are_quiet(convolution: nn.Module, shape: tuple[int, ...]) -> None:
    assert VERDICT not in verdicts(convolution, *shape)
