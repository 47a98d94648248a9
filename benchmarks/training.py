"""Training VGG38 with BatchNorm: gradscape beside what a user would run instead.

Every loop is a process of its own that waits while another is timed; they take turns, forwards and backwards,
so that a change of the machine's speed meets all of them. `python benchmarks/training.py` takes ten to
twenty minutes, prints what it measures and writes `results/training-INSTRUCTIONS.json`, named after the
processor's vector instructions, and a table beside it. With `--device cuda` all of it is measured on a GPU,
in TF32 (PyTorch's own choice) where a CPU computes in fp32, and runs of a sweep are at once in one process.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import loops
import torch
from loops import Loop, Round, Task
from tables import training

from gradscape._machine import cores
from gradscape.config.run import RunConfig
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.concurrency import images_per_second
from gradscape.study.network_cost import macs_per_image
from gradscape.train.precision import decide, settle
from gradscape.train.process import find_device
from measure import RESULTS, spread, write

# A loop's loss curve agrees with (a)'s if it leaves it no further than (a) leaves itself when its initial
# weights are rounded otherwise, in the last bit of the precision: every step amplifies a difference. Twice
# the furthest of a few is allowed, for they are few.
ROUNDING = {"fp32": 2.0**-24, "bf16": 2.0**-9}
NUDGED, ALLOWED = 3, 2.0
# Adam's epsilon, 1e-8 in the study, costs the same at any value. This one keeps the curves comparable: far
# above a rounding error and far below most gradients, where 1e-8 makes a full step of either.
EPS = 1e-3


@dataclass(frozen=True)
class Entrant:
    """A loop that takes part.

    Attributes:
        title: in the table.
        make: builds the loop in its process.
        processes: side by side, each training a run of its own; the cores are shared out as threads. On CPUs.
        precision: of its convolutions.
        ours: prepare its process as gradscape does.
    """

    title: str
    make: Callable[[Task], Loop]
    processes: int = 1
    precision: str = "fp32"
    ours: bool = False


ENTRANTS = {
    "course": Entrant("(a) course-style loop", lambda task: loops.course(task, cores())),
    "plain": Entrant("(b) competent plain loop", lambda task: loops.plain(task, cores())),
    "compiled": Entrant("(c) b + torch.compile", lambda task: loops.plain(task, cores(), compiled=True)),
    "lightning": Entrant("(d) b in Lightning's Trainer", lambda task: loops.lightning(task, cores())),
    "ours": Entrant("gradscape", lambda task: loops.gradscape(task, "fp32"), ours=True),
    "plain-bf16": Entrant(
        "(b) with bf16 autocast", lambda task: loops.plain(task, cores(), bf16=True), precision="bf16"
    ),
    "ours-bf16": Entrant(
        "gradscape", lambda task: loops.gradscape(task, "bf16"), precision="bf16", ours=True
    ),
    "course-2": Entrant("(a), two runs at once", lambda task: loops.course(task, 0), processes=2),
    "plain-2": Entrant("(b), two runs at once", lambda task: loops.plain(task, 0), processes=2),
    "ours-2": Entrant(
        "gradscape, two runs at once", lambda task: loops.gradscape(task, "fp32"), processes=2, ours=True
    ),
    "ours-2-bf16": Entrant(
        "gradscape, two runs at once",
        lambda task: loops.gradscape(task, "bf16"),
        processes=2,
        precision="bf16",
        ours=True,
    ),
}


def serve(name: str, task: Task, threads: int, connection: Connection) -> None:
    """A loop's process: build it, then train a round whenever told to."""
    if ENTRANTS[name].ours:
        loops.prepared(threads)
    torch.set_num_threads(threads)
    loop = ENTRANTS[name].make(task)
    connection.send("ready")
    while (round_ := connection.recv()) is not None:
        connection.send(loop(round_))


def serve_product(precision: str, device: torch.device, threads: int, connection: Connection) -> None:
    torch.set_num_threads(threads)
    measure = loops.product(precision, device)
    connection.send("ready")
    while connection.recv() is not None:
        connection.send(measure())


class Processes:
    """Like processes that do a round at the same time."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], count: int = 1) -> None:
        context = mp.get_context("spawn")
        self.connections = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            context.Process(target=target, args=(*arguments, theirs)).start()
            theirs.close()  # so that a dead process ends the benchmark
            ours.recv()  # ready: the next is built when this one is
            self.connections.append(ours)

    def round(self, number: int) -> list[Any]:
        for connection in self.connections:
            connection.send(number)
        return [connection.recv() for connection in self.connections]

    def end(self) -> None:
        for connection in self.connections:
            connection.send(None)


def rate(task: Task, rounds: list[Round]) -> float:
    """Images per second of processes side by side."""
    images = (task.steps - 1) * task.config.batch_size * len(rounds)
    return images / (max(each.end for each in rounds) - min(each.start for each in rounds))


def apart(losses: list[float], reference: list[float]) -> float:
    """The largest relative difference of two loss curves."""
    return max(abs(a - b) / b for a, b in zip(losses, reference, strict=True))


def nudged(task: Task, precision: str, seed: int) -> list[float]:
    """The course-style loop's losses from initial weights that are rounded otherwise."""
    loop = loops.course(task, cores(), ROUNDING[precision], seed)
    return [loss for round_ in range(task.rounds) for loss in loop(round_).losses]


