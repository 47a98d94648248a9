"""Trainings whose watch is written to a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.integrations import Folder


def watch_in(path: Path, steps: int = 6, deep: bool = False) -> None:
    torch.manual_seed(0)
    depth = 12 if deep else 1
    layers = [layer for _ in range(depth) for layer in (nn.Linear(6, 6), nn.Sigmoid() if deep else nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(6, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with gs.watch(model, optimizer) as flow, Folder(path).follow(flow):
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 3).backward()
            optimizer.step()
