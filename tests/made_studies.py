"""Folders of studies that were never run, written as a training writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import tiny
from gradscape.config.run import RunConfig
from gradscape.records.gradients import FlowHistory
from gradscape.records.role import Role
from gradscape.records.run import EpochRecord
from gradscape.records.smoothness import StepSmoothness
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from made_records import made_flow, made_smoothness

LAYERS = ("entry.weight", "entry.bias", "norm.weight", "linear.weight")


def flow(number: int, layers: int = 2) -> FlowHistory:
    """Gradients of an epoch, told from its number where float32 still has them."""
    names = (*LAYERS[:3], *(f"conv{i}.weight" for i in range(layers)), LAYERS[3])
    kinds = ("conv", "bias", "norm", *("conv",) * layers, "linear")
    return made_flow(
        [[10.0 ** -min(number, 30) * (i + 1) / 7 for i in range(len(names))]], names, kinds, number
    )


def add(folder: RunFolder, *epochs: EpochRecord, layers: int = 2) -> None:
    for each in epochs:
        folder.append(each, flow(each.epoch, layers))


def epoch(number: int, **changes: Any) -> EpochRecord:
    """An epoch whose numbers are told from its number; `valid_accuracy` peaks at 3."""
    values: dict[str, Any] = {
        "lr": 0.01 / number,
        "train_loss": 2.0 / number,
        "train_accuracy": number / 1_000,
        "valid_loss": 3.0 / number,
        "valid_accuracy": (100 - abs(number - 3)) / 200,
        "seconds": 2.0 + number,
        "images_per_second": 100.0 + number,
    }
    return EpochRecord(number, **(values | changes))


def measure(along: str, change: float) -> StepSmoothness:
    return made_smoothness(0, along, 0.1, (2.5, 4.0), (change, change), (0.5, 4.0))


def results(last: int, best: int) -> dict[str, Any]:
    return {
        "last": {"epoch": last, "loss": 1.5, "accuracy": 0.25},
        "best": {"epoch": best, "loss": 1.25, "accuracy": 0.375},
    }


def put(
    study: Path, config: RunConfig, state: str | None, epochs: Sequence[EpochRecord] = (), **status: Any
) -> RunFolder:
    """A run's folder in that state; None leaves it out, as of a run that was asked for only."""
    folder = StudyFolder(study).run(config.identity)
    if state is not None:
        folder.create(config)
        add(folder, *epochs)
        folder.set_status(state, **status)
    return folder


def ask(study: Path, runs: Mapping[str, RunConfig] | Sequence[RunConfig]) -> None:
    configs = list(runs.values() if isinstance(runs, Mapping) else runs)
    roles = {
        "all": Role("all", runs=tuple(config.identity for config in configs)),
        "again": Role("again", runs=(configs[0].identity,)),
    }
    StudyFolder(study).ask(
        {"study": "batchnorm", "title": "?", "preset": "quick", "seeds": [0], "notes": [], "roles": roles}
    )


def spoil(path: Path, line: int, place: int) -> None:
    """Flip a bit of one line."""
    lines = path.read_bytes().splitlines(keepends=True)
    data = bytearray(lines[line])
    data[place] ^= 1
    path.write_bytes(b"".join([*lines[:line], bytes(data), *lines[line + 1 :]]))


def every_state(study: Path) -> dict[str, RunConfig]:
    """A study with a run in each state that needs nobody at work, and one without a folder."""
    words = ("done", "diverged", "failed", "stopped", "killed", "new", "absent")
    runs = {word: tiny(seed=seed, epochs=4) for seed, word in enumerate(words)}
    here = {"host": "node1", "device": "x86_64", "attempts": 1}
    four, two = [epoch(n) for n in (1, 2, 3, 4)], [epoch(1), epoch(2)]
    put(study, runs["done"], "done", four, **here, test=results(4, 3), fallback="bf16 is slower here: fp32")
    put(study, runs["diverged"], "diverged", two, **here, epoch=3, step=17)
    put(
        study,
        runs["failed"],
        "failed",
        two,
        **here | {"attempts": 3},
        error="Traceback\n  …\nValueError: no [1]",
    )
    put(study, runs["stopped"], "stopped", two, **here, reason="worse than the median\nat epoch 2")
    put(study, runs["killed"], "running", two, **here)
    put(study, runs["new"], "pending")
    ask(study, runs)
    return runs
