"""How good is the verdict: small networks of many families, diagnosed after a few steps and then trained.

Networks differ in kind (MLP, convolutional), depth, width, initialisation, norm, skip connections, activation
and optimiser. A family is a kind with an activation, a norm and skips or none; limits may be set on half of
the families only, and were, on draws 0 to 2 and on those families of draws 3 and 4. What is held out are
combinations: every kind, activation, norm and skip is among the families looked at too, with others.

`python benchmarks/verdicts.py --draw 3` draws other networks of the same families, takes half an hour on two
cores and writes `results/verdicts-3.json`. `--again` judges those by today's rules: it trains the first steps
only, and takes from the file who trains; `--keep DIR` keeps what was watched of them, for the next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing as mp
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape._machine import cores
from gradscape.measure.watch.watch import Watch
from gradscape.records.gradients import FlowHistory
from gradscape.train.process import prepare_process
from measure import RESULTS, write

CLASSES, BATCH = 10, 32
LOOKED_AT, STEPS = 50, 1_000
LEARNT = 0.6  # of the loss of guessing: who gets below has begun to learn, and need not go on

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
OPTIMIZERS = {
    "sgd": lambda p, scale: torch.optim.SGD(p, lr=0.05 * scale, momentum=0.9),
    "adam": lambda p, scale: torch.optim.Adam(p, lr=0.001 * scale),
}
LR_SCALES = (1.0, 1.0, 1.0, 1.0, 0.003, 30.0)
INITS = ("torch", "he", "glorot", "small", "large")


@dataclass(frozen=True)
class Case:
    kind: str
    depth: int
    width: int
    init: str
    norm: str
    skip: bool
    activation: str
    optimizer: str
    lr_scale: float
    seed: int

    @property
    def family(self) -> str:
        return f"{self.kind} {self.activation} {self.norm}{' skip' if self.skip else ''}"


class Block(nn.Module):
    """A linear map, a norm, an activation; its input added if asked for."""

    def __init__(self, inner: nn.Module, skip: bool) -> None:
        super().__init__()
        self.inner, self.skip = inner, skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out + x if self.skip and out.shape == x.shape else out


def linear(case: Case, inputs: int) -> nn.Module:
    if case.kind == "mlp":
        return nn.Linear(inputs, case.width)
    return nn.Conv2d(inputs, case.width, 3, padding=1)


def norm(case: Case) -> nn.Module:
    if case.norm == "batch":
        return nn.BatchNorm1d(case.width) if case.kind == "mlp" else nn.BatchNorm2d(case.width)
    if case.norm == "layer":
        return nn.LayerNorm(case.width) if case.kind == "mlp" else nn.GroupNorm(1, case.width)
    return nn.Identity()


def initialise(model: nn.Module, init: str) -> None:
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d) or init == "torch":
            continue
        if init == "glorot":
            nn.init.xavier_normal_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= {"he": 1.0, "small": 0.5, "large": 2.0}[init]
        nn.init.zeros_(module.bias)


def build(case: Case) -> nn.Module:
    torch.manual_seed(case.seed)
    inputs = 64 if case.kind == "mlp" else 1
    layers: list[nn.Module] = [nn.Flatten()] if case.kind == "mlp" else []
    for _ in range(case.depth - 1):
        inner = nn.Sequential(linear(case, inputs), norm(case), ACTIVATIONS[case.activation]())
        layers.append(Block(inner, case.skip))
        inputs = case.width
    if case.kind == "conv":
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        inputs *= 4
    model = nn.Sequential(*layers, nn.Linear(inputs, CLASSES))
    initialise(model, case.init)
    return model


def cases(count: int, seed: int) -> list[Case]:
    """A sample of all combinations, as many of each family."""
    draw = random.Random(seed)
    families = list(
        itertools.product(("mlp", "conv"), ACTIVATIONS, ("none", "batch", "layer"), (False, True))
    )
    found = []
    for number in range(count):
        kind, activation, norm_, skip = families[number % len(families)]
        found.append(
            Case(
                kind, draw.choice((3, 6, 12, 24, 36)), draw.choice((16, 32)), draw.choice(INITS), norm_, skip,
                activation, draw.choice(tuple(OPTIMIZERS)), draw.choice(LR_SCALES), draw.randrange(1_000),
            )
        )  # fmt: skip
    return found


def data() -> tuple[Tensor, Tensor]:
    """The embedded digits, 8×8, as standardised numbers."""
    images = gs.load_images("digits")
    x = torch.from_numpy(np.array(images.train_images[:, ::2, ::2, 0])).float()
    return (x - x.mean()).div(x.std()).unsqueeze(1), torch.from_numpy(np.array(images.train_labels)).long()


def begun(case: Case) -> tuple[Watch, Iterator[float]]:
    """A watched training, and its losses step by step for as long as one asks."""
    prepare_process(threads=1)
    x, y = data()
    model = build(case)
    optimizer = OPTIMIZERS[case.optimizer](model.parameters(), case.lr_scale)
    generator = torch.Generator().manual_seed(case.seed)

    def steps() -> Iterator[float]:
        while True:
            chosen = torch.randint(0, len(x), (BATCH,), generator=generator)
            optimizer.zero_grad()
            loss = cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            yield loss.item()

    return gs.watch(model, optimizer, every=1, activations=True), steps()


def watched(case: Case) -> tuple[FlowHistory, list[float]]:
    """What a watch saw of the first steps, and their losses."""
    flow, steps = begun(case)
    losses = list(itertools.islice(steps, LOOKED_AT))
    return flow.history(), losses


def train(case: Case) -> tuple[FlowHistory, list[float]]:
    """What a watch saw of the first steps, and the losses until the network has learnt, or all of them."""
    flow, steps = begun(case)
    losses = list(itertools.islice(steps, LOOKED_AT))
    flow.close()
    while len(losses) < STEPS and not learnt(losses):
        losses.append(next(steps))
    return flow.history(), losses


def learnt(losses: list[float]) -> bool:
    return len(losses) >= LOOKED_AT + 20 and sum(losses[-20:]) / 20 < LEARNT * math.log(CLASSES)


def row(case: Case) -> dict[str, Any]:
    history, losses = train(case)
    return {
        "case": asdict(case),
        "family": case.family,
        "trains": learnt(losses),
        "steps": len(losses),
        "losses": [float(f"{loss:.3g}") for loss in losses[:: len(losses) // 20]],
        **judged(history, losses),
    }


def judged(history: FlowHistory, losses: list[float]) -> dict[str, Any]:
    """What is said after the first steps, without activations and with them, and what simpler rules go by."""
    with np.errstate(all="ignore"):
        diagnosis, fuller = gs.diagnose(replace(history, activations=None)), gs.diagnose(history)
    return {
        "verdict": diagnosis.verdict,
        "grade": diagnosis.grade,
        "verdict_with_activations": fuller.verdict,
        "grade_with_activations": fuller.grade,
        "layer": diagnosis.layer,
        "smallest_gradient": float(np.nanmin(history.mean_abs[:, history.weights])),
        "loss_then": losses[LOOKED_AT - 1] if math.isfinite(losses[LOOKED_AT - 1]) else None,
    }


def again(draw: int, keep: Path | None) -> Iterator[dict[str, Any]]:
    """The networks of a draw judged by today's rules; who trains is what the draw itself has shown."""
    known = json.loads((RESULTS / f"verdicts-{draw}.json").read_text())["networks"]
    for number, old in enumerate(known):
        path = keep / f"{draw}-{number}.pickle" if keep else None
        if path and path.exists():
            history, losses = pickle.loads(path.read_bytes())
        else:
            history, losses = watched(Case(**old["case"]))
            if path:
                path.write_bytes(pickle.dumps((history, losses)))
        yield {**old, **judged(history, losses)}


