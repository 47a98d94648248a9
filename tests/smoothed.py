"""Studies of smoothing that were never run: each network at a rate is given by a few numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

import synthetic
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness
from gradscape.studies.smoothing.report import QUESTION
from gradscape.studies.smoothing.roles import BASE, NETWORKS, STARTS, role_of
from made_records import made_curvature, made_flow, made_smoothness

RATES = (BASE, 0.003, 0.01)
EACH = 10**0.01  # times more with BatchNorm for every seed, so that no two seeds are equal
LOSS = 2.0  # nats: 0.43 of guessing among 100 classes
GUESS = 4.6


class Shape(NamedTuple):
    """What a network comes to: measures along gradient and step, λmax, ‖w‖ and final accuracy."""

    relative: float = 10.0
    lipschitz: float = 1.0
    beta: float = 100.0
    largest: float = 1_000.0
    norm: float = 3.0
    accuracy: float = 0.5


PLAIN = Shape()
NORMED = Shape(relative=1.0, lipschitz=0.5, beta=1.0, largest=10.0, norm=30.0, accuracy=0.6)


def measure(shape: Shape, along: str, step: int, loss: float = LOSS) -> StepSmoothness:
    """Loss and gradient change by the shape's numbers over every unit of distance."""
    beta = shape.relative if along == "relative" else shape.beta
    distances = (0.05, 0.4)
    losses, changes = [loss - shape.lipschitz * d for d in distances], [beta * d for d in distances]
    return made_smoothness(step, along, 0.001, losses, changes, distances, loss)


def measured(shape: Shape, number: int, loss: float = LOSS) -> tuple[StepSmoothness, ...]:
    """The measures of one epoch, one along each direction."""
    ways = ("gradient", "step", "relative")
    return tuple(measure(shape, along, 9 * number + 3 * n, loss) for n, along in enumerate(ways))


def run(role: str, seed: int, shape: Shape, losses: Sequence[float] = (LOSS, LOSS, LOSS)) -> RunRecord:
    """A run with an epoch for each loss of its mini-batches."""
    made = synthetic.run("vgg08", seed, epochs=len(losses))
    more = EACH**seed if "-bn" in role else 1.0
    own = shape._replace(
        **{name: getattr(shape, name) * more for name in ("relative", "lipschitz", "beta", "largest")}
    )
    epochs = tuple(
        dataclasses.replace(
            each,
            train_accuracy=shape.accuracy,
            valid_accuracy=shape.accuracy - 0.1,
            smoothness=measured(own, number, loss),
        )
        for number, (each, loss) in enumerate(zip(made.epochs, losses, strict=True))
    )
    bend = made_curvature((-1.0, own.largest), (0.5, 0.5), own.largest)
    return dataclasses.replace(
        made,
        identity=f"{role}-s{seed}",
        epochs=epochs,
        flow=made_flow(np.full((len(losses), 8), 0.01), weight=np.full((len(losses), 8), shape.norm)),
        curvature={"start": bend, "end": bend},
        landscape=None,
    )


def study(
    shapes: Mapping[str, Shape] | None = None,
    seeds: int = 3,
    replaced: Mapping[str, RunRecord | None] | None = None,
) -> StudyRecord:
    """The whole study; `shapes`: role → other numbers; `replaced`: identity → another record or None."""
    planned = [role_of(name) for name in STARTS]
    planned += [role_of(name, rate) for rate in RATES for name in NETWORKS]
    roles = {
        role.name: dataclasses.replace(role, runs=tuple(f"{role.name}-s{seed}" for seed in range(seeds)))
        for role in planned
    }
    runs: dict[str, RunRecord] = {}
    for role in roles:
        shape = (shapes or {}).get(role, NORMED if "-bn" in role else PLAIN)
        runs |= {made.identity: made for made in (run(role, seed, shape) for seed in range(seeds))}
    for identity, record in (replaced or {}).items():
        if record is None:
            del runs[identity]
        else:
            runs[identity] = record
    asked = {"title": QUESTION, "data": "cifar100", "seeds": list(range(seeds)), "notes": []}
    return StudyRecord("smoothing", "quick", asked, roles, runs)


def diverged(role: str, seed: int) -> RunRecord:
    made = run(role, seed, PLAIN)
    return dataclasses.replace(
        made, state="diverged", status={"epoch": 2, "step": 17}, epochs=made.epochs[:1], test={}, curvature={}
    )