def measured(task: Task, names: list[str], rounds: int) -> dict[str, Any]:
    """Rates, losses and peaks of all rounds; the first, in which compilers work, gives no rate."""
    runners = {}
    for name in names:
        begun = time.perf_counter()
        threads = cores() // ENTRANTS[name].processes
        runners[name] = Processes(serve, (name, task, threads), ENTRANTS[name].processes)
        print(f"built in {time.perf_counter() - begun:.0f} s: {ENTRANTS[name].title}", flush=True)
    precisions = sorted({ENTRANTS[name].precision for name in names})
    peaks = {
        precision: Processes(serve_product, (precision, task.device, cores())) for precision in precisions
    }
    rates: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    products: dict[str, list[float]] = {precision: [] for precision in peaks}
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            begun = time.perf_counter()
            done = runners[name].round(number)
            seconds[name].append(time.perf_counter() - begun)
            losses[name] += done[0].losses
            if number:
                rates[name].append(rate(task, done))
            said = f"{rate(task, done):7.1f} images/s, {seconds[name][-1]:.1f} s in all"
            print(f"round {number}  {ENTRANTS[name].title:<32} {said}", flush=True)
        for precision, runner in peaks.items():
            products[precision] += runner.round(number)
    for runner in (*runners.values(), *peaks.values()):
        runner.end()
    others = {
        precision: [nudged(task, precision, seed) for seed in range(1, NUDGED + 1)]
        for precision in precisions
    }
    return {"rates": rates, "losses": losses, "nudged": others, "products": products, "seconds": seconds}


def results(task: Task, raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row for each loop; a ratio only where the loss curves agree."""
    flop = 6 * macs_per_image(task.config)
    rows = {}
    for name, values in raw["rates"].items():
        entrant = ENTRANTS[name]
        differs = apart(raw["losses"][name], raw["losses"]["course"])
        allowed = ALLOWED * max(
            apart(nudged, raw["losses"]["course"]) for nudged in raw["nudged"][entrant.precision]
        )
        agrees = differs <= allowed
        peak = median(raw["products"][entrant.precision])
        ratios = [value / base for value, base in zip(values, raw["rates"]["course"], strict=True)]
        rows[name] = {
            "title": entrant.title,
            "precision": loops.computed_in(entrant.precision, task.device),
            "processes": entrant.processes,
            "images_per_second": spread(values),
            "to_course": spread(ratios) if agrees else None,
            "of_peak": flop * median(values) / peak,
            "loss_difference": differs,
            "loss_difference_allowed": allowed,
            "start_seconds": raw["seconds"][name][0] - median(raw["seconds"][name][1:]),
        }
    return rows


def able(names: list[str], device: torch.device) -> tuple[list[str], str]:
    """The loops that this machine can run as they are meant, and why the others are left out."""
    _, fallback = settle("bf16", device)
    names = [name for name in names if not fallback or ENTRANTS[name].precision != "bf16"]
    if device.type == "cuda":  # where runs of a sweep share a process
        names = [name for name in names if ENTRANTS[name].processes == 1]
    return names, fallback


def at_once(
    config: RunConfig, device: torch.device, counts: list[int], rounds: int
) -> dict[str, dict[str, Any]]:
    """Images per second of all runs of a sweep together on a GPU, by how many there are at once."""
    how = decide("bf16", device)
    rates: dict[str, list[float]] = {str(count): [] for count in counts}
    for number in range(rounds):
        for count in counts if number % 2 else reversed(counts):
            rates[str(count)].append(images_per_second(config, device, how, count, timed=200))
    return {count: spread(values) for count, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--steps", type=int, help="of a round, by default 9, on a GPU 60; the first is not timed"
    )
    parser.add_argument("--only", nargs="*", default=list(ENTRANTS), choices=ENTRANTS)
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 2, 4, 8, 16], help="runs, on a GPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    device = find_device(given.device)
    paper = BATCHNORM.plan("paper", None, 1).configs["vgg38-bn"]
    config = replace(paper, optim=replace(paper.optim, eps=EPS))
    task = Task(config, given.steps or (60 if device.type == "cuda" else 9), given.rounds + 1, device)
    names, left_out = able(given.only, device)
    raw = measured(task, names, given.rounds)
    rows = results(task, raw)
    for name, row in rows.items():
        print(name, row)
    found = {
        "network": config.label,
        "timed_images_per_round": (task.steps - 1) * config.batch_size,
        "gflop_per_image": 6 * macs_per_image(config) / 1e9,
        "peak_gflops": {
            loops.computed_in(p, device): spread([v / 1e9 for v in values])
            for p, values in raw["products"].items()
        },
        "left_out": left_out,
        "loops": rows,
        "losses": raw["losses"],
        "losses_of_nudged": raw["nudged"],
    }
    if device.type == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "at_once_bf16": at_once(config, device, given.at_once, given.rounds),
        }
    kind = "cuda" if device.type == "cuda" else torch.backends.cpu.get_cpu_capability().lower()
    write(f"training-{kind}", found)
    (RESULTS / f"training-{kind}.md").write_text(f"{training(kind)}\n")


if __name__ == "__main__":
    main()