def held_out(families: list[str]) -> set[str]:
    """Half of the families, drawn once: no limit may be set by looking at them."""
    return set(random.Random(1).sample(sorted(set(families)), len(set(families)) // 2))


Rule = Callable[[dict[str, Any]], bool]


def score(rows: list[dict[str, Any]], fails: Rule) -> dict[str, Any]:
    """How often a rule is right, calls a network ill that trains, and misses one that does not."""
    trains = [row["trains"] for row in rows]
    said = [fails(row) for row in rows]
    false_alarms = sum(t and s for t, s in zip(trains, said, strict=True))
    missed = sum(not t and not s for t, s in zip(trains, said, strict=True))
    return {
        "networks": len(rows),
        "do_not_train": len(rows) - sum(trains),
        "right": 1 - (false_alarms + missed) / len(rows),
        "false_alarms": false_alarms,
        "missed": missed,
    }


def by_the_loss(rows: list[dict[str, Any]]) -> tuple[str, Rule]:
    """The best limit, on these networks, of the last mini-batch's loss: who is above is said to fail."""
    losses = sorted(loss_of(row) for row in rows)
    limit = max(losses, key=lambda each: score(rows, lambda row: loss_of(row) > each)["right"])
    return f"loss of one mini-batch after {LOOKED_AT} steps", lambda row: loss_of(row) > limit


def loss_of(row: dict[str, Any]) -> float:
    loss = row["loss_then"]
    return math.inf if loss is None else float(loss)


RULES: dict[str, Rule] = {
    "gradscape": lambda row: row["grade"] == "fail",
    "gradscape, activations too": lambda row: row["grade_with_activations"] == "fail",
    "smallest gradient < 1e-6": lambda row: not row["smallest_gradient"] >= 1e-6,
    "each trains": lambda row: False,
}


def trained(chosen: list[Case]) -> Iterator[dict[str, Any]]:
    gs.load_images("digits")  # cached before the workers ask
    with mp.get_context("spawn").Pool(cores()) as pool:
        yield from pool.imap(row, chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=288)
    parser.add_argument("--draw", type=int, required=True)
    parser.add_argument(
        "--again", action="store_true", help="judge the networks of results/verdicts-DRAW.json"
    )
    parser.add_argument("--keep", type=Path, help="folder of what was watched; used with --again")
    arguments = parser.parse_args()
    draw = arguments.draw
    rows = []
    for found in again(draw, arguments.keep) if arguments.again else trained(cases(arguments.count, draw)):
        rows.append(found)
        print(f"{len(rows):>4} {found['case']} {found['verdict']} {found['losses'][-1]}", flush=True)
    out = held_out([row["family"] for row in rows])
    halves = {
        "looked at": [row for row in rows if row["family"] not in out],
        "held out": [row for row in rows if row["family"] in out],
    }
    rules = dict([*RULES.items(), by_the_loss(halves["looked at"])])
    scores = {
        half: {rule: score(some, fails) for rule, fails in rules.items()} for half, some in halves.items()
    }
    for half, by_rule in scores.items():
        for rule, numbers in by_rule.items():
            print(half, rule, numbers)
    write(f"verdicts-{draw}", {"held_out": sorted(out), "scores": scores, "networks": rows})


if __name__ == "__main__":
    main()
