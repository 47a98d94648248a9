"""What watching a transformer costs: GPT-2's 124 million parameters with random weights, on a CPU.

1. A step that is read: each way trains a copy of its own with the same batch, and they take turns, forwards
   and backwards. A step is held against the step beside it at which nothing looks, by the time that the
   processor is at work; what gradscape reads is timed within it, part by part.
2. A training: watched from its first step at the default cadence, which reads the first ten steps and then as
   many as its budgets allow; the share of the time that it has taken, after so many steps.

`python benchmarks/transformer_cost.py` takes about twelve minutes, prints a table and writes
`results/transformer_cost.json`. wandb.watch and torch-module-monitor (`pip install torch-module-monitor`) are
measured beside it where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import gradscape as gs
from gradscape._machine import cores
from gradscape.measure.watch.loss_recorder import BUDGET as OF_THE_LOSS
from gradscape.measure.watch.schedule import BUDGET
from gradscape.measure.watch.transformer.reader import BUDGET as OF_TRANSFORMERS
from gradscape.train.process import prepare_process
from measure import spread, write

BATCH, LENGTH = 2, 128  # samples, and tokens of each
AFTER = (10, 20, 50, 100, 150, 200, 300, 500, 1_000)  # steps after which the share of the time is noted
LIMIT = 3.0  # per cent that watching may cost, with attention and activations, at default cadence
PARTS = ("reader", "outputs", "loss", "transformer")
IN_WORDS = {
    "reader": "gradients",
    "outputs": "activations",
    "loss": "loss",
    "transformer": "attention and beyond",
}


@dataclass
class Way:
    """How a training is looked at: before and after a step, and the seconds of each part so far."""

    before: Callable[[int], object] = lambda _: None
    after: Callable[[int], object] = lambda _: None
    spent: Callable[[], dict[str, float]] = dict


def nothing(_: nn.Module, __: torch.optim.Optimizer) -> Way:
    return Way()


def gradscape(model: nn.Module, optimizer: torch.optim.Optimizer, every: int | None = None) -> Way:
    recorder = gs.watch(model, optimizer, every=every, activations=True)._recorder
    parts = {name: getattr(recorder, name) for name in PARTS}
    return Way(spent=lambda: {name: part.spent for name, part in parts.items()})


def each_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Way:
    return gradscape(model, optimizer, every=1)


def wandb_watch(model: nn.Module, _: torch.optim.Optimizer) -> Way:
    """Histograms of gradients, its default, at each step rather than at each thousandth."""
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    run = wandb.init(mode="offline", dir=tempfile.mkdtemp(), settings=wandb.Settings(console="off"))
    run.watch(model, log="gradients", log_freq=1)
    return Way(after=lambda step: run.log({"step": step}))


def module_monitor(model: nn.Module, _: torch.optim.Optimizer) -> Way:
    """The metrics of its README: means of activations, norms of parameters and gradients."""
    from torch_module_monitor import ModuleMonitor

    monitor = ModuleMonitor(monitor_step_fn=lambda _: True)
    monitor.set_module(model)
    monitor.add_activation_metric("mean", lambda x: x.mean())
    monitor.add_parameter_metric("norm", lambda x: x.norm())
    monitor.add_gradient_metric("norm", lambda x: x.norm())

    def after(_: int) -> None:
        monitor.monitor_parameters()
        monitor.monitor_gradients()
        monitor.end_step()

    return Way(before=monitor.begin_step, after=after)


WAYS: dict[str, Callable[[nn.Module, torch.optim.Optimizer], Way]] = {
    "not watched": nothing,
    "gradscape, each step": each_step,
}
if importlib.util.find_spec("wandb"):
    WAYS["wandb.watch, each step"] = wandb_watch
if importlib.util.find_spec("torch_module_monitor"):
    WAYS["torch-module-monitor, each step"] = module_monitor


@dataclass
class Step:
    """Seconds of a step, those that the processor was at work, and those of each part that looks at it."""

    seconds: float
    busy: float
    parts: dict[str, float]

    def percent(self, part: str) -> float:
        """A part of the step over what is left without all parts: others may share the processor."""
        return 100 * self.parts[part] / (self.seconds - sum(self.parts.values()))


class Training:
    """A copy of the network, trained a step at a time."""

    def __init__(self, make: Callable[[nn.Module, torch.optim.Optimizer], Way]) -> None:
        torch.manual_seed(0)
        self.model = GPT2LMHeadModel(GPT2Config())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.steps = 0
        self.way = make(self.model, self.optimizer)

    def step(self, ids: Tensor) -> Step:
        """A step, timed."""
        start, busy, before = time.perf_counter(), time.process_time(), self.way.spent()
        self.optimizer.zero_grad()
        self.way.before(self.steps)
        self.model(ids, labels=ids, use_cache=False).loss.backward()
        self.way.after(self.steps)
        self.optimizer.step()
        self.steps, ended = self.steps + 1, time.perf_counter()
        after = self.way.spent()
        parts = {name: after[name] - before[name] for name in after}
        return Step(ended - start, time.process_time() - busy, parts)


def batch() -> Tensor:
    return torch.randint(0, 50_257, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def measured(rounds: int) -> dict[str, Any]:
    """Of every way, seconds of its steps, and their ratio to the steps beside them that nothing looks at."""
    trainings, ids = {name: Training(make) for name, make in WAYS.items()}, batch()
    taken: dict[str, list[Step]] = {name: [] for name in trainings}
    for number in range(1 + rounds):
        for name in trainings if number % 2 else reversed(trainings):
            found = trainings[name].step(ids)
            if number:  # the first touches memory
                taken[name].append(found)
                print(f"{number} {name}: {found.seconds:.2f} s, {found.busy:.2f} s at work", flush=True)
    alone = [each.busy for each in taken["not watched"]]
    return {
        name: {
            "step_s": spread([each.seconds for each in steps]),
            "busy_s": spread([each.busy for each in steps]),
            "ratio": spread([each.busy / beside for each, beside in zip(steps, alone, strict=True)]),
            "parts_percent": {IN_WORDS[p]: median(each.percent(p) for each in steps) for p in steps[0].parts},
        }
        for name, steps in taken.items()
    }


def course(steps: int) -> dict[str, Any]:
    """Of a training watched at the default cadence, the share of the time that each part has taken."""
    training, ids, began, shares = Training(gradscape), batch(), time.perf_counter(), {}
    for step in range(1, steps + 1):
        training.step(ids)
        if step in AFTER or step == steps:
            elapsed, spent = time.perf_counter() - began, training.way.spent()
            shares[step] = {IN_WORDS[part]: 100 * seconds / elapsed for part, seconds in spent.items()}
            print(f"after {step} steps, {elapsed:.0f} s: {sum(shares[step].values()):.2f} %", flush=True)
    return {"seconds": elapsed, "percent_after": shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=cores())
    asked = parser.parse_args()
    prepare_process(threads=asked.threads)
    ways, watched = measured(asked.rounds), course(asked.steps)
    for name, row in ways.items():
        parts = ", ".join(f"{part} {value:.2f} %" for part, value in row["parts_percent"].items())
        print(f"{name:<32} {row['busy_s']['median']:6.2f} s  × {row['ratio']['median']:5.3f}  {parts}")
    allowed = 100 * (BUDGET + OF_THE_LOSS + OF_TRANSFORMERS)
    write(
        "transformer_cost",
        {
            "network": "GPT-2, 124 million parameters, random weights, float32, AdamW",
            "batch": BATCH, "length": LENGTH, "threads": asked.threads, "limit_percent": LIMIT,
            "budgets_percent": allowed, "ways": ways, "default_cadence": watched,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
