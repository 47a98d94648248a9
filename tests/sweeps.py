"""Sweeps that were never run: accuracies from closed forms and a fixed generator."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradscape.records.role import Role
from gradscape.records.run import EpochRecord, RunRecord, StudyRecord
from made_records import made_flow

Setting = Mapping[str, Any]
RATES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)
LOST = ("diverged", "stopped", "failed")


def accuracy(setting: Setting) -> float:
    """Deep nets without a norm guess; else there is a best learning rate."""
    rate = math.log10(setting.get("optim.lr", 0.001))
    deep = setting.get("net.depth", 8)
    if deep > 14 and setting.get("net.norm", "batch") == "none":
        return 0.1
    return 0.55 - 0.05 * (rate + 2.7) ** 2 - 0.001 * deep + 0.0002 * setting.get("batch_size", 50)


def flow(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    depth = int(setting.get("net.depth", 8))
    slope = 0.4 if setting.get("net.norm") == "none" else 0.02
    return 10.0 ** (-2 - slope * np.arange(depth)[::-1] + rng.normal(0, 0.1, depth))


def run(setting: Setting, seed: int, epochs: int = 6, noise: float = 0.01, **changes: Any) -> RunRecord:
    """One finished run; a seed does the same to every setting, and a little of its own."""
    own = sum(map(ord, repr(setting)))
    rng, common = np.random.default_rng([seed, own]), np.random.default_rng(seed).normal(0, 2 * noise)
    end = accuracy(setting) + common + rng.normal(0, noise)
    curve = [
        0.1 + (end - 0.1) * (1 - math.exp(-4 * e / epochs)) / (1 - math.exp(-4)) for e in range(1, epochs + 1)
    ]
    records = tuple(
        EpochRecord(e, 0.001, 2.5 - 3 * v, v + 0.02, 2.6 - 3 * v, v, 12.5, 400.0)
        for e, v in enumerate(curve, start=1)
    )
    test = {"loss": 1.0, "accuracy": curve[-1] - 0.01}
    made = RunRecord(
        identity=f"{name(setting)}-s{seed}",
        config={
            "data": {"name": "digits", "train": 1_000},
            "net": {},
            "optim": {"name": "adam", "eps": 1e-8},
            "epochs": epochs,
            "seed": seed,
        },
        state="done",
        status={"attempts": 1, "device": "cpu", "versions": {"torch": "2.13.0"}},
        epochs=records,
        flow=made_flow([flow(setting, rng) for _ in records]),
        test={"last": test, "best": {**test, "epoch": epochs}},
    )
    return dataclasses.replace(made, **changes)


def name(setting: Setting) -> str:
    return " ".join(f"{field}={value}" for field, value in setting.items())


def sweep(
    axes: Mapping[str, Sequence[Any]],
    seeds: int = 3,
    lost: Mapping[str, str] | None = None,
    where: Callable[[Setting], bool] = lambda setting: True,
    **asked: Any,
) -> StudyRecord:
    """All settings of these axes for which `where` holds.

    `lost`: identity → its state, `missing` for a run without a folder.
    """
    settings = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    points = {name(setting): setting for setting in settings if where(setting)}
    runs = {}
    for setting in points.values():
        for seed in range(seeds):
            made = run(setting, seed)
            state = (lost or {}).get(made.identity, "done")
            if state != "missing":
                runs[made.identity] = made if state == "done" else ended(made, state)
    return StudyRecord(
        study="sweep",
        preset="depths",
        asked={
            "title": "Which depth trains at which learning rate?",
            "data": "digits",
            "precision": "fp32",
            "seeds": list(range(seeds)),
            "notes": [],
            "base": {},
            "axes": list(axes),
            **asked,
        },
        roles={
            label: Role(label, parameters=setting, runs=tuple(f"{label}-s{seed}" for seed in range(seeds)))
            for label, setting in points.items()
        },
        runs=runs,
    )


def ended(made: RunRecord, state: str) -> RunRecord:
    """The run, ended otherwise after two epochs."""
    status = {**made.status, "epoch": 3, "step": 17} if state == "diverged" else made.status
    return dataclasses.replace(made, state=state, status=status, epochs=made.epochs[:2], test={})
