"""What watching a transformer costs: GPT-2's 124 million parameters with random weights, on a CPU.

Each way trains a copy of its own with the same batch, and they take turns, forwards and backwards. A step in
which everything is read is held against the step beside it in which nothing is, by the time that the
processor is at work; what gradscape reads is timed within it, part by part. At its default cadence it reads
the first ten steps and then as many as the budgets allow: the first steps, on short batches, are made
beforehand, and the pairs are of what follows. `python benchmarks/transformer_cost.py` takes about three
minutes, prints a table and writes `results/transformer_cost.json`. wandb.watch and torch-module-monitor
(`pip install torch-module-monitor`) are measured beside it where they are installed.
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
from gradscape.measure.watch.schedule import BUDGET, FIRST
from gradscape.measure.watch.transformer.reader import BUDGET as OF_TRANSFORMERS
from gradscape.train.process import prepare_process
from measure import peak_bytes, spread, write

BATCH, LENGTH, SHORT = 2, 128, 8  # samples, tokens of each, and tokens of the first steps
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
    idle: Callable[[float], object] = lambda _: None


def nothing(_: nn.Module, __: torch.optim.Optimizer) -> Way:
    return Way()


def gradscape(model: nn.Module, optimizer: torch.optim.Optimizer, every: int | None = None) -> Way:
    recorder = gs.watch(model, optimizer, every=every, activations=True)._recorder
    parts = {name: getattr(recorder, name) for name in PARTS}
    clocks = [recorder.schedule, recorder.loss, recorder.transformer]

    def idle(seconds: float) -> None:  # time of others must not count as this training's
        for clock in clocks:
            clock.began += seconds

    return Way(spent=lambda: {name: part.spent for name, part in parts.items()}, idle=idle)


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
    "gradscape, default cadence": gradscape,
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
        self.steps, self.ended = 0, time.perf_counter()
        self.way = make(self.model, self.optimizer)

    def step(self, ids: Tensor) -> Step:
        """A step, timed."""
        start, busy, before = time.perf_counter(), time.process_time(), self.way.spent()
        self.way.idle(start - self.ended)
        self.optimizer.zero_grad()
        self.way.before(self.steps)
        self.model(ids, labels=ids, use_cache=False).loss.backward()
        self.way.after(self.steps)
        self.optimizer.step()
        self.steps, self.ended = self.steps + 1, time.perf_counter()
        after = self.way.spent()
        parts = {name: after[name] - before[name] for name in after}
        return Step(self.ended - start, time.process_time() - busy, parts)


def measured(rounds: int) -> dict[str, Any]:
    """Of every way, seconds of its steps, and their ratio to the steps beside them that nothing looks at."""
    trainings = {name: Training(make) for name, make in WAYS.items()}
    ids = torch.randint(0, 50_257, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    for _ in range(FIRST):
        trainings["gradscape, default cadence"].step(ids[:1, :SHORT])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=cores())
    asked = parser.parse_args()
    prepare_process(threads=asked.threads)
    ways = measured(asked.rounds)
    for name, row in ways.items():
        parts = ", ".join(f"{part} {value:.2f} %" for part, value in row["parts_percent"].items())
        print(f"{name:<32} {row['busy_s']['median']:6.2f} s  × {row['ratio']['median']:5.3f}  {parts}")
    from gradscape.measure.watch.loss_recorder import BUDGET as OF_THE_LOSS

    allowed = 100 * (BUDGET + OF_THE_LOSS + OF_TRANSFORMERS)
    print(f"at default cadence, at most {allowed:.2g} % of the time by its budgets; limit {LIMIT:g} %")
    write(
        "transformer_cost",
        {
            "network": "GPT-2, 124 million parameters, random weights, float32, AdamW",
            "batch": BATCH, "length": LENGTH, "threads": asked.threads, "limit_percent": LIMIT,
            "budgets_percent": allowed, "peak_bytes": peak_bytes(), "ways": ways,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
