"""Studies of remedies that were never run: each remedy is given by four numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import synthetic
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.records.smoothness import StepSmoothness
from gradscape.studies.remedies.report import QUESTION
from gradscape.studies.remedies.roles import BASE, REMEDIES, role_of
from made_records import made_curvature, made_flow, made_smoothness

DEPTH = 8  # layers: enough for a slope


class Shape(NamedTuple):
    """What a remedy comes to."""

    accuracy: float  # of validation; of training it is 0.03 higher where the network trains
    gradient: float  # of the first layer, before training and all through it
    beta: float
    likeness: float


SHUFFLED = [int(place) for place in np.random.default_rng(5).permutation(len(REMEDIES))]

# The larger the gradient and the less alike the images, the better; β is noise.
SIGNAL = {
    role: Shape(0.05 + 0.01 * i, 10.0 ** (-12 + 0.25 * i), 10.0 + SHUFFLED[i], 0.95 - 0.02 * i)
    for i, role in enumerate(REMEDIES)
}
# And the other way round.
SMOOTH = {
    role: Shape(0.05 + 0.01 * i, 10.0 ** (-12 + 0.25 * SHUFFLED[i]), 100.0 - i, 0.95 - 0.02 * SHUFFLED[i])
    for i, role in enumerate(REMEDIES)
}
# He restores the gradient and does not train; with BatchNorm it does.
STORY = {
    "plain": Shape(0.01, 1e-18, 200.0, 0.99),
    "he": Shape(0.01, 1e-5, 100.0, 0.98),
    "bn": Shape(0.45, 1e-4, 30.0, 0.30),
    "skip": Shape(0.40, 1e-4, 40.0, 0.50),
    "bn+he": Shape(0.50, 1e-3, 20.0, 0.30),
}
WHOLE = {**SIGNAL, **STORY}

# Role at another rate → accuracy.
RATES = {
    "plain@0.01": 0.01,
    "he@0.01": 0.01,
    "bn@0.01": 0.4,
    "bn@0.0001": 0.4,
    "skip@0.01": 0.01,
    "bn+he@0.01": 0.4,
}


ROLES = {
    role.name: role
    for name in REMEDIES
    for role in (role_of(name, rate) for rate in (BASE, 0.0001, 0.01, 0.05))
}


def layers(first: float) -> tuple[float, ...]:
    """From the first layer's gradient to 0.01, evenly on a logarithmic axis."""
    return tuple(map(float, np.geomspace(first, 0.01, DEPTH)))


def flow(means: Sequence[float]) -> FlowHistory:
    """The same in both epochs."""
    return made_flow([means, means])


def smoothness(step: int, beta: float, along: str = "gradient") -> StepSmoothness:
    """Gradient and loss change by β over every unit of distance."""
    made = synthetic.measure("", along, step, 0, 0.001)
    losses, changes = made.loss - beta * made.line.distances, beta * made.line.distances
    return dataclasses.replace(made, line=dataclasses.replace(made.line, losses=losses, changes=changes))


def trained(role: str, seed: int, shape: Shape) -> RunRecord:
    """A run of two epochs of which nothing is known but its training."""
    trains = shape.accuracy > 0.02
    accuracy = shape.accuracy + (0.001 if trains else 0.0001) * seed
    made = synthetic.run("vgg38-bn", seed, epochs=2)
    epochs = tuple(
        dataclasses.replace(
            each,
            valid_accuracy=accuracy,
            train_accuracy=accuracy + 0.03 * trains,
            smoothness=(),
        )
        for each in made.epochs
    )
    bare: dict[str, Any] = {"curvature": {}, "landscape": None, "start": None}
    return dataclasses.replace(
        made, identity=f"{role}-s{seed}", epochs=epochs, flow=flow(layers(shape.gradient)), **bare
    )


def run(role: str, seed: int, shape: Shape) -> RunRecord:
    """One at the paper's rate, measured in all ways; a landscape has but some, as contours take long."""
    made = trained(role, seed, shape)
    own = 0.002 if "bn" in role else 0.001  # no two roles differ by a constant
    beta, last = (value * (1 + own * seed) for value in (shape.beta, shape.likeness))
    epochs = tuple(
        dataclasses.replace(
            each, smoothness=(smoothness(50 * i, beta), smoothness(50 * i + 25, 9 * beta, "relative"))
        )
        for i, each in enumerate(made.epochs)
    )
    bend = synthetic.curvature("vgg38-bn", 0, 1.0)
    alike = tuple(map(float, np.linspace(0.1, last, DEPTH - 1)))
    return dataclasses.replace(
        made,
        epochs=epochs,
        start=synthetic.start(layers(shape.gradient), (*alike, 0.99)),
        curvature={"start": bend, "end": made_curvature((-1.0, beta), (0.5, 0.5), beta)},
        status={**made.status, "diagnosis": {"verdict": "healthy" if shape.accuracy > 0.02 else "vanishing"}},
        landscape=synthetic.landscape(synthetic.bowl(beta, 17)) if role in ("bn", "bn+he") else None,
    )


def study(
    shapes: Mapping[str, Shape],
    seeds: int = 2,
    replaced: Mapping[str, RunRecord | None] | None = None,
    rates: Mapping[str, float] | None = None,
) -> StudyRecord:
    """Of these remedies; `rates`: as `RATES`; `replaced`: identity → another record, None for no folder."""
    others = {role: Shape(accuracy, 1e-4, 1.0, 0.5) for role, accuracy in (rates or {}).items()}
    roles = {
        role: dataclasses.replace(ROLES[role], runs=tuple(f"{role}-s{seed}" for seed in range(seeds)))
        for role in (*shapes, *others)
    }
    made = [run(role, seed, shape) for role, shape in shapes.items() for seed in range(seeds)]
    made += [trained(role, seed, shape) for role, shape in others.items() for seed in range(seeds)]
    known = {each.identity: each for each in made} | dict(replaced or {})
    asked = {"title": QUESTION, "data": "cifar100", "seeds": list(range(seeds)), "notes": []}
    runs = {identity: each for identity, each in known.items() if each is not None}
    return StudyRecord("remedies", "small", asked, roles, runs)


def nothing_run(found: StudyRecord) -> StudyRecord:
    return dataclasses.replace(found, runs={})


def diverged(made: RunRecord) -> RunRecord:
    """In its second epoch."""
    status = {**made.status, "epoch": 2, "step": 17}
    return dataclasses.replace(made, state="diverged", status=status, epochs=made.epochs[:1], test={})


def filled(made: RunRecord, value: float) -> RunRecord:
    """The run, all of whose measures are this number."""
    same = (value,) * DEPTH
    measure = made_smoothness(0, "gradient", 0.001, (value,) * 2, (value,) * 2, (0.0005, 0.004))
    epochs = tuple(
        dataclasses.replace(each, smoothness=(measure,), train_accuracy=0.0, valid_accuracy=0.0)
        for each in made.epochs
    )
    bend = made_curvature((value, value), (0.5, 0.5), value)
    moments = {"start": bend, "end": bend}
    start = synthetic.start(same, same)
    return dataclasses.replace(
        made, epochs=epochs, flow=flow(same), start=start, curvature=moments, landscape=None
    )
