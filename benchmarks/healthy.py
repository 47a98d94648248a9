"""How often a training that is well is called ill: networks of today, under many optimizers.

Each of `healthy_models` is trained with AdamW, with SGD, and with two of Lion, Adafactor, Muon and a
schedule-free AdamW, by its name. A training counts as healthy if its loss falls below 0.6 of guessing's, or
of its first where that is less, within 400 steps; which do is looked at, not assumed. It is diagnosed after
10, 50 and 150 steps, with and without activations, and `gs.check` is asked about the network before.

    python benchmarks/healthy.py train --keep DIR    # an hour on a core; what DIR holds is not done again
    python benchmarks/healthy.py check --keep DIR    # the same
    python benchmarks/healthy.py judge --keep DIR    # minutes; writes results/healthy.json

Limits may be set on the families looked at only: those on which earlier rules were known to be wrong, and of
the others those whose name's SHA-256 is even. Those of `healthy_added` came after the limits: all are held
out. Training needs the packages of tests/zoo/requirements.txt, lion_pytorch and schedulefree.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from healthy_added import FAMILIES
from torch import nn
from torch.optim import Optimizer

import gradscape as gs
from gradscape.measure.core.batch import Batch
from gradscape.measure.diagnose.view import TABLES
from gradscape.records.gradients import FlowHistory
from gradscape.train.process import prepare_process
from measure import write

WATCHED, STEPS, LEARNT, SPAN = 150, 400, 0.6, 20
ASKED = (10, 50, 150)
KNOWN_WRONG = {"vit", "convnext", "resnet", "bert", "gpt", "llama", "t5"}
PACKAGES = (
    "timm", "transformers", "diffusers", "monai", "torch_geometric", "stable_baselines3", "lion_pytorch",
    "schedulefree", "pytorch_tabnet", "x_transformers",
)  # fmt: skip

Parameters = Iterable[nn.Parameter]
APART = ("embed", "wte", "wpe", "head", "classifier", "shared", "score")  # Muon is for hidden matrices alone


def muon(model: nn.Module, lr: float) -> list[Optimizer]:
    """Hidden matrices by Muon, the rest by AdamW (Jordan et al. 2024); empty where there are none."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if p.dim() == 2 and not any(word in name for word in APART)]
    known = set(map(id, hidden))
    rest = [p for _, p in named if id(p) not in known]
    return [torch.optim.Muon(hidden, lr=lr), torch.optim.AdamW(rest, lr=1e-3)] if hidden and rest else []


def lion(model: nn.Module, lr: float) -> list[Optimizer]:
    from lion_pytorch import Lion

    return [Lion(model.parameters(), lr=lr)]


def schedule_free(model: nn.Module, lr: float) -> list[Optimizer]:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(model.parameters(), lr=lr)
    optimizer.train()
    return [optimizer]


# Rates are tried in order until one trains.
OPTIMIZERS: dict[str, tuple[Callable[[nn.Module, float], list[Optimizer]], tuple[float, ...]]] = {
    "adamw": (lambda model, lr: [torch.optim.AdamW(model.parameters(), lr=lr)], (1e-3, 3e-3)),
    "sgd": (lambda model, lr: [torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)], (0.05, 0.01, 0.3)),
    "lion": (lion, (3e-4, 1e-3)),
    "adafactor": (lambda model, lr: [torch.optim.Adafactor(model.parameters(), lr=lr)], (1e-2, 3e-2)),
    "muon": (muon, (0.02,)),
    "schedule-free": (schedule_free, (3e-3, 1e-2)),
}
OTHERS = ("lion", "adafactor", "muon", "schedule-free")


@dataclass(frozen=True)
class Seen:
    """A training: what a watch saw of its first steps, and all losses."""

    model: str
    family: str
    optimizer: str
    lr: float
    parameters: int
    guessing: float
    losses: tuple[float, ...]
    history: FlowHistory

    @property
    def trains(self) -> bool:
        return learnt(self.losses, self.guessing)


def learnt(losses: tuple[float, ...] | list[float], guessing: float) -> bool:
    late = losses[-SPAN:]
    return len(losses) >= SPAN and sum(late) / SPAN < LEARNT * min(losses[0], guessing)


def looked_at(family: str) -> bool:
    """Whether limits may be set by looking at it; the rule was written before anything was run."""
    even = hashlib.sha256(family.encode()).digest()[0] % 2 == 0
    return family in KNOWN_WRONG or (even and family not in FAMILIES)


def pairs() -> Iterator[tuple[Any, str]]:
    """Each model with AdamW, SGD and two others, by its name; those held out first."""
    from healthy_models import models

    both = list(itertools.combinations(OTHERS, 2))
    for model in sorted(models(), key=lambda model: looked_at(model.family)):
        turn = hashlib.sha256(model.name.encode()).digest()[1] % len(both)
        for name in ("adamw", "sgd", *both[turn]):
            yield model, name


def train(model: Any, optimizer: str, lr: float) -> Seen | None:
    """Train until it has learnt, and for as many steps as are watched; None without such an optimizer."""
    torch.manual_seed(0)
    net = model.make()
    optimizers = OPTIMIZERS[optimizer][0](net, lr)
    if not optimizers:
        return None
    generator, losses = torch.Generator().manual_seed(0), []
    guessing = model.task.guessing
    flow = gs.watch(net, optimizers, every=1, activations=True)
    while len(losses) < STEPS and not (len(losses) >= WATCHED and learnt(losses, guessing)):
        batch = Batch.of(model.task.draw(generator))
        loss = batch.loss(model.task.loss, batch.output(net))
        for each in optimizers:
            each.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for each in optimizers:
            each.step()
        losses.append(loss.item())
        if len(losses) == WATCHED:
            flow.close()
    count = sum(p.numel() for p in net.parameters())
    return Seen(model.name, model.family, optimizer, lr, count, guessing, tuple(losses), flow.history())


