"""What is advised depends on the network and on how it was trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.diagnose.advice import ANOTHER, WARM_UP


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))
        return out


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.mean(1))
        return out


@pytest.mark.parametrize(
    ("model", "rises", "advised"), [(Attending, False, True), (Attending, True, False), (Plain, False, False)]
)
def test_a_warm_up_is_advised_where_attention_began_at_the_full_rate(
    model: type[nn.Module], rises: bool, advised: bool
) -> None:
    """The labels have nothing to do with the inputs, so that the loss stays where guessing is."""
    torch.manual_seed(0)
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01 if rises else 1.0, total_iters=20)
    flow = gs.watch(net, optimizer)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(net(torch.randn(64, 2, 4)), torch.randint(3, (64,))).backward()
        optimizer.step()
        schedule.step()
    finding = gs.diagnose(flow).findings[0]
    assert finding.verdict == "loss does not fall"
    assert ANOTHER in finding.remedy.split("; ")
    assert (WARM_UP in finding.remedy.split("; ")) is advised
