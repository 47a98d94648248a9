"""How often two seeds of one training are called different, and how soon an injected change is named.

Small networks learn the digits for 150 steps of 32 samples. Two seeds have other weights, another order and
other draws of dropout. Pairs that are alike share no training: they are independent. Changes are held against
trainings of other seeds than their own.

    python benchmarks/compare.py             # a quarter of an hour on a core; writes results/compare.json
    python benchmarks/compare.py --keep DIR  # the same; what DIR holds is not trained again

`OWN` of analysis/variation.py was set by looking at the first two networks (`spread` below); the others were
held out.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.analysis.variation import running_median
from gradscape.records.comparison import Comparison
from gradscape.records.gradients import FlowHistory
from gradscape.stats.student_t import share
from gradscape.train.process import prepare_process
from measure import write

STEPS, FREEZE_AT, ALIKE, CHANGED = 150, 50, 20, 4
GROUP = 3  # seeds of each side, where seeds are given
ALONE, BOTH, ONE = "without seeds", f"{GROUP} and {GROUP} seeds", f"{GROUP} seeds and one"


@dataclass(frozen=True)
class Change:
    """A training as it is, or with one thing changed."""

    lr: float = 1.0
    gain: float = 1.0
    freeze: bool = False
    dropout: float = 0.0
    batch: int = 32
    bf16: bool = False
    scale: float = 1.0
    right: tuple[str, ...] = ()  # quantities that the change acts on directly
    layer: str = ""  # what it acts on, where that is one layer: `input`, or `second` of the weight layers


CHANGES = {
    "learning rate × 2": Change(lr=2.0, right=("relative_update",)),
    "gain of initial weights × 2": Change(gain=2.0, right=("weight", "second_moment")),
    "a layer frozen at step 50": Change(freeze=True, right=("mean_abs", "relative_update"), layer="second"),
    "dropout 0 → 0.5": Change(dropout=0.5, right=("loss", "second_moment", "mean_abs")),
    "batch 32 → 64": Change(batch=64, right=("mean_abs", "relative_update", "loss")),
    "bf16 autocast": Change(bf16=True),
    "inputs not standardized": Change(scale=0.25, right=("second_moment",), layer="input"),
}


def mlp(dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 32), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(32, 10),
    )  # fmt: skip


def cnn(dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Dropout(dropout), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def deep_mlp(dropout: float) -> nn.Module:
    hidden = [
        layer
        for _ in range(4)
        for layer in (nn.Linear(48, 48), nn.LayerNorm(48), nn.GELU(), nn.Dropout(dropout))
    ]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), *hidden, nn.Linear(48, 10))


def cnn_with_norm(dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(96, 10),
    )  # fmt: skip


def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3 * lr)


def momentum(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02 * lr, momentum=0.9)


def adamw(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=2e-3 * lr, weight_decay=0.05)


def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1 * lr)


Make = Callable[[float], nn.Module]
NETS: dict[str, tuple[Make, Callable[[nn.Module, float], torch.optim.Optimizer]]] = {
    "MLP, Adam": (mlp, adam),
    "CNN, SGD with momentum": (cnn, momentum),
    "MLP of 6 layers with LayerNorm, SGD": (deep_mlp, sgd),
    "CNN with BatchNorm, AdamW": (cnn_with_norm, adamw),
}
QUANTITIES = ("loss", "mean_abs", "relative_update", "weight", "second_moment")
LOOKED_AT = tuple(NETS)[:2]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Standardized digits (N, 1, 8, 8), and their labels."""
    images = gs.load_images("digits")
    pixels = torch.tensor(images.train_images[:, ::2, ::2, 0], dtype=torch.float32)[:, None]
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(images.train_labels)


def train(net: str, seed: int, change: Change) -> FlowHistory:
    """A training's history, with activations; the seed draws weights, order and dropout."""
    torch.manual_seed(seed)
    make, optimize = NETS[net]
    model = make(change.dropout)
    weights = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for each in weights:
            each.weight.mul_(change.gain)
    optimizer = optimize(model, change.lr)
    x, y = digits()
    x = x * change.scale
    with gs.watch(model, optimizer, activations=True) as flow:
        for step in range(STEPS):
            if change.freeze and step == FREEZE_AT:
                weights[1].weight.requires_grad_(False)
            chosen = torch.randint(len(y), (change.batch,))
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=change.bf16):
                loss = cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
    return flow.history()


