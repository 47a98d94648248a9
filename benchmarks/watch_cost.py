"""What watching costs a training step, beside the usual snippets: three networks on this machine's cores.

Each way trains a copy of its own with the same batch, and they take turns, forwards and backwards. What a way
adds is timed within the step: two steps differ by more than that on a noisy machine. `python
benchmarks/watch_cost.py` takes a quarter of an hour, prints a table and writes `results/watch_cost.json`.
Cockpit, if it is installed, is measured beside the others; it wants an environment of its own
(`pip install -c constraints.txt cockpit-for-pytorch . && pip install 'setuptools<81'`).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape._machine import cores
from gradscape.nets import vgg
from gradscape.train.process import prepare_process
from measure import spread, write

CLASSES = 100
WARM_UP = 3  # steps


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
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
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
    return vgg(blocks=5, classes=CLASSES, image_size=32, seed=0)


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


@dataclass
class Way:
    """How gradients are looked at: done after backward, its seconds, and who must know of idle ones."""

    after_backward: Callable[[Tensor], None]
    spent: Callable[[], float]
    idle: Callable[[float], None] = lambda _: None


def timed(act: Callable[[Tensor], object]) -> Way:
    """An act on a step's loss."""
    total = 0.0

    def within(loss: Tensor) -> None:
        nonlocal total
        start = time.perf_counter()
        act(loss)
        total += time.perf_counter() - start

    return Way(within, lambda: total)


def nothing(_: nn.Module, __: torch.optim.Optimizer) -> Way:
    return timed(lambda _: None)


def gradscape(
    model: nn.Module, optimizer: torch.optim.Optimizer, every: int | None = None, activations: bool = False
) -> Way:
    flow = gs.watch(model, optimizer, every, activations=activations)

    def idle(seconds: float) -> None:  # time of others must not count as this training's
        flow._recorder.schedule.began += seconds
        flow._recorder.loss.began += seconds

    def spent() -> float:
        return sum(
            part.spent for part in (flow._recorder.reader, flow._recorder.outputs, flow._recorder.loss)
        )

    return Way(lambda _: None, spent, idle)


def snippet(model: nn.Module, _: torch.optim.Optimizer) -> Way:
    """What is pasted everywhere: a number of each parameter's gradient, every step."""
    return timed(lambda _: [p.grad.abs().mean().item() for p in model.parameters() if p.grad is not None])


def histograms(model: nn.Module, _: torch.optim.Optimizer) -> Way:
    """What `wandb.watch` computes of each gradient: 64 bins between its least and its largest."""

    def log(_: Tensor) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                flat = parameter.grad.flatten()
                torch.histc(flat, 64, flat.min().item(), flat.max().item()).tolist()

    return timed(log)


def cockpit(model: nn.Module, optimizer: torch.optim.Optimizer) -> Way:
    """Schneider et al. (2021), what it has without gradients of single samples, which BatchNorm forbids."""
    from cockpit import Cockpit, quantities
    from cockpit.utils.schedules import linear

    kinds = (quantities.GradNorm, quantities.UpdateSize, quantities.Distance, quantities.Loss)
    chosen = [kind(linear(1)) for kind in kinds]  # at each step
    watching = Cockpit(model.parameters(), quantities=chosen)
    step = 0

    def look(loss: Tensor) -> None:
        nonlocal step
        loss = loss.detach()  # it keeps what it is given, the graph too
        info = {"batch_size": 1, "individual_losses": loss[None], "loss": loss, "optimizer": optimizer}
        with watching(step, info=info):
            pass
        step += 1

    return timed(look)


WAYS = {
    "not watched": nothing,
    "gradscape": gradscape,
    "gradscape, each step": partial(gradscape, every=1),
    "gradscape, activations too": partial(gradscape, activations=True),
    "snippet": snippet,
    "histograms": histograms,
}
if importlib.util.find_spec("cockpit"):
    WAYS["cockpit"] = cockpit


class Training:
    """A copy of a network, trained a step at a time."""

    def __init__(self, subject: Subject, way: str) -> None:
        torch.manual_seed(0)
        self.model = subject.make()
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.x = subject.batch()
        self.y = torch.arange(len(self.x)) % CLASSES
        self.way = WAYS[way](self.model, self.optimizer)
        self.ended = time.perf_counter()

    def step(self) -> tuple[float, float]:
        """Seconds of a step, and of them those spent looking at gradients."""
        start, before = time.perf_counter(), self.way.spent()
        self.way.idle(start - self.ended)
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.way.after_backward(loss)
        self.optimizer.step()
        self.ended = time.perf_counter()
        return self.ended - start, self.way.spent() - before


def measured(subject: Subject, rounds: int) -> dict[str, Any]:
    """Of every way: milliseconds of a step, and the share of them that looking at gradients takes."""
    trainings = {way: Training(subject, way) for way in WAYS}
    steps: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(WARM_UP + rounds):
        for way in trainings if number % 2 else reversed(trainings):
            taken = trainings[way].step()
            if number >= WARM_UP:
                steps[way].append(taken)
    rows = {}
    for way, taken in steps.items():
        alone = sum(total - looking for total, looking in taken)
        rows[way] = {
            "step_ms": spread([1e3 * total for total, _ in taken]),
            "added_percent": 100 * sum(looking for _, looking in taken) / alone,
            "added_percent_of_a_step": spread(
                [100 * looking / (total - looking) for total, looking in taken]
            ),
        }
    return {
        "parameters": sum(p.numel() for p in trainings["gradscape"].model.parameters()),
        "limit_percent": subject.limit,
        "ways": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    prepare_process(threads=cores())
    found = {}
    for name, subject in SUBJECTS.items():
        found[name] = measured(subject, rounds)
        print(name)
        for way, row in found[name]["ways"].items():
            print(f"  {way:<28} {row['step_ms']['median']:8.1f} ms  {row['added_percent']:+7.2f} %")
    write("watch_cost", {"networks": found})


if __name__ == "__main__":
    main()
