"""Studies that were never run: plausible numbers, from closed forms and a fixed generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradscape.records.curvature import CurvatureRecord
from gradscape.records.encoding import Values
from gradscape.records.landscape import LandscapeRecord, TrainingPath
from gradscape.records.run import (
    EpochRecord,
    RunRecord,
    StudyRecord,
)
from gradscape.records.signal import RunStart
from gradscape.records.smoothness import StepSmoothness
from gradscape.studies.batchnorm.study import BATCHNORM
from made_records import made_curvature, made_flow, made_signal, made_smoothness

# Final train and validation accuracy by role, near the paper's; the plain net guesses.
ACCURACY = {
    "vgg08": (0.50, 0.47),
    "vgg08-bn": (0.55, 0.48),
    "vgg38": (0.01, 0.01),
    "vgg38-bn": (0.547, 0.455),
    "vgg38-he": (0.011, 0.01),
    "lr-0.0001": (0.493, 0.402),
    "lr-0.0005": (0.599, 0.477),
    "lr-0.001": (0.547, 0.455),
    "lr-0.005": (0.518, 0.448),
    "lr-0.01": (0.547, 0.479),
    "lr-0.05": (0.411, 0.367),
    "batch-50": (0.20, 0.180),
    "batch-100": (0.411, 0.367),
    "batch-150": (0.41, 0.365),
    "batch-200": (0.42, 0.372),
    "batch-400": (0.519, 0.427),
    "batch-800": (0.53, 0.438),
}
BETA = {
    "vgg08": 50.0,
    "vgg08-bn": 5.0,
    "vgg38": 200.0,
    "vgg38-bn": 20.0,
    "vgg38-he": 100.0,
    "batch-50": 60.0,
    "batch-800": 6.0,
}
WITH_LANDSCAPE = ("vgg38", "vgg38-bn", "batch-800")  # some: contours take most of a report's time
SAME = {"lr-0.001": "vgg38-bn", "batch-100": "lr-0.05"}  # roles that share another's runs


def gradients(role: str, epoch: int, seed: int, zeros: bool = False) -> Values:
    """37 (or 7) convolutions and a linear layer; the plain deep net shrinks by 10^0.4 a layer."""
    depth = 8 if role.startswith("vgg08") else 38
    layer = np.arange(depth)
    noise = np.random.default_rng([seed, epoch, depth]).normal(0, 0.08, depth)
    if role == "vgg38":
        exponent = -3.5 - 0.42 * (depth - 1 - layer) - 0.15 * epoch
    else:
        exponent = -1.6 - 1.2 * layer / depth - 0.02 * epoch
    values = 10.0 ** (exponent + noise)
    if zeros:
        values[values < 1e-17] = 0.0
    return values


WAYS = tuple(enumerate(("gradient", "step", "relative")))


def varied(role: str, seed: int) -> float:
    """What a seed does to every role, and a little that it does to some: no two differ by a constant."""
    return (1 + 0.05 * seed) * (1 if "bn" in role or role == "batch-800" else 1 + 0.01 * seed)


def measure(role: str, along: str, step: int, seed: int, lr: float) -> StepSmoothness:
    """Of a loss as smooth as `BETA` says, give or take a seed's own tenth."""
    beta = BETA.get(role, 40.0) * varied(role, seed)
    distances = (0.05, 0.4) if along == "relative" else (0.5 * lr, 4 * lr)
    losses, changes = [2.0 - 0.1 * beta * d for d in distances], [beta * d for d in distances]
    return made_smoothness(step, along, lr, losses, changes, distances)


def curvature(role: str, seed: int, trained: float) -> CurvatureRecord:
    """A bulk around zero and one eigenvalue far from it, as large as `BETA` says."""
    largest = trained * BETA.get(role, 40.0) * varied(role, seed)
    bulk = np.linspace(-0.05, 0.1, 19) * largest
    nodes = tuple(map(float, (*bulk, largest)))
    weights = (0.05,) * 19 + (0.05,)
    return made_curvature(nodes, weights, largest, 500, 338_052)


def start(gradients: Sequence[float], correlations: Sequence[float]) -> RunStart:
    """A network before its first step: convolutions and a linear layer, a number of each for each layer."""
    return RunStart(made_signal(correlations), made_flow([gradients], first=0))


def landscape(loss: Values, path: TrainingPath | None = None, **changes: Any) -> LandscapeRecord:
    """A record of these surfaces over -1 to 1."""
    axes = tuple(np.linspace(-1, 1, count) for count in loss.shape[1:])
    values: dict[str, Any] = {
        "directions": ("filter-normalized",) * len(axes),
        "axes": axes,
        "loss": loss,
        "error": np.full(loss.shape, 0.01),
        "metrics": {"accuracy": 1 / (1 + loss)},
        "measured": np.ones(loss.shape, dtype=bool),
        "lengths": np.ones((len(loss), len(axes))),
        "middle": loss.reshape(len(loss), -1).min(axis=1),
        "between": False,
        "bn": "running",
        "precision": "fp32",
        "parameters": 1_000,
        "samples": 500,
        "error_n": 500,
        "check": None,
        "path": path,
        "convexity": None,
        "evaluations": loss.size,
        "seconds": 1.0,
        "complete": True,
        "notes": (),
    }
    return LandscapeRecord(**(values | changes))


def bowl(steep: float, points: int = 9) -> Values:
    c = np.linspace(-1, 1, points)
    return 0.1 + steep * (c[:, None] ** 2 + 2 * c[None] ** 2)[None]


