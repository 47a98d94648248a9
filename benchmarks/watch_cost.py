"""What watching costs a training step, beside the usual snippets: three networks on this machine's cores.

Each way trains a copy of its own with the same batch, and they take turns, forwards and backwards.
`python benchmarks/watch_cost.py` takes ten minutes, prints a table and writes `results/watch_cost.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.nets import vgg
from gradscape.study.executors import cores
from gradscape.train.process import prepare_process
from measure import spread, write

CLASSES = 100


class Bottleneck(nn.Module):
    """He et al. (2016), Figure 5, right."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.inner = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        same = stride == 1 and width_in == out
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(width_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.inner(x) + self.skip(x))


def resnet50() -> nn.Module:
    """The 50-layer network of He et al. (2016), Table 1, with fewer classes: 23.7 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    width_in = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for block in range(depth):
            layers.append(Bottleneck(width_in, 64 << stage, 2 if stage and not block else 1))
            width_in = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, CLASSES))


class Transformer(nn.Module):
    """An encoder of 12 layers of width 256 over 64 tokens: 9.5 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(1_000, 256)
        layer = nn.TransformerEncoderLayer(256, 8, 1_024, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(256, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(self.tokens(x)).mean(1))
        return out


def vgg38() -> nn.Module:
    return vgg(blocks=5, classes=CLASSES, image_size=32, norm="batch", seed=0)


@dataclass(frozen=True)
class Subject:
    make: Callable[[], nn.Module]
    batch: Callable[[], Tensor]
    limit: float  # per cent that watching may cost


SUBJECTS = {
    "VGG38 + BatchNorm, batch 100, 32×32": Subject(vgg38, lambda: torch.randn(100, 3, 32, 32), 2),
    "ResNet-50, batch 32, 128×128": Subject(resnet50, lambda: torch.randn(32, 3, 128, 128), 3),
    "transformer, batch 32, 64 tokens": Subject(Transformer, lambda: torch.randint(0, 1_000, (32, 64)), 3),
}


def watched(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    model.flow = gs.watch(model, optimizer)  # type: ignore[assignment]
    return lambda: None


def snippet(model: nn.Module, _: torch.optim.Optimizer) -> Callable[[], None]:
    """What is pasted everywhere: a number of each parameter's gradient, every step."""
    kept: list[list[float]] = []
    return lambda: kept.append([p.grad.abs().mean().item() for p in model.parameters() if p.grad is not None])


def histograms(model: nn.Module, _: torch.optim.Optimizer) -> Callable[[], None]:
    """What `wandb.watch` computes of each gradient: 64 bins between its least and its largest."""
    kept: list[list[list[float]]] = []

    def log() -> None:
        rows = []
        for parameter in model.parameters():
            if parameter.grad is not None:
                flat = parameter.grad.flatten()
                low, high = flat.min().item(), flat.max().item()
                rows.append(torch.histc(flat, 64, low, high).tolist())
        kept.append(rows)

    return log


WAYS = {
    "not watched": lambda *_: lambda: None,
    "gradscape": watched,
    "snippet": snippet,
    "histograms": histograms,
}


def stepper(subject: Subject, way: str) -> Callable[[], float]:
    """A training step of a fresh copy, to be repeated; returns its seconds."""
    torch.manual_seed(0)
    model = subject.make()
    if isinstance(next(model.modules()), nn.Sequential) or hasattr(model, "entry"):
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x = subject.batch()
    y = torch.arange(len(x)) % CLASSES
    after_backward = WAYS[way](model, optimizer)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        after_backward()
        optimizer.step()
        return time.perf_counter() - start

    step.model = model  # type: ignore[attr-defined]
    return step


def measured(subject: Subject, rounds: int) -> dict[str, Any]:
    steps = {way: stepper(subject, way) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 2):
        for way in steps if number % 2 else reversed(steps):
            taken = steps[way]()
            if number >= 2:
                seconds[way].append(taken)
    base = median(seconds["not watched"])
    return {
        "parameters": sum(p.numel() for p in steps["gradscape"].model.parameters()),  # type: ignore[attr-defined]
        "step_ms": {way: spread([1e3 * s for s in values]) for way, values in seconds.items()},
        "added_percent": {
            way: 100 * (sum(values) / len(values) / base - 1) for way, values in seconds.items()
        },
    }