def train_all(keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for model, optimizer in pairs():
        path = keep / f"{slug(model.name)} {optimizer}.pickle"
        if path.exists():
            continue
        for lr in OPTIMIZERS[optimizer][1]:
            seen = train(model, optimizer, lr)
            if seen is None or seen.trains:
                break
        if seen is not None:
            print(f"{model.name}, {optimizer} {seen.lr:g}: {seen.losses[0]:.3g} → {seen.losses[-1]:.3g}"
                  f"{'' if seen.trains else ': does not train'}", flush=True)  # fmt: skip
        half = path.with_suffix(".part")
        half.write_bytes(pickle.dumps(seen and vars(seen)))
        half.rename(path)


def check_all(keep: Path) -> None:
    """What `gs.check` says of each model with AdamW, on its first batch, without trying remedies."""
    from healthy_models import models

    for model in models():
        path = keep / f"{slug(model.name)}.check.json"
        if path.exists():
            continue
        batch = model.task.draw(torch.Generator().manual_seed(0))
        record = gs.check(model.make, batch, model.task.loss, torch.optim.AdamW, remedies=False)
        found = {"model": model.name, "family": model.family, "verdict": record.verdict}
        found |= {"grade": record.diagnosis.grade, "fell": record.as_is.fell, "loss": record.as_is.change}
        print(found, flush=True)
        path.write_text(json.dumps(found))


def first(history: FlowHistory, steps: int) -> FlowHistory:
    """The history as it was after so many steps; several optimizers have a row each."""
    rows = history.steps < steps
    seen = history.activations
    if seen is not None:
        tables = ("steps", "second_moment", "correlation", "dead", "saturated", "nonfinite")
        seen = replace(seen, **{name: getattr(seen, name)[rows] for name in tables})
    values = {name: getattr(history, name)[rows] for name in ("steps", "skipped", *TABLES)}
    loss = history.loss
    if loss is not None:
        early = loss.steps < steps
        read = tuple(reading for reading in loss.readings if reading.step < steps)
        loss = replace(loss, steps=loss.steps[early], values=loss.values[early], readings=read)
    for name in ("rates", "clipped"):
        if (table := getattr(history, name)) is not None:
            values[name] = table[rows]
    return replace(history, **values, activations=seen, loss=loss)


KEPT = ("model", "family", "optimizer", "lr", "parameters", "trains")


def judged(seen: Seen) -> dict[str, Any]:
    """A training's numbers, and what is said of it after each of `ASKED` steps."""
    said = {}
    for steps in ASKED:
        history = first(seen.history, steps)
        with np.errstate(all="ignore"):
            found = {"": replace(history, activations=None), ", activations too": history}
            for how, each in found.items():
                diagnosis = gs.diagnose(each)
                said[f"{steps}{how}"] = {
                    "verdict": diagnosis.verdict, "grade": diagnosis.grade, "layer": diagnosis.layer
                }  # fmt: skip
    return {
        **{name: getattr(seen, name) for name in KEPT},
        "half": "looked at" if looked_at(seen.family) else "held out",
        "guessing": seen.guessing if math.isfinite(seen.guessing) else None,
        "loss": [seen.losses[0], sum(seen.losses[-SPAN:]) / SPAN],
        "steps": len(seen.losses),
        "said": said,
    }


def alarms(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the trainings that are healthy, how many are told to fail, after each number of steps."""
    well = [row for row in rows if row["trains"]]
    counts = {
        how: sum(row["said"][how]["grade"] == "fail" for row in well)
        for how in (f"{steps}{more}" for steps in ASKED for more in ("", ", activations too"))
    }
    asked = len(well) * len(ASKED)
    return {
        "trainings": len(rows),
        "healthy": len(well),
        "models": len({row["model"] for row in well}),
        "false_alarms": counts,
        "share": sum(counts[f"{steps}"] for steps in ASKED) / asked if asked else None,
        "share, activations too": sum(counts[f"{steps}, activations too"] for steps in ASKED) / asked
        if asked
        else None,
    }


def judge(keep: Path) -> None:
    kept = (pickle.loads(path.read_bytes()) for path in sorted(keep.glob("*.pickle")))
    rows = [judged(Seen(**values)) for values in kept if values is not None]
    checked = [json.loads(path.read_text()) for path in sorted(keep.glob("*.check.json"))]
    train_with_adamw = {row["model"] for row in rows if row["optimizer"] == "adamw" and row["trains"]}
    halves, checks = {}, {}
    for half in ("looked at", "held out"):
        halves[half] = alarms([row for row in rows if row["half"] == half])
        asked = [
            found
            for found in checked
            if looked_at(found["family"]) == (half == "looked at") and found["model"] in train_with_adamw
        ]
        false = [found["model"] for found in asked if found["grade"] == "fail"]
        checks[half] = {"networks": len(asked), "false_alarms": len(false), "of": false}
        print(half, halves[half], checks[half])
    packages = {name: version(name) for name in PACKAGES}
    values = {"packages": packages, "scores": halves, "checks": checks, "trainings": rows, "checked": checked}
    write("healthy", values)


def declare_torchvision() -> None:
    """Its operators, as the tests of other libraries' models declare them: its wheel is of another torch."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    importlib.import_module("zoo.torchvision_stub")


def slug(name: str) -> str:
    return name.replace("/", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "check", "judge"))
    parser.add_argument("--keep", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    declare_torchvision()
    prepare_process(threads=1)
    {"train": train_all, "check": check_all, "judge": judge}[arguments.what](arguments.keep)


if __name__ == "__main__":
    main()