def run(role: str, seed: int, epochs: int = 8, data: str = "cifar100", **changes: Any) -> RunRecord:
    """One finished run of a role."""
    rng = np.random.default_rng([seed, len(role), sum(map(ord, role))])
    rise = 1 - np.exp(-3 * np.arange(1, epochs + 1) / epochs)
    train, valid = (
        0.01 + np.maximum(end - 0.01, 0) * rise + rng.normal(0, 0.004, epochs) * (1 if end > 0.02 else 0.1)
        for end in ACCURACY[role]
    )
    chance_loss = float(np.log(100))
    lr = float(role.removeprefix("lr-")) if role.startswith("lr-") else 0.05 if "batch" in role else 0.001
    batch = int(role.removeprefix("batch-")) if role.startswith("batch-") else 100
    zeros = bool(changes.pop("zeros", False))
    records = tuple(
        EpochRecord(
            epoch=i + 1,
            lr=lr,
            train_loss=chance_loss - 5.0 * float(train[i] - 0.01),
            train_accuracy=float(train[i]),
            valid_loss=chance_loss - 5.2 * float(valid[i] - 0.01),
            valid_accuracy=float(valid[i]),
            seconds=12.5,
            images_per_second=400.0,
            smoothness=tuple(
                measure(role, along, i * 47_500 // batch + 50 * n, seed, lr) for n, along in WAYS
            ),
        )
        for i in range(epochs)
    )
    end = {"loss": records[-1].valid_loss, "accuracy": records[-1].valid_accuracy - 0.005}
    made = RunRecord(
        identity=f"{role}-s{seed}",
        config={
            "net": {"depth": 8 if role.startswith("vgg08") else 38},
            "data": {"name": data, "train": 47_500},
            "optim": {"name": "adam", "lr": lr, "eps": 1e-8},
            "batch_size": batch,
            "curvature_images": 500,
            "epochs": epochs,
            "seed": seed,
        },
        state="done",
        status={"attempts": 1, "device": "cpu", "threads": 1, "versions": {"torch": "2.13.0"}},
        epochs=records,
        flow=made_flow([gradients(role, i + 1, seed, zeros) for i in range(epochs)]),
        test={"last": end, "best": {**end, "epoch": epochs}},
        curvature={"start": curvature(role, seed, 0.5), "end": curvature(role, seed, 1.0)},
        landscape=landscape(bowl(BETA[role] * (1 + 0.05 * seed))) if role in WITH_LANDSCAPE else None,
    )
    return dataclasses.replace(made, **changes)


def diverged(role: str, seed: int, epoch: int, step: int, epochs: int = 8) -> RunRecord:
    """A run that diverged in an epoch, so that only those before it are recorded."""
    whole = run(role, seed, epochs)
    return dataclasses.replace(
        whole,
        state="diverged",
        status={**whole.status, "epoch": epoch, "step": step},
        epochs=whole.epochs[: epoch - 1],
        test={},
    )


def study(
    seeds: int = 3,
    epochs: int = 8,
    replaced: Mapping[str, RunRecord | None] | None = None,
    zeros: bool = False,
) -> StudyRecord:
    """The whole study; `replaced`: identity → another record, or None for a run without a folder."""
    planned = BATCHNORM.plan("paper").roles
    roles = {
        role: dataclasses.replace(
            planned[role], runs=tuple(f"{SAME.get(role, role)}-s{seed}" for seed in range(seeds))
        )
        for role in ACCURACY
    }
    runs = {}
    for role in ACCURACY:
        for seed in range(seeds):
            if role not in SAME:
                made = run(role, seed, epochs, zeros=zeros and role == "vgg38")
                runs[made.identity] = made
    for identity, record in (replaced or {}).items():
        if record is None:
            del runs[identity]
        else:
            runs[identity] = record
    return StudyRecord(
        study="batchnorm",
        preset="quick",
        asked={
            "title": "How does BatchNorm solve the vanishing gradients problem?",
            "data": "cifar100",
            "seeds": list(range(seeds)),
            "notes": [f"{epochs} epochs instead of 100.", "Images are <em>small</em> & few."],
        },
        roles=roles,
        runs=runs,
    )


def broken_study(seeds: int = 2) -> StudyRecord:
    """Everything that can be missing: no folder, pending, running, failed, diverged early and late."""
    pending = dataclasses.replace(run("batch-400", 0), state="pending", epochs=(), test={})
    half = run("lr-0.0001", 1)
    running = dataclasses.replace(half, state="running", epochs=half.epochs[:3], test={})
    failed = dataclasses.replace(run("lr-0.005", 0), state="failed", epochs=(), test={})
    return study(
        seeds,
        replaced={
            "batch-800-s0": None,
            "batch-800-s1": None,
            "batch-400-s0": pending,
            "lr-0.0001-s1": running,
            "lr-0.005-s0": failed,
            "lr-0.05-s0": diverged("lr-0.05", 0, 1, 17),
            "lr-0.05-s1": diverged("lr-0.05", 1, 1, 40),
            "batch-50-s0": diverged("batch-50", 0, 5, 3),
            "vgg08-s0": None,
            "vgg08-s1": None,
        },
        zeros=True,
    )


def with_curves(record: RunRecord, **curves: tuple[float, ...]) -> RunRecord:
    """The run with other values of some `EpochRecord` fields, one per epoch."""
    epochs = [
        dataclasses.replace(epoch, **{name: values[i] for name, values in curves.items()})
        for i, epoch in enumerate(record.epochs)
    ]
    return dataclasses.replace(record, epochs=tuple(epochs))