class Trainings:
    """Histories, kept in a folder if there is one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, net: str, seed: int, change: str = "") -> FlowHistory:
        path = self.folder and self.folder / f"{net}-{seed}-{change}.pickle".replace("/", "")
        if path and path.exists():
            kept: FlowHistory = pickle.loads(path.read_bytes())
            return kept
        history = train(net, seed, CHANGES.get(change, Change()))
        if path:
            path.write_bytes(pickle.dumps(history))
        return history


def spread(histories: Sequence[FlowHistory]) -> dict[str, float]:
    """Largest of any layer: standard deviation over seeds of the median of all rows, in log10."""
    found = {}
    for name in QUANTITIES:
        tables = [_table(each, name) for each in histories]
        medians = np.stack([running_median(np.log10(np.abs(each) + 1e-300), len(each))[0] for each in tables])
        found[name] = [float(value) for value in np.sort(medians.std(axis=0, ddof=1))]
    return {name: {"median": median(each), "max": each[-1]} for name, each in found.items()}


def _table(history: FlowHistory, name: str) -> Any:
    if name == "loss":
        return history.loss.values[: len(history.steps), None]
    if name == "second_moment":
        return history.activations.second_moment
    return getattr(history, name)


def alike(trainings: Trainings, net: str) -> dict[str, list[Comparison]]:
    """Comparisons of seeds of one training, none of which shares a training with another of its kind."""
    seeds = [trainings(net, seed) for seed in range(ALIKE)]
    size = 2 * GROUP
    groups = [seeds[first : first + size] for first in range(0, ALIKE - size + 1, size)]
    fours = [seeds[first : first + GROUP + 1] for first in range(0, ALIKE, GROUP + 1)]
    early = [first_rows(each) for each in seeds]
    return {
        ALONE: [gs.compare(a, b) for a, b in zip(seeds[::2], seeds[1::2], strict=True)],
        f"{ALONE}, first ten rows": [gs.compare(a, b) for a, b in zip(early[::2], early[1::2], strict=True)],
        BOTH: [gs.compare(g[0], g[GROUP], g[1:GROUP], g[GROUP + 1 :]) for g in groups],
        ONE: [gs.compare(g[0], g[-1], g[1:GROUP]) for g in fours],
    }


def first_rows(history: FlowHistory, count: int = 10) -> FlowHistory:
    """The same history as if it had ended early."""
    outputs = history.activations
    assert outputs is not None
    short = replace(outputs, **_cut(outputs, count))
    return replace(history, **{**_cut(history, count), "activations": short})


def _cut(record: Any, count: int) -> dict[str, Any]:
    rows = (len(record.steps),)
    return {
        name: value[:count] for name, value in vars(record).items() if getattr(value, "shape", ())[:1] == rows
    }


def changed(trainings: Trainings, net: str, name: str) -> dict[str, list[Comparison]]:
    """Comparisons with trainings of other seeds that have one thing changed."""
    plain = [trainings(net, seed) for seed in range(CHANGED + GROUP)]
    others = [trainings(net, 1000 + seed, name) for seed in range(CHANGED)]
    return {
        ALONE: [gs.compare(plain[k], others[k]) for k in range(CHANGED)],
        BOTH: [
            gs.compare(
                plain[k], others[k], plain[k + 1 : k + GROUP],
                [others[(k + j) % CHANGED] for j in range(1, GROUP)],
            )
            for k in range(CHANGED)
        ],
        ONE: [
            gs.compare(plain[k], others[k], plain[k + 1 : k + GROUP]) for k in range(CHANGED)
        ],
    }  # fmt: skip


def alarms(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """How many of comparisons of like trainings call them different, with the exact interval."""
    count = sum(each.differs for each in comparisons)
    found = share(count, len(comparisons))
    named = [f"{each.first.quantity} of {each.first.layer}" for each in comparisons if each.first]
    return {"alarms": count, "n": found.n, "low": found.low, "high": found.high, "named": named}


def named(comparisons: Sequence[Comparison], change: Change, layer: str) -> dict[str, Any]:
    """How many are called different, how soon, and whether quantity and layer are those that were changed."""
    firsts = [each.first for each in comparisons if each.first is not None]
    begun = FREEZE_AT if change.freeze else 0
    return {
        "n": len(comparisons),
        "found": len(firsts),
        "delays": [each.step - begun for each in firsts],
        "right_quantity": sum(each.quantity in change.right for each in firsts),
        "right_layer": sum(each.layer == layer for each in firsts) if layer else None,
        "first": [f"{each.quantity} of {each.layer or 'the model'}" for each in firsts],
    }


def layer_of(net: str, change: Change) -> str:
    """Name of the layer that a change acts on; empty where it acts on more."""
    if change.layer != "second":
        return change.layer
    model = NETS[net][0](0.0)
    weights = [name for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    return f"{weights[1]}.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of the trainings' histories")
    folder = parser.parse_args().keep
    if folder:
        folder.mkdir(exist_ok=True)
    prepare_process(1)
    trainings = Trainings(folder)
    write("compare", {"steps": STEPS, "group": GROUP, "nets": dict(_nets(trainings))})


def _nets(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    for net in NETS:
        yield (
            net,
            {
                "looked_at": net in LOOKED_AT,
                "spread": spread([trainings(net, seed) for seed in range(ALIKE)]),
                "alike": {how: alarms(each) for how, each in alike(trainings, net).items()},
                "changed": {
                    name: {
                        how: named(each, change, layer_of(net, change))
                        for how, each in changed(trainings, net, name).items()
                    }
                    for name, change in CHANGES.items()
                },
            },
        )
        print(net, flush=True)


if __name__ == "__main__":
    main()
